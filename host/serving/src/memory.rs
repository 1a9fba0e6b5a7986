//! What loaded models take up, counted against the server's memory budget.
//!
//! Contract: a [`Charge`] counts from when it is made until it is dropped, together with what it is a charge for: what
//! several models share is counted once. What is counted is machine code and what guests' memories begin with, by their
//! real size; graphs, as near as their backend can tell; instances that are kept, by the size of their memories (see
//! [`ReadyModel::idle_memory`](crate::ReadyModel::idle_memory), which is read and not charged, for it changes with each
//! call). Cost: an addition. Left out: what calls use while they run, which `[limits] memory` bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sum of all charges, in bytes. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<AtomicU64>);

impl Ledger {
    /// Counts `bytes` until the charge is dropped.
    pub(crate) fn charge(&self, bytes: u64) -> Charge {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { ledger: self.clone(), bytes }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that are taken up.
pub(crate) struct Charge {
    ledger: Ledger,
    bytes: u64,
}

impl Charge {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
