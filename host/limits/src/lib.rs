//! What each model and each tenant may use: `limits.yaml`, and who is counted where.
//!
//! Contract: a model is counted by its name, with all of its versions, and beside it, where it belongs to one, its tenant with all
//! models of that tenant. Of a call, a load and a package each is admitted in one place of a process, which asks here
//! ([`Limited::admit`], [`Limited::hold`], [`Limits::begin_store`]). What is refused is refused at once, with `RESOURCE_EXHAUSTED`:
//! nobody waits, so that calls that lead to others cannot wait for each other. Cost: without limits a look at an option; with them some
//! atomics a call. Left out on purpose: what one call may take (`[limits]` of `model.toml`), what all models may take together
//! (`--max-in-flight`, `--memory-budget`), and other servers of the same models: each counts by itself.

mod account;
mod bucket;
mod config;
mod member;
mod metrics;
mod stored;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vespid_types::ModelName;

use account::Account;
pub use account::{Limit, LimitReading, Scope};
pub use config::{LimitsConfig, LimitsError, TenantsBy};
pub use member::{HeldMemory, Limited, Origin, Place};
pub use metrics::Metrics;
pub use stored::{Coming, Upload};

/// The limits of a server; none by default. Clones share everything.
#[derive(Clone, Default)]
pub struct Limits(Option<Arc<Inner>>);

struct Inner {
    config: LimitsConfig,
    tenants: BTreeMap<String, Arc<Account>>,
    members: Mutex<Members>,
    limits_stored: bool,
    limits_cpu: bool,
    sizes: stored::Sizes,
}

/// What is said of the tenants of models.
type Labels = HashMap<ModelName, String>;

/// Models that are counted.
#[derive(Default)]
struct Members {
    by_name: BTreeMap<ModelName, Arc<Limited>>,
    labels: Labels,
}

/// What the times of buckets are told from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, in nanoseconds from some beginning.
#[must_use]
pub fn now() -> u64 {
    nanos(EPOCH.elapsed())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Limits {
    /// Those of a file.
    #[must_use]
    pub fn new(config: LimitsConfig) -> Self {
        if !config.any(|quotas| *quotas != config::Quotas::default()) {
            return Self::default();
        }
        let tenant = |rule: &config::TenantRule| {
            (rule.name.clone(), Account::new(Scope::Tenant, &rule.name, rule.quotas))
        };
        Self(Some(Arc::new(Inner {
            tenants: config.tenants.iter().map(tenant).collect(),
            members: Mutex::default(),
            limits_stored: config.any(|quotas| quotas.stored.is_some()),
            limits_cpu: config.any(|quotas| quotas.cpu.is_some()),
            sizes: stored::Sizes::default(),
            config,
        })))
    }

    /// Says of models which tenants they belong to, where that is [not said by patterns](TenantsBy::Labels); the others belong to
    /// none. It takes effect at once.
    pub fn set_tenants(&self, tenants: impl IntoIterator<Item = (ModelName, String)>) {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.config.by == TenantsBy::Labels) else {
            return;
        };
        let labels = tenants.into_iter().collect();
        self.change_labels(inner, |before| std::mem::replace(before, labels) != *before);
    }

    /// As [`Limits::set_tenants`], of one model, until that is called again: who has just made it does not wait to be told.
    pub fn set_tenant(&self, name: &ModelName, tenant: &str) {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.config.by == TenantsBy::Labels) else {
            return;
        };
        self.change_labels(inner, |labels| {
            labels.insert(name.clone(), tenant.to_owned()).as_deref() != Some(tenant)
        });
    }

    /// `change` says whether it has changed anything.
    fn change_labels(&self, inner: &Inner, change: impl FnOnce(&mut Labels) -> bool) {
        let mut members = inner.members();
        if !change(&mut members.labels) {
            return;
        }
        for (name, limited) in &members.by_name {
            limited.set_tenant(inner.tenant(&members, name));
        }
        drop(members);
        self.stored_is_another_s();
    }

    /// The limits of a model; none where there are none.
    pub fn of(&self, name: &ModelName) -> Option<Arc<Limited>> {
        let inner = self.0.as_ref()?;
        let mut members = inner.members();
        if let Some(limited) = members.by_name.get(name) {
            return Some(Arc::clone(limited));
        }
        let (own, tenant) = (inner.config.model(name), inner.tenant(&members, name));
        // One without limits is there where it may get some, or where its time is not to be another model's.
        let is_counted = inner.limits_cpu || inner.config.by == TenantsBy::Labels;
        if own.is_none() && tenant.is_none() && !is_counted {
            return None;
        }
        let now = now();
        // Names that somebody tried to upload, and models that are gone.
        members.by_name.retain(|_, limited| Arc::strong_count(limited) > 1 || !limited.own().is_at_rest(now));
        let own = Account::new(Scope::Model, name.as_str(), own.unwrap_or_default());
        let limited = Arc::new(Limited::new(own, tenant, inner.limits_cpu));
        members.by_name.insert(name.clone(), Arc::clone(&limited));
        Some(limited)
    }

    /// Every limit, of these models and of all tenants.
    pub fn read(&self, models: impl Iterator<Item = Arc<Limited>>) -> Vec<LimitReading> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let now = now();
        let accounts = models.map(|limited| Arc::clone(limited.own())).chain(inner.tenants.values().cloned());
        accounts.flat_map(|account| account.read(now).collect::<Vec<_>>()).collect()
    }

    /// Every account that there is.
    fn all(&self) -> Vec<Arc<Account>> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let members = inner.members();
        let models = members.by_name.values().map(|limited| Arc::clone(limited.own()));
        models.chain(inner.tenants.values().cloned()).collect()
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limits").field(&self.0.as_ref().map(|inner| &inner.config)).finish()
    }
}

impl Inner {
    /// The tenant that a model belongs to, where it has limits.
    fn tenant(&self, members: &Members, name: &ModelName) -> Option<Arc<Account>> {
        let tenant = match self.config.by {
            TenantsBy::Patterns => self.config.tenant(name)?,
            TenantsBy::Labels => members.labels.get(name)?,
        };
        self.tenants.get(tenant).cloned()
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
