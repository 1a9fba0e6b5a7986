//! Which requests are traced.
//!
//! Contract: a model follows the settings of the server but for those that it has of its own; what is cleared follows again,
//! and of the server's own what it was started with. A caller whose own trace is sampled is traced whatever rate and count
//! say, and one whose trace is not is not; of the others the first of each `rate` requests is, as long as `count` lasts.
//! Cost: one relaxed load a request while nothing is traced, else a read lock and an addition. Left out on purpose: how the
//! settings are written (`ingress`).

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use vespid_types::ModelName;

/// What is told of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceLevel {
    /// Nothing.
    #[default]
    Off,
    /// When it came to each stage.
    Timestamps,
}

/// Which requests are traced, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// What is told.
    pub level: TraceLevel,
    /// One request in so many is traced.
    pub rate: NonZero<u32>,
    /// How many more are; without an end where there is none.
    pub count: Option<u64>,
}

/// One request in so many is traced where nothing else is said, as Triton has it.
pub const DEFAULT_TRACE_RATE: NonZero<u32> = match NonZero::new(1000) {
    Some(rate) => rate,
    None => NonZero::<u32>::MIN,
};

impl Default for TraceSettings {
    fn default() -> Self {
        Self { level: TraceLevel::Off, rate: DEFAULT_TRACE_RATE, count: None }
    }
}

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is again what it is where nobody sets it.
    Clear,
    /// It is this.
    Set(T),
}

impl<T: Copy> Change<T> {
    pub(crate) fn apply(self, own: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *own = None,
            Self::Set(value) => *own = Some(value),
        }
    }
}

/// A change of [`TraceSettings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceChange {
    /// What is told.
    pub level: Change<TraceLevel>,
    /// One request in so many.
    pub rate: Change<NonZero<u32>>,
    /// How many more.
    pub count: Change<Option<u64>>,
}

/// What somebody has set.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    level: Option<TraceLevel>,
    rate: Option<NonZero<u32>>,
    count: Option<Option<u64>>,
}

impl Own {
    fn change(mut self, change: TraceChange) -> Self {
        change.level.apply(&mut self.level);
        change.rate.apply(&mut self.rate);
        change.count.apply(&mut self.count);
        self
    }

    fn over(self, base: TraceSettings) -> TraceSettings {
        TraceSettings {
            level: self.level.unwrap_or(base.level),
            rate: self.rate.unwrap_or(base.rate),
            count: self.count.unwrap_or(base.count),
        }
    }
}

/// Settings, and how far they are used up.
struct Sampler {
    settings: TraceSettings,
    seen: AtomicU64,
    left: Option<AtomicU64>,
}

impl Sampler {
    fn new(settings: TraceSettings) -> Self {
        Self { settings, seen: AtomicU64::new(0), left: settings.count.map(AtomicU64::new) }
    }

    fn now(&self) -> TraceSettings {
        let count = self.left.as_ref().map(|left| left.load(Ordering::Relaxed));
        TraceSettings { count, ..self.settings }
    }

    fn on(&self) -> bool {
        self.settings.level != TraceLevel::Off
    }

    fn takes(&self, parent: Option<bool>) -> bool {
        if !self.on() {
            return false;
        }
        if let Some(sampled) = parent {
            return sampled;
        }
        let turn =
            self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(u64::from(self.settings.rate.get()));
        let one_less = |left: u64| left.checked_sub(1);
        turn && self
            .left
            .as_ref()
            .is_none_or(|left| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok())
    }
}

pub(crate) struct Sampling {
    /// Whether any request may be traced.
    on: AtomicBool,
    table: RwLock<Table>,
}

struct Table {
    start: TraceSettings,
    own: Own,
    server: Arc<Sampler>,
    /// Models that have something of their own.
    models: BTreeMap<ModelName, (Own, Arc<Sampler>)>,
}

impl Sampling {
    pub(crate) fn new(start: TraceSettings) -> Self {
        let server = Arc::new(Sampler::new(start));
        let on = AtomicBool::new(server.on());
        Self { on, table: RwLock::new(Table { start, own: Own::default(), server, models: BTreeMap::new() }) }
    }

    /// Whether a request of a model is traced; `parent` says whether its caller's trace is sampled, where it has one.
    pub(crate) fn takes(&self, model: &ModelName, parent: Option<bool>) -> bool {
        // Nothing else is guarded by it: a request that comes with a change may be taken before or after it.
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        self.sampler(Some(model)).takes(parent)
    }

    /// The settings of a model, or of the server.
    pub(crate) fn settings(&self, model: Option<&ModelName>) -> TraceSettings {
        self.sampler(model).now()
    }

    fn sampler(&self, model: Option<&ModelName>) -> Arc<Sampler> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let own = model.and_then(|model| table.models.get(model));
        Arc::clone(own.map_or(&table.server, |(_, sampler)| sampler))
    }

    /// Changes the settings of a model, or of the server.
    pub(crate) fn change(&self, model: Option<&ModelName>, change: TraceChange) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.change(model, change);
        let on = table.server.on() || table.models.values().any(|(_, sampler)| sampler.on());
        self.on.store(on, Ordering::Relaxed);
    }
}

impl Table {
    fn change(&mut self, model: Option<&ModelName>, change: TraceChange) {
        let Some(name) = model else {
            self.own = self.own.change(change);
            self.server = renewed(&self.server, self.own.over(self.start), change.count);
            let base = self.server.settings;
            for (own, sampler) in self.models.values_mut() {
                // A count of the model's own goes on.
                let count = if own.count.is_some() { Change::Keep } else { change.count };
                *sampler = renewed(sampler, own.over(base), count);
            }
            return;
        };
        let base = self.server.settings;
        let (own, before) =
            self.models.get(name).map_or((Own::default(), &self.server), |(own, sampler)| (*own, sampler));
        let own = own.change(change);
        if own == Own::default() {
            self.models.remove(name);
            return;
        }
        let sampler = renewed(before, own.over(base), change.count);
        self.models.insert(name.clone(), (own, sampler));
    }
}

/// A sampler with these settings. What is left of the one before it goes on where the count is not changed.
fn renewed(before: &Sampler, settings: TraceSettings, count: Change<Option<u64>>) -> Arc<Sampler> {
    let count = if count == Change::Keep { before.now().count } else { settings.count };
    Arc::new(Sampler::new(TraceSettings { count, ..settings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> ModelName {
        name.parse().unwrap()
    }

    fn rate(rate: u32) -> NonZero<u32> {
        NonZero::new(rate).unwrap()
    }

    const ON: TraceChange =
        TraceChange { level: Change::Set(TraceLevel::Timestamps), rate: Change::Keep, count: Change::Keep };

    fn taken(sampling: &Sampling, name: &str, requests: usize) -> usize {
        (0..requests).filter(|_| sampling.takes(&model(name), None)).count()
    }

    #[test]
    fn one_in_so_many_is_taken_and_no_more_than_are_left() {
        let sampling = Sampling::new(TraceSettings::default());
        assert_eq!(taken(&sampling, "a", 2000), 0, "nothing is, by default");
        sampling.change(None, ON);
        assert_eq!(taken(&sampling, "a", 2000), 2);
        let change = TraceChange {
            rate: Change::Set(rate(10)),
            count: Change::Set(Some(3)),
            ..TraceChange::default()
        };
        sampling.change(None, change);
        assert_eq!(taken(&sampling, "a", 15), 2);
        assert_eq!(sampling.settings(None).count, Some(1));
        // Another setting does not start the count anew.
        sampling.change(None, TraceChange { rate: Change::Set(rate(1)), ..TraceChange::default() });
        assert_eq!(taken(&sampling, "a", 15), 1);
        assert_eq!(sampling.settings(None).count, Some(0));
        sampling.change(None, TraceChange { count: Change::Clear, ..TraceChange::default() });
        assert_eq!(taken(&sampling, "a", 15), 15);
    }

    #[test]
    fn the_caller_s_own_trace_decides() {
        let sampling = Sampling::new(TraceSettings::default());
        assert!(!sampling.takes(&model("a"), Some(true)), "off is off");
        sampling.change(None, TraceChange { count: Change::Set(Some(0)), ..ON });
        assert!(sampling.takes(&model("a"), Some(true)));
        assert!(!sampling.takes(&model("a"), Some(false)));
        assert!(!sampling.takes(&model("a"), None));
    }

    #[test]
    fn a_model_follows_the_server_but_for_what_it_has_of_its_own() {
        let sampling = Sampling::new(TraceSettings::default());
        let own = TraceChange { rate: Change::Set(rate(1)), ..ON };
        sampling.change(Some(&model("a")), own);
        assert_eq!((taken(&sampling, "a", 5), taken(&sampling, "b", 5)), (5, 0));
        let server =
            TraceChange { rate: Change::Set(rate(5)), count: Change::Set(Some(7)), ..TraceChange::default() };
        sampling.change(None, server);
        let settings = sampling.settings(Some(&model("a")));
        assert_eq!((settings.rate, settings.count), (rate(1), Some(7)));
        assert_eq!(sampling.settings(Some(&model("b"))), sampling.settings(None));
        let clear = TraceChange { level: Change::Clear, rate: Change::Clear, count: Change::Clear };
        sampling.change(Some(&model("a")), clear);
        assert_eq!(taken(&sampling, "a", 5), 0);
        assert_eq!(sampling.settings(Some(&model("a"))), sampling.settings(None));
        sampling.change(None, clear);
        assert_eq!(sampling.settings(None), TraceSettings::default());
    }
}
