//! What one model or one tenant may use, and has used.
//!
//! Contract: an account refuses what would be more than it may, and counts it; what it grants is counted until it is given back.
//! What it has no limit for it does not count. Cost: an atomic for each limit; a text where it refuses.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytesize::ByteSize;
use vespid_types::{Error, ErrorCode, Result};

use super::bucket::Bucket;
use super::config::{Cpus, Quotas, Rate};

/// For how long processor time is saved up: what an account may use at once after a rest, in seconds.
const CPU_WINDOW: f64 = 10.0;

/// Seconds in which `uploads` come back.
const UPLOAD_WINDOW: f64 = 3600.0;

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls in flight.
    Concurrent,
    /// Calls a second, in calls of the burst.
    Rate,
    /// Processor time, in seconds of what is saved up.
    Cpu,
    /// What loaded versions take up, in bytes.
    Memory,
    /// Packages in the store, in bytes.
    Stored,
    /// Versions added in an hour.
    Uploads,
}

impl Limit {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Concurrent, Self::Rate, Self::Cpu, Self::Memory, Self::Stored, Self::Uploads];

    /// Its key in `limits.yaml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Concurrent => "concurrent",
            Self::Rate => "rate",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Stored => "stored",
            Self::Uploads => "uploads",
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A model's.
    Model,
    /// A tenant's.
    Tenant,
}

impl Scope {
    /// As metrics label it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tenant => "tenant",
        }
    }
}

/// A limit at one moment. What its unit is, [`Limit`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitReading {
    /// Whose it is.
    pub scope: Scope,
    /// The model or the tenant.
    pub name: String,
    /// What is limited.
    pub limit: Limit,
    /// How much is used; of processor time more than there is where there is a debt.
    pub used: f64,
    /// How much there is.
    pub value: f64,
    /// What was refused.
    pub refused: u64,
}

/// See the module.
pub(crate) struct Account {
    scope: Scope,
    name: String,
    quotas: Quotas,
    in_flight: AtomicU32,
    calls: Option<Bucket>,
    cpu: Option<Bucket>,
    uploads: Option<Bucket>,
    memory: AtomicU64,
    /// As the store was last seen.
    stored: AtomicU64,
    /// Packages that are on their way into it.
    coming: AtomicU64,
    refused: [AtomicU64; Limit::ALL.len()],
}

/// A call in flight.
pub(super) struct InFlight(Arc<Account>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Account {
    pub(super) fn new(scope: Scope, name: &str, quotas: Quotas) -> Arc<Self> {
        let calls = |Rate { per_second, burst }| Bucket::new(f64::from(burst.get()), per_second);
        let uploads = |number: std::num::NonZero<u32>| {
            let number = f64::from(number.get());
            Bucket::new(number, number / UPLOAD_WINDOW)
        };
        Arc::new(Self {
            scope,
            name: name.to_owned(),
            quotas,
            in_flight: AtomicU32::new(0),
            calls: quotas.rate.map(calls),
            cpu: quotas.cpu.map(|Cpus(cpus)| Bucket::new(cpus * CPU_WINDOW, cpus)),
            uploads: quotas.uploads.map(uploads),
            memory: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            coming: AtomicU64::new(0),
            refused: Default::default(),
        })
    }

    pub(super) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Counts a call, until it is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Option<InFlight>> {
        let Some(most) = self.quotas.concurrent else { return Ok(None) };
        let one_more = |calls: u32| calls.checked_add(1).filter(|calls| *calls <= most.get());
        match self.in_flight.fetch_update(Relaxed, Relaxed, one_more) {
            Ok(_) => Ok(Some(InFlight(Arc::clone(self)))),
            Err(_) => Err(self.exhausted(Limit::Concurrent, format_args!("{most} concurrent calls"), None)),
        }
    }

    /// Takes one of the calls of this second.
    pub(super) fn take_call(&self, now: u64) -> Result<()> {
        self.calls.as_ref().map_or(Ok(()), |calls| calls.take(now)).map_err(|wait| self.too_often(wait))
    }

    /// Sees whether one is left.
    pub(super) fn check_call(&self, now: u64) -> Result<()> {
        self.calls.as_ref().map_or(Ok(()), |calls| calls.check_one(now)).map_err(|wait| self.too_often(wait))
    }

    fn too_often(&self, wait: Duration) -> Error {
        let text = self
            .quotas
            .rate
            .map(|Rate { per_second, burst }| format!("{per_second} calls a second ({burst} at once)"));
        self.exhausted(Limit::Rate, format_args!("{}", text.unwrap_or_default()), Some(wait))
    }

    pub(super) fn give_back_call(&self) {
        if let Some(calls) = &self.calls {
            calls.give_back();
        }
    }

    /// Sees whether processor time is left.
    pub(super) fn check_cpu(&self, now: u64) -> Result<()> {
        let (Some(cpu), Some(Cpus(cpus))) = (&self.cpu, self.quotas.cpu) else { return Ok(()) };
        cpu.check(now).map_err(|wait| self.exhausted(Limit::Cpu, format_args!("{cpus} CPUs"), Some(wait)))
    }

    pub(super) fn debit_cpu(&self, now: u64, time: Duration) {
        if let Some(cpu) = &self.cpu {
            cpu.debit(now, time.as_secs_f64());
        }
    }

    /// Takes one of the uploads of this hour.
    pub(super) fn take_upload(&self, now: u64) -> Result<()> {
        let (Some(uploads), Some(number)) = (&self.uploads, self.quotas.uploads) else { return Ok(()) };
        let limit = format_args!("{number} uploads an hour");
        uploads.take(now).map_err(|wait| self.exhausted(Limit::Uploads, limit, Some(wait)))
    }

    pub(super) fn give_back_upload(&self) {
        if let Some(uploads) = &self.uploads {
            uploads.give_back();
        }
    }

    /// Counts what a version takes up, in the place of what another does that goes.
    pub(super) fn take_memory(&self, bytes: u64, replaced: u64, what: &dyn fmt::Display) -> Result<()> {
        let taken = |used: u64| {
            let after = used.saturating_add(bytes);
            let most = self.quotas.memory.map_or(u64::MAX, |most| most.as_u64());
            (after.saturating_sub(replaced) <= most).then_some(after)
        };
        while self.memory.fetch_update(Relaxed, Relaxed, taken).is_err() {
            // Unless another one has gone in between.
            self.check_memory(bytes, replaced, what)?;
        }
        Ok(())
    }

    /// Sees whether a version that takes up so much has room.
    pub(super) fn check_memory(&self, bytes: u64, replaced: u64, what: &dyn fmt::Display) -> Result<()> {
        let Some(most) = self.quotas.memory else { return Ok(()) };
        let used = self.memory.load(Relaxed).saturating_sub(replaced);
        self.check_bytes(Limit::Memory, most, (used, bytes), what)
    }

    pub(super) fn give_back_memory(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Relaxed);
    }

    /// Takes over what is loaded, whether there is room for it or not.
    pub(super) fn adopt_memory(&self, bytes: u64) {
        self.memory.fetch_add(bytes, Relaxed);
    }

    /// What loaded versions take up.
    pub(super) fn memory(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    /// Sees whether a package has room in the store.
    pub(super) fn check_stored(&self, bytes: u64, what: &dyn fmt::Display) -> Result<()> {
        let Some(most) = self.quotas.stored else { return Ok(()) };
        let used = self.stored.load(Relaxed).saturating_add(self.coming.load(Relaxed));
        self.check_bytes(Limit::Stored, most, (used, bytes), what)
    }

    pub(super) fn set_stored(&self, bytes: u64) {
        self.stored.store(bytes, Relaxed);
    }

    pub(super) fn add_coming(&self, bytes: u64) {
        self.coming.fetch_add(bytes, Relaxed);
    }

    pub(super) fn take_coming(&self, bytes: u64) {
        self.coming.fetch_sub(bytes, Relaxed);
    }

    fn check_bytes(
        &self,
        limit: Limit,
        most: ByteSize,
        (used, bytes): (u64, u64),
        what: &dyn fmt::Display,
    ) -> Result<()> {
        let needs = ByteSize(bytes);
        let of = if limit == Limit::Memory { "memory" } else { "packages" };
        if needs > most {
            self.count_refusal(limit);
            let message = format!("{what} takes {needs} of {of}, and the limit of {self} is {most}");
            return Err(Error::new(ErrorCode::TooLarge, message));
        }
        if used.saturating_add(bytes) <= most.as_u64() {
            return Ok(());
        }
        let used = ByteSize(used);
        let limit_text = format_args!("{most} of {of}: {used} are taken, and {what} takes {needs}");
        Err(self.exhausted(limit, limit_text, None))
    }

    fn exhausted(&self, limit: Limit, text: fmt::Arguments<'_>, wait: Option<Duration>) -> Error {
        self.count_refusal(limit);
        Error::exhausted(format!("{self} is at its limit of {text}; try again later"), wait)
    }

    fn count_refusal(&self, limit: Limit) {
        if let Some(count) = self.refused.get(limit as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Whether nothing would be otherwise with a new one in its place.
    pub(super) fn is_at_rest(&self, now: u64) -> bool {
        let buckets = [&self.calls, &self.cpu, &self.uploads];
        buckets.into_iter().flatten().all(|bucket| bucket.used(now) <= 0.0)
            && self.memory.load(Relaxed) == 0
            && self.stored.load(Relaxed) == 0
            && self.coming.load(Relaxed) == 0
    }

    /// All of its limits.
    pub(super) fn read(&self, now: u64) -> impl Iterator<Item = LimitReading> {
        Limit::ALL.into_iter().zip(&self.refused).filter_map(move |(limit, refused)| {
            let (used, value) = self.read_one(limit, now)?;
            let (scope, name, refused) = (self.scope, self.name.clone(), refused.load(Relaxed));
            Some(LimitReading { scope, name, limit, used, value, refused })
        })
    }

    fn read_one(&self, limit: Limit, now: u64) -> Option<(f64, f64)> {
        let Quotas { concurrent, rate, cpu, memory, stored, uploads } = self.quotas;
        let used = |bucket: &Option<Bucket>| bucket.as_ref().map_or(0.0, |bucket| bucket.used(now));
        Some(match limit {
            Limit::Concurrent => (f64::from(self.in_flight.load(Relaxed)), f64::from(concurrent?.get())),
            Limit::Rate => (used(&self.calls), f64::from(rate?.burst.get())),
            Limit::Cpu => (used(&self.cpu), cpu?.0 * CPU_WINDOW),
            Limit::Memory => (self.memory() as f64, memory?.as_u64() as f64),
            Limit::Stored => (self.stored.load(Relaxed) as f64, stored?.as_u64() as f64),
            Limit::Uploads => (used(&self.uploads), f64::from(uploads?.get())),
        })
    }
}

/// For a text: `model 'x'`.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.scope.as_str(), self.name)
    }
}

#[cfg(test)]
mod tests;
