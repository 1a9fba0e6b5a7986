//! What came of requests, in numbers.
//!
//! Contract: each number only grows, and the names stay as they are: metrics are made of them. Cost: one addition.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Denied;

/// What is counted besides the reasons of [`Denied`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// Credentials that were good.
    Authenticated,
    /// Requests that the policies permit.
    Permitted,
    /// Files that were read again and could not be used.
    ReloadFailed,
    /// Attempts at a provider's keys that failed.
    ProviderFailed,
    /// Lines of the audit that could not be written.
    AuditLost,
}

const NAMES: [&str; 19] = [
    "authenticated",
    "permitted",
    "reload_failed",
    "provider_failed",
    "audit_lost",
    "missing",
    "malformed",
    "expired",
    "not_yet_valid",
    "wrong_issuer",
    "wrong_audience",
    "unknown_key",
    "bad_signature",
    "algorithm_not_allowed",
    "unknown_api_key",
    "expired_api_key",
    "unknown_certificate",
    "provider_unavailable",
    "forbidden",
];

/// The numbers.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; NAMES.len()]);

impl Counts {
    pub(crate) fn add(&self, count: Count) {
        self.add_name(match count {
            Count::Authenticated => "authenticated",
            Count::Permitted => "permitted",
            Count::ReloadFailed => "reload_failed",
            Count::ProviderFailed => "provider_failed",
            Count::AuditLost => "audit_lost",
        });
    }

    pub(crate) fn denied(&self, denied: &Denied) {
        self.add_name(denied.reason());
    }

    fn add_name(&self, name: &str) {
        if let Some((_, number)) = NAMES.iter().zip(&self.0).find(|(known, _)| **known == name) {
            number.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.all().into_iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| number)
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        NAMES.into_iter().zip(&self.0).map(|(name, number)| (name, number.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_number_of_its_own() {
        let counts = Counts::default();
        let denied = [
            Denied::Missing,
            Denied::Malformed(""),
            Denied::Expired,
            Denied::NotYetValid,
            Denied::WrongIssuer,
            Denied::WrongAudience,
            Denied::UnknownKey,
            Denied::BadSignature,
            Denied::AlgorithmNotAllowed,
            Denied::UnknownApiKey,
            Denied::ExpiredApiKey,
            Denied::UnknownCertificate,
            Denied::ProviderUnavailable,
            Denied::Forbidden(String::new()),
        ];
        denied.iter().for_each(|denied| counts.denied(denied));
        let besides = [
            Count::Authenticated,
            Count::Permitted,
            Count::ReloadFailed,
            Count::ProviderFailed,
            Count::AuditLost,
        ];
        besides.into_iter().for_each(|count| counts.add(count));
        assert!(counts.all().iter().all(|(_, number)| *number == 1), "{:?}", counts.all());
    }
}
