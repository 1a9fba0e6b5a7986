//! Who asks, and what they may do.
//!
//! Contract: [`Access`] is made once of [`AccessConfig`] (`access.yaml`). [`Access::authenticate`] says who sent a request's
//! credentials, [`Access::authorize`] whether the policies permit what they would do; both deny where nothing says otherwise, and what
//! a caller is told helps nobody who guesses. [`Access::audit`] writes what came of it. Keys and policies are read again while the
//! process runs; a file that cannot be used changes nothing. Cost: for a token that was seen before a SHA-256 and a look-up, for a
//! decision that was made before another; a signature and a run of the policies otherwise. Left out on purpose: TLS and what a
//! certificate says (the listener hands over a name), rate limits, sessions and logins, opaque tokens (introspection).

mod access;
mod action;
mod asker;
mod audit;
mod config;
mod count;
mod credentials;
mod denied;
mod error;
mod fingerprint;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod metrics;
mod models;
mod oidc;
mod policy;
mod principal;
mod reload;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use action::{Action, Resource};
pub use asker::{Asker, Done};
pub use audit::{Event, Outcome};
pub use config::AccessConfig;
pub use credentials::{CertificateName, Credentials, InvalidCertificateName};
pub use denied::{Denied, www_authenticate};
pub use error::{AccessError, PolicyFault};
pub use keys::{ApiKey, KeyEntry};
pub use metrics::Metrics;
pub use models::ModelFacts;
pub use policy::Explanation;
pub use principal::{Identity, Kind, Principal};
