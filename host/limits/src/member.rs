//! A model under its own limits and those of its tenant.
//!
//! Contract: what one of the two refuses is not counted by the other. Where the tenant changes, what is loaded goes with the model,
//! and what is in flight ends where it began. Cost: as two accounts'; a lock for what is loaded, which is rare.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use vespid_types::{ErrorCode, Result, Version};

use super::account::{Account, InFlight};

/// For how long it is remembered how much memory a version takes for which there was none: it is not loaded again to find out.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Where a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, a job or a stream.
    Caller,
    /// A plugin. The call that led to it is counted among its tenant's in flight, and so is this one with it.
    Plugin,
    /// A copy for a shadow version, which nobody waits for. It is not held up, and its processor time counts.
    Copy,
}

/// See the module.
pub struct Limited {
    own: Arc<Account>,
    tenant: ArcSwapOption<Account>,
    /// Whether anybody's processor time is limited.
    is_metered: bool,
    /// Locked while it changes what is loaded, or whose it is.
    refused: Mutex<HashMap<Version, Refused>>,
}

/// A version that there was no memory for.
#[derive(Clone, Copy)]
struct Refused {
    bytes: u64,
    until: u64,
}

/// A call that was admitted, until it is dropped.
pub struct Place {
    _own: Option<InFlight>,
    _tenant: Option<InFlight>,
}

/// What a loaded version takes up, until it is dropped.
pub struct HeldMemory {
    limited: Arc<Limited>,
    bytes: u64,
}

impl Limited {
    pub(super) fn new(own: Arc<Account>, tenant: Option<Arc<Account>>, is_metered: bool) -> Self {
        Self { own, tenant: ArcSwapOption::new(tenant), is_metered, refused: Mutex::default() }
    }

    /// Its own account, and its tenant's.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Arc<Account>> {
        [Some(Arc::clone(&self.own)), self.tenant.load_full()].into_iter().flatten()
    }

    pub(super) fn own(&self) -> &Arc<Account> {
        &self.own
    }

    /// Whether the processor time of its calls is to be measured.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.is_metered
    }

    /// Admits a call.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub fn admit(&self, origin: Origin, now: u64) -> Result<Place> {
        if origin == Origin::Copy {
            return Ok(Place { _own: None, _tenant: None });
        }
        let tenant = self.tenant.load_full();
        self.own.check_cpu(now)?;
        tenant.as_ref().map_or(Ok(()), |tenant| tenant.check_cpu(now))?;
        let among = tenant.as_ref().filter(|_| origin == Origin::Caller);
        let own = self.own.enter()?;
        let place = Place { _own: own, _tenant: among.map_or(Ok(None), Account::enter)? };
        self.take_call(tenant.as_deref(), now)?;
        Ok(place)
    }

    /// Admits a further message of a call that has a place: it counts in `rate`.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub fn admit_further(&self, now: u64) -> Result<()> {
        self.take_call(self.tenant.load().as_deref(), now)
    }

    fn take_call(&self, tenant: Option<&Account>, now: u64) -> Result<()> {
        self.own.take_call(now)?;
        let taken = tenant.map_or(Ok(()), |tenant| tenant.take_call(now));
        taken.inspect_err(|_| self.own.give_back_call())
    }

    /// Sees whether a call could be admitted for which a model has to be loaded first. Nothing is taken: it is admitted later.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub fn check(&self, now: u64) -> Result<()> {
        self.accounts().try_for_each(|account| account.check_cpu(now).and_then(|()| account.check_call(now)))
    }

    /// Counts the processor time of a call that has ended.
    pub fn debit(&self, time: Duration, now: u64) {
        self.own.debit_cpu(now, time);
        if let Some(tenant) = &*self.tenant.load() {
            tenant.debit_cpu(now, time);
        }
    }

    /// Sees whether a version may be loaded, as far as is known before. `needs` is what it took up before, and `replaced` what
    /// goes when it comes.
    ///
    /// # Errors
    /// As [`Limited::hold`].
    pub fn check_load(&self, version: Version, needs: u64, replaced: u64, now: u64) -> Result<()> {
        let known = self.lock().get(&version).copied().filter(|refused| now < refused.until);
        let needs = known.map_or(needs, |refused| refused.bytes);
        let what = Loading { account: &self.own, version };
        self.accounts().try_for_each(|account| account.check_memory(needs, replaced, &what))
    }

    /// Counts what a loaded version takes up.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`; `TOO_LARGE` where it would have no room if it were alone.
    pub fn hold(
        self: &Arc<Self>,
        version: Version,
        bytes: u64,
        replaced: u64,
        now: u64,
    ) -> Result<HeldMemory> {
        let what = Loading { account: &self.own, version };
        let mut refused = self.lock();
        let tenant = self.tenant.load_full();
        let taken = self.own.take_memory(bytes, replaced, &what).and_then(|()| {
            let taken = tenant.map_or(Ok(()), |tenant| tenant.take_memory(bytes, replaced, &what));
            taken.inspect_err(|_| self.own.give_back_memory(bytes))
        });
        match taken {
            Ok(()) => {
                refused.remove(&version);
                Ok(HeldMemory { limited: Arc::clone(self), bytes })
            }
            Err(error) => {
                if error.code() == ErrorCode::ResourceExhausted {
                    let until = now.saturating_add(super::nanos(REMEMBERED));
                    refused.retain(|_, refused| now < refused.until);
                    refused.insert(version, Refused { bytes, until });
                }
                Err(error)
            }
        }
    }

    /// It belongs to this tenant from now on.
    pub(super) fn set_tenant(&self, tenant: Option<Arc<Account>>) {
        let _turn = self.lock();
        let before = self.tenant.load_full();
        if before.as_ref().map(Arc::as_ptr) == tenant.as_ref().map(Arc::as_ptr) {
            return;
        }
        let bytes = self.own.memory();
        if let Some(tenant) = &tenant {
            tenant.adopt_memory(bytes);
        }
        self.tenant.store(tenant);
        if let Some(before) = before {
            before.give_back_memory(bytes);
        }
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<Version, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limited").field(&format_args!("{}", self.own)).finish()
    }
}

impl HeldMemory {
    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        let _turn = self.limited.lock();
        self.limited.accounts().for_each(|account| account.give_back_memory(self.bytes));
    }
}

/// For a text: `model 'x' version 1`.
struct Loading<'a> {
    account: &'a Account,
    version: Version,
}

impl fmt::Display for Loading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.account, self.version)
    }
}

#[cfg(test)]
mod tests;
