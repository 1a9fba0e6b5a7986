//! Addresses of loopback, one for each who needs the same ports as another.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, UdpSocket};

/// Nothing else uses it: a socket on it says that the address is taken.
const CLAIM: u16 = 20_999;

/// An address of 127.0.0.0/8 that no other test has, as long as this value is there.
pub(super) struct Address {
    ip: Ipv4Addr,
    /// Closed by the system when the test is killed.
    _claim: UdpSocket,
}

impl Address {
    pub(super) fn claim() -> Self {
        loop {
            let [second, third, fourth, ..] = RandomState::new().hash_one(CLAIM).to_le_bytes();
            // Not 127.0.0.0/16, where everything else on the machine listens, and no host number that ends in 0 or 255.
            let ip = Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254));
            if let Ok(claim) = UdpSocket::bind((ip, CLAIM)) {
                return Self { ip, _claim: claim };
            }
        }
    }

    pub(super) fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}
