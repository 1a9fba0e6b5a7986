//! Tokens of OpenID providers.
//!
//! Contract: a token is believed where the provider that it names is configured, has a key by the name in the token, and signed it in a
//! way that is allowed and goes with that key; where it is for us, and its time is now. What it says of itself before that decides
//! nothing but whose keys are looked at. Cost: for a token that was believed before a SHA-256 and a look-up; a signature otherwise.
//! What was believed is asked anew where the provider's keys have changed.

mod claims;
mod fetch;
pub(crate) mod fuzzing;
mod keyset;
mod provider;
mod timing;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use jsonwebtoken::crypto::{CryptoProvider, aws_lc};
use quick_cache::sync::Cache;

pub(crate) use self::provider::Provider;
pub(crate) use self::timing::Timing;
use self::token::Unverified;
use crate::config::ProviderConfig;
use crate::count::Counts;
use crate::fingerprint::{self, Fingerprint};
use crate::{AccessError, Denied, Principal};

/// Longer tokens are not read. Servers take no longer headers as a rule.
const LONGEST: usize = 16 * 1024;

/// Tokens that are remembered.
const REMEMBERED: usize = 10_000;

/// The providers, and the tokens that were believed.
pub(crate) struct Oidc {
    providers: Vec<Arc<Provider>>,
    believed: Cache<Fingerprint, Believed>,
}

#[derive(Clone)]
struct Believed {
    principal: Principal,
    provider: usize,
    /// Of the keys.
    generation: u64,
}

impl Oidc {
    pub(crate) fn new(
        configs: Vec<ProviderConfig>,
        timing: Timing,
        counts: &Arc<Counts>,
    ) -> Result<Self, AccessError> {
        // Which of two it is must be said, should another crate bring the second. That one was named before is no matter.
        let _ = CryptoProvider::install_default(&aws_lc::DEFAULT_PROVIDER);
        let provider = |config| Provider::new(config, timing, Arc::clone(counts)).map(Arc::new);
        let providers = configs.into_iter().map(provider).collect::<Result<_, _>>()?;
        Ok(Self { providers, believed: Cache::new(REMEMBERED) })
    }

    /// Each is to run for as long as tokens are asked about.
    pub(crate) fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// Whose token it is.
    pub(crate) async fn principal(&self, token: &str) -> Result<Principal, Denied> {
        if token.len() > LONGEST {
            return Err(Denied::Malformed("a token has 16 KiB at most"));
        }
        let fingerprint = fingerprint::of(token.as_bytes());
        if let Some(principal) = self.remembered(&fingerprint) {
            return Ok(principal);
        }
        let unverified = Unverified::read(token)?;
        let mut providers = self.providers.iter().enumerate();
        let (at, provider) = providers
            .find(|(_, provider)| provider.config().issuer == unverified.issuer)
            .ok_or(Denied::WrongIssuer)?;
        let algorithm = unverified.algorithm(provider.config())?;
        let found = provider.key(&unverified.key_id, algorithm).await?;
        let principal = token::verify(token, &found.key, algorithm, provider.config())?;
        if principal.expires().is_some() {
            let (principal, generation) = (principal.clone(), found.generation);
            self.believed.insert(fingerprint, Believed { principal, provider: at, generation });
        }
        Ok(principal)
    }

    fn remembered(&self, fingerprint: &Fingerprint) -> Option<Principal> {
        let believed = self.believed.get(fingerprint)?;
        let generation = self.providers.get(believed.provider)?.generation()?;
        let is_current = believed.principal.is_current(SystemTime::now()).is_ok();
        (is_current && generation == believed.generation).then_some(believed.principal)
    }

    #[cfg(test)]
    pub(crate) fn is_remembered(&self, token: &str) -> bool {
        self.remembered(&fingerprint::of(token.as_bytes())).is_some()
    }
}
