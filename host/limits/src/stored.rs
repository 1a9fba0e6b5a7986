//! Versions on their way into the store: how many in an hour, and how many bytes there may be.
//!
//! Contract: an upload is counted when it begins, and not where nothing came of it. What is stored is what the store says, whoever
//! put it there; of packages that come at once each counts for the next. Where two packages have a file in common, each counts it.
//! Cost: where `stored` is limited, a listing of the store for each package that comes or goes, and a record read of each that is new.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use vespid_package::{Stamp, Store};
use vespid_types::{ModelName, Result, Version};

use super::account::Account;
use super::{Limits, TenantsBy, now};

/// The bytes of each version that was seen in the store, for as long as it does not change.
pub(super) type Sizes = Mutex<Seen>;

type Seen = HashMap<(ModelName, Version), (Stamp, u64)>;

/// An upload that has begun. Where it is dropped before it is [done](Upload::done), it is not counted.
pub struct Upload {
    accounts: Vec<Arc<Account>>,
    is_done: bool,
}

/// Bytes on their way into the store, until it is dropped.
#[derive(Default)]
pub struct Coming {
    accounts: Vec<Arc<Account>>,
    bytes: u64,
}

impl Limits {
    /// Counts a version that is to be added. `tenant` is whose its model is, or will be, where that is not said by patterns.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub fn begin_upload(&self, name: &ModelName, tenant: Option<&str>) -> Result<Upload> {
        // What is there already is given back where a further account refuses.
        let mut upload = Upload { accounts: Vec::new(), is_done: false };
        for account in self.accounts(name, tenant) {
            account.take_upload(now())?;
            upload.accounts.push(account);
        }
        Ok(upload)
    }

    /// Sees whether there is room for a package of so many bytes, and keeps it until what this gives is handed to
    /// [`Limits::stored`], or dropped. `tenant` is as of [`Limits::begin_upload`].
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, `TOO_LARGE` where there would be none if it were alone, or what the store says.
    pub async fn begin_store(
        &self,
        store: &Store,
        (name, tenant): (&ModelName, Option<&str>),
        bytes: u64,
    ) -> Result<Coming> {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.limits_stored) else {
            return Ok(Coming::default());
        };
        // Held until it is kept, so that of two that come at once the second sees the first.
        let mut sizes = inner.sizes.lock().await;
        self.look(store, &mut sizes).await?;
        let accounts = self.accounts(name, tenant);
        let what = format!("the package of model '{name}'");
        accounts.iter().try_for_each(|account| account.check_stored(bytes, &what))?;
        accounts.iter().for_each(|account| account.add_coming(bytes));
        Ok(Coming { accounts, bytes })
    }

    /// Looks at the store again: a package has come, or gone.
    pub async fn stored(&self, store: &Store, coming: Coming) {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.limits_stored) else { return };
        let mut sizes = inner.sizes.lock().await;
        // Not before nobody is between looking and keeping: who saw the store without the package has to see this.
        drop(coming);
        if let Err(error) = self.look(store, &mut sizes).await {
            tracing::warn!("the store cannot be listed, so that its metrics are old: {error}");
        }
    }

    /// Who is counted for what comes of a model.
    fn accounts(&self, name: &ModelName, tenant: Option<&str>) -> Vec<Arc<Account>> {
        let (Some(inner), Some(limited)) = (&self.0, self.of(name)) else { return Vec::new() };
        match inner.config.by {
            TenantsBy::Patterns => limited.accounts().collect(),
            TenantsBy::Labels => {
                let tenant = tenant.and_then(|tenant| inner.tenants.get(tenant));
                std::iter::once(limited.own()).chain(tenant).cloned().collect()
            }
        }
    }

    /// Counts what is stored again: models have changed their tenants.
    pub(super) fn stored_is_another_s(&self) {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.limits_stored) else { return };
        // Who has it now counts when it has looked.
        if let Ok(sizes) = inner.sizes.try_lock() {
            self.recount(&sizes);
        }
    }

    async fn look(&self, store: &Store, sizes: &mut Seen) -> Result<()> {
        // Where labels say whose a model is, it may become somebody's who is limited.
        let all = self.0.as_ref().is_some_and(|inner| inner.config.by == TenantsBy::Labels);
        let mut seen = Seen::new();
        for listed in store.list().await? {
            let key = (listed.name, listed.version);
            if all || !self.stored_accounts(&key.0).is_empty() {
                let size = match sizes.remove(&key) {
                    Some((stamp, size)) if stamp == listed.stamp => size,
                    _ => size(store, &key).await,
                };
                seen.insert(key, (listed.stamp, size));
            }
        }
        *sizes = seen;
        self.recount(sizes);
        Ok(())
    }

    fn recount(&self, sizes: &Seen) {
        let mut sums: HashMap<*const Account, (Arc<Account>, u64)> =
            self.all().into_iter().map(|account| (Arc::as_ptr(&account), (account, 0))).collect();
        for ((name, _), (_, size)) in sizes {
            for account in self.stored_accounts(name) {
                sums.entry(Arc::as_ptr(&account)).or_insert((account, 0)).1 += size;
            }
        }
        sums.into_values().for_each(|(account, bytes)| account.set_stored(bytes));
    }

    /// Those who have a limit of what they store.
    fn stored_accounts(&self, name: &ModelName) -> Vec<Arc<Account>> {
        let accounts = self.of(name).into_iter().flat_map(|limited| limited.accounts().collect::<Vec<_>>());
        accounts.filter(|account| account.quotas().stored.is_some()).collect()
    }
}

/// What cannot be read takes nothing that anybody could be told of; the index says what is wrong with it.
async fn size(store: &Store, (name, version): &(ModelName, Version)) -> u64 {
    store.size(name, *version).await.unwrap_or_else(|error| {
        tracing::debug!(model = %name, %version, "it is not counted: {error}");
        0
    })
}

impl Upload {
    /// The version has been added.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_done {
            self.accounts.iter().for_each(|account| account.give_back_upload());
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.accounts.iter().for_each(|account| account.take_coming(self.bytes));
    }
}
