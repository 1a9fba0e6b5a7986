//! Who asks, what they may, and what came of it, in one place.
//!
//! Contract: a clone shares everything. What it runs in the background ends with the last clone, or with [`Access::close`]. A caller
//! asks [`Access::authorize`] before it looks for a model: what is denied is denied in the same words whether there is one or not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::audit::{Audit, Event};
use crate::config::AccessConfig;
use crate::count::{Count, Counts};
use crate::credentials::Credentials;
use crate::models::{self, ModelFacts};
use crate::oidc::{Oidc, Timing};
use crate::reload::Files;
use crate::{AccessError, Action, CertificateName, Denied, Explanation, Kind, Principal, Resource, keys};

/// Who asks, and what they may do. A clone shares everything.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    config: AccessConfig,
    oidc: Oidc,
    files: Arc<Files>,
    audit: Option<Audit>,
    counts: Arc<Counts>,
    anonymous: Principal,
    /// They end with it.
    background: Mutex<JoinSet<()>>,
}

impl Access {
    /// Reads keys and policies, and begins to ask the providers. One that is down keeps nothing from starting.
    ///
    /// # Errors
    /// [`AccessError`] where a file cannot be used, or where there is no runtime of tokio.
    pub fn start(config: AccessConfig) -> Result<Self, AccessError> {
        Self::start_with(config, Timing::default())
    }

    pub(crate) fn start_with(mut config: AccessConfig, timing: Timing) -> Result<Self, AccessError> {
        let runtime = Handle::try_current().map_err(|error| AccessError::Internal(error.to_string()))?;
        let counts: Arc<Counts> = Arc::default();
        let files = Files::open(config.policies.clone(), config.api_keys.clone(), Arc::clone(&counts))?;
        let files = Arc::new(files);
        let oidc = Oidc::new(std::mem::take(&mut config.providers), timing, &counts)?;
        let audit = config.audit.take().map(|target| Audit::open(target, Arc::clone(&counts))).transpose()?;
        let mut background = JoinSet::new();
        background.spawn_on(Arc::clone(&files).run(timing.files), &runtime);
        for provider in oidc.providers() {
            background.spawn_on(Arc::clone(provider).run(), &runtime);
        }
        let (background, anonymous) = (Mutex::new(background), Principal::anonymous());
        Ok(Self(Arc::new(Inner { config, oidc, files, audit, counts, anonymous, background })))
    }

    /// Who sent these credentials. A certificate counts where there is neither a token nor a key.
    ///
    /// # Errors
    /// [`Denied`], where that is not known.
    pub async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Principal, Denied> {
        let found = self.find(credentials).await;
        match &found {
            Ok(_) => self.0.counts.add(Count::Authenticated),
            Err(denied) => self.0.counts.denied(denied),
        }
        found
    }

    async fn find(&self, credentials: Credentials<'_>) -> Result<Principal, Denied> {
        match credentials {
            Credentials { authorization: Some(_), api_key: Some(_), .. } => {
                Err(Denied::Malformed("send Authorization or x-api-key, and not both"))
            }
            Credentials { authorization: Some(authorization), .. } => {
                let bearer = bearer(authorization).ok_or(Denied::Malformed("use Authorization: Bearer"))?;
                match keys::is_key(bearer) {
                    true => self.key(bearer),
                    false => self.0.oidc.principal(bearer).await,
                }
            }
            Credentials { api_key: Some(key), .. } => self.key(key),
            Credentials { certificate: Some(certificate), .. } => self.certificate(certificate),
            _ if self.0.config.anonymous => Ok(self.0.anonymous.clone()),
            _ => Err(Denied::Missing),
        }
    }

    fn key(&self, key: &str) -> Result<Principal, Denied> {
        let keys = self.0.files.keys.as_ref().ok_or(Denied::UnknownApiKey)?;
        keys.get().find(key, SystemTime::now())
    }

    fn certificate(&self, certificate: &CertificateName) -> Result<Principal, Denied> {
        self.0.config.certificates.get(certificate.as_str()).cloned().ok_or(Denied::UnknownCertificate)
    }

    /// Whether the policies permit this.
    ///
    /// # Errors
    /// [`Denied::Forbidden`], where they do not.
    pub fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource<'_>,
    ) -> Result<(), Denied> {
        // Somebody may be known for longer than what they showed is good: a stream goes on.
        let permitted = principal.is_current(SystemTime::now()).and_then(|()| {
            let permits = self.0.files.policies.get().permit(principal, action, resource);
            permits.then_some(()).ok_or_else(|| resource.denied(action))
        });
        match &permitted {
            Ok(()) => self.0.counts.add(Count::Permitted),
            Err(denied) => self.0.counts.denied(denied),
        }
        permitted
    }

    /// Whether the policies permit this, and which of them say so. It is neither counted nor remembered.
    #[must_use]
    pub fn explain(&self, principal: &Principal, action: Action, resource: &Resource<'_>) -> Explanation {
        self.0.files.policies.get().explain(principal, action, resource)
    }

    /// What `models` in `access.yaml` says of a model, for hosts without a cluster.
    #[must_use]
    pub fn model_of(&self, name: &str) -> ModelFacts<'_> {
        models::facts(&self.0.config.models, name)
    }

    /// Who has the API key or the certificate of that name, or is anonymous where that is allowed. Whose token somebody may have
    /// stands in no file.
    #[must_use]
    pub fn known(&self, kind: Kind, name: &str) -> Option<Principal> {
        match kind {
            Kind::ApiKey => self.0.files.keys.as_ref()?.get().named(name),
            Kind::Certificate => self.0.config.certificates.get(name).cloned(),
            Kind::Anonymous => self.0.config.anonymous.then(|| self.0.anonymous.clone()),
            Kind::Oidc => None,
        }
    }

    /// Writes a line of the audit, where there is one; waits while the disk does not keep up. A line is lost where the caller does not
    /// wait: who may go away in between does it in a task.
    pub async fn audit(&self, event: Event<'_>) {
        if let Some(audit) = &self.0.audit {
            audit.write(&event).await;
        }
    }

    /// What came of requests so far, by reasons: those of [`Denied::reason`], and `authenticated`, `permitted`, `reload_failed`,
    /// `provider_failed` and `audit_lost`.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.counts.all()
    }

    /// How often a file was read again and could not be used.
    #[must_use]
    pub fn reload_failures(&self) -> u64 {
        self.0.counts.of("reload_failed")
    }

    /// How many policies are in force.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.0.files.policies.get().len()
    }

    /// Ends what runs in the background, and comes back when the audit is on the disk.
    pub async fn close(&self) {
        self.0.background.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        if let Some(audit) = &self.0.audit {
            audit.flush().await;
        }
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> (&Oidc, &Files) {
        (&self.0.oidc, &self.0.files)
    }
}

/// What stands behind `Bearer`, in whatever letters (RFC 7235).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_what_stands_behind_the_word() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bEARER   abc "), Some("abc"));
        for none in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(bearer(none), None, "{none}");
        }
    }
}
