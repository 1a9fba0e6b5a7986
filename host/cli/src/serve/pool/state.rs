//! How a pod gets from what it serves to what it is to serve.
//!
//! Contract: pure; the time is told. [`State::adopt`] is told what is wanted, [`State::ended`] what came of the work, and
//! [`State::look`] what the server's index says; each answers with what is to be done now, and [`State::next`] with the work that
//! may begin. Requests are led to new versions, and old ones go, only when the new ones have been loaded or have been found not to
//! load. What may pass is tried again, after growing pauses; what is wrong for good when the model changes, or after [`SLOWLY`].
//! Cost: a look at each version of each model. Left out on purpose: doing any of it (`work`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use vespid_package::Traffic;
use vespid_serving as serving;
use vespid_types::{Digest, ModelName, Version};

use super::plan::{Plan, Wanted};

/// Versions that are loaded before they are asked, at once: those that are asked have to have room beside them.
const AT_ONCE: usize = 4;

/// When what is wrong for good is tried again all the same.
const SLOWLY: Duration = Duration::from_secs(300);

/// Tries after which a version is not waited for any more, where others can do without it.
const PATIENCE: u32 = 4;

/// A version of a model.
pub(super) type Key = (ModelName, Version);

/// What is to be done at once. It does not take long.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Make it known: it is loaded when it is asked.
    List(ModelName, Vec<Version>),
    /// Lead requests that name no version so.
    Lead(ModelName, Traffic),
    /// Take it out of service, and remove its package.
    Remove(ModelName, Vec<Version>),
}

/// What may take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Load it.
    Load,
    /// Load it anew, where it is loaded: its package, or what it may reach, is another.
    Renew,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done.
    Done,
    /// It was not, and may be later.
    Passing(String),
    /// It cannot be done.
    Definite(String),
}

/// What this pod does about each model.
pub(super) struct State {
    models: BTreeMap<ModelName, Kept>,
    pauses: ExponentialBuilder,
}

/// A model.
struct Kept {
    wanted: Wanted,
    /// How its requests are led; none before they were.
    led: Option<Traffic>,
    versions: BTreeMap<Version, Held>,
    /// Versions that nobody wants any more, and that go when others are there in their place.
    leaving: BTreeSet<Version>,
}

/// A version.
#[derive(Default)]
pub(super) struct Held {
    phase: Phase,
    /// Whether it is to be loaded anew when what is being done has ended.
    again: bool,
    tries: u32,
    pauses: Option<ExponentialBackoff>,
    /// What came of the last try, where that was nothing.
    why: Option<String>,
    /// Whether it has been in memory.
    was_loaded: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    /// Nothing is to be done.
    #[default]
    Rest,
    Due(Work),
    Working(Work),
    Waiting(Work, Instant),
    /// It does not load. Until when that stays so.
    Failed(Instant),
}

impl Held {
    fn due(work: Work) -> Self {
        Self { phase: Phase::Due(work), ..Self::default() }
    }

    /// What there is to do is to be done, from the beginning.
    fn ask(&mut self, work: Work) {
        match self.phase {
            Phase::Working(_) => self.again |= work == Work::Renew,
            Phase::Due(Work::Renew) => {}
            _ => self.phase = Phase::Due(work),
        }
        (self.tries, self.pauses) = (0, None);
    }

    /// Whether others wait for it.
    fn is_pending(&self) -> bool {
        match self.phase {
            Phase::Rest | Phase::Failed(_) => false,
            Phase::Due(_) | Phase::Working(_) | Phase::Waiting(..) => self.tries < PATIENCE,
        }
    }

    /// Whether something is done about it.
    pub(super) fn is_at_work(&self) -> bool {
        !matches!(self.phase, Phase::Rest | Phase::Failed(_))
    }

    /// What came of the last try, where that was nothing.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Whether it has been in memory.
    pub(super) fn was_loaded(&self) -> bool {
        self.was_loaded
    }

    /// Whether it has been found not to load.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed(_))
    }
}

impl Default for State {
    fn default() -> Self {
        let pauses = ExponentialBuilder::default().with_jitter().without_max_times();
        Self::with(pauses.with_min_delay(Duration::from_secs(1)).with_max_delay(Duration::from_secs(60)))
    }
}

impl State {
    fn with(pauses: ExponentialBuilder) -> Self {
        Self { models: BTreeMap::new(), pauses }
    }

    /// Takes up what is wanted now. `has` says which package the store holds of a version, where that is known.
    pub(super) fn adopt(&mut self, plan: Plan, has: impl Fn(&Key) -> Option<Digest>) -> Vec<Step> {
        let mut steps = Vec::new();
        let gone: Vec<_> = self.models.extract_if(.., |name, _| !plan.contains_key(name)).collect();
        for (name, Kept { versions, leaving, .. }) in gone {
            steps.push(Step::Remove(name, versions.into_keys().chain(leaving).collect()));
        }
        for (name, wanted) in plan {
            match self.models.get_mut(&name) {
                Some(kept) => kept.change(&name, wanted, &has, &mut steps),
                None => {
                    let kept = Kept::new(wanted);
                    steps.push(Step::List(name.clone(), kept.versions.keys().copied().collect()));
                    self.models.insert(name.clone(), kept);
                }
            }
            self.settle(&name, &mut steps);
        }
        steps
    }

    /// Takes up what came of work.
    pub(super) fn ended(&mut self, key: &Key, outcome: Outcome, now: Instant) -> Vec<Step> {
        let (name, version) = key;
        let mut steps = Vec::new();
        let Some(kept) = self.models.get_mut(name) else { return steps };
        let Some(held) = kept.versions.get_mut(version) else { return steps };
        let Phase::Working(work) = held.phase else { return steps };
        if outcome == Outcome::Done {
            (held.why, held.tries, held.pauses) = (None, 0, None);
        }
        held.phase = match outcome {
            _ if std::mem::take(&mut held.again) => Phase::Due(Work::Renew),
            // One that was not loaded was only listed.
            Outcome::Done if work == Work::Renew && kept.wanted.eager => Phase::Due(Work::Load),
            Outcome::Done => Phase::Rest,
            Outcome::Passing(why) => {
                held.tries += 1;
                held.why = Some(why);
                let pause = held.pauses.get_or_insert_with(|| self.pauses.build()).next().unwrap_or(SLOWLY);
                // Where it is not to be loaded before it is asked, whoever asks tries again.
                if kept.wanted.eager { Phase::Waiting(work, now + pause) } else { Phase::Rest }
            }
            Outcome::Definite(why) => {
                held.why = Some(why);
                Phase::Failed(now + SLOWLY)
            }
        };
        self.settle(name, &mut steps);
        steps
    }

    /// Takes up what the server's index says: versions that others had loaded, and those that did not load for them.
    pub(super) fn look(&mut self, index: &[serving::IndexEntry], now: Instant) {
        for entry in index {
            let held = self.models.get_mut(&entry.name);
            let Some(held) = held.and_then(|kept| kept.versions.get_mut(&entry.version)) else { continue };
            match entry.state {
                serving::State::Ready => held.was_loaded = true,
                serving::State::Unavailable if held.phase == Phase::Rest => {
                    held.phase = Phase::Failed(now + SLOWLY);
                    held.why = Some(entry.reason.clone());
                }
                _ => {}
            }
        }
    }

    /// The work that may begin, and what is to be done before: it counts as begun.
    pub(super) fn next(&mut self, now: Instant) -> (Vec<Step>, Vec<(Key, Work)>) {
        let (mut steps, mut begun) = (Vec::new(), Vec::new());
        let working = |held: &&Held| matches!(held.phase, Phase::Working(_));
        let mut room = AT_ONCE.saturating_sub(self.held().map(|(_, held)| held).filter(working).count());
        for (name, kept) in &mut self.models {
            for (version, held) in &mut kept.versions {
                match held.phase {
                    Phase::Waiting(work, until) if until <= now => held.phase = Phase::Due(work),
                    Phase::Failed(until) if until <= now => {
                        steps.push(Step::List(name.clone(), vec![*version]));
                        held.phase = if kept.wanted.eager { Phase::Due(Work::Load) } else { Phase::Rest };
                    }
                    _ => {}
                }
                if let Phase::Due(work) = held.phase
                    && room > 0
                {
                    room -= 1;
                    held.phase = Phase::Working(work);
                    begun.push(((name.clone(), *version), work));
                }
            }
        }
        (steps, begun)
    }

    /// Whether all that is to be loaded before it is asked has been, or was found not to load, or not for now.
    pub(super) fn is_settled(&self) -> bool {
        self.held().all(|(_, held)| !held.is_pending())
    }

    /// Each version that is wanted.
    pub(super) fn held(&self) -> impl Iterator<Item = (Key, &Held)> {
        self.models.iter().flat_map(|(name, kept)| {
            kept.versions.iter().map(move |(version, held)| ((name.clone(), *version), held))
        })
    }

    /// Leads requests as is wanted, and lets go of what is not, where nothing that comes in its place is still awaited.
    fn settle(&mut self, name: &ModelName, steps: &mut Vec<Step>) {
        let Some(kept) = self.models.get_mut(name) else { return };
        let traffic = &kept.wanted.traffic;
        let awaited = |version: Version| kept.versions.get(&version).is_some_and(Held::is_pending);
        if kept.led.is_some() && traffic.named().any(awaited) {
            return;
        }
        if kept.led.as_ref() != Some(traffic) {
            kept.led = Some(traffic.clone());
            steps.push(Step::Lead(name.clone(), traffic.clone()));
        }
        if !kept.leaving.is_empty() {
            steps.push(Step::Remove(name.clone(), std::mem::take(&mut kept.leaving).into_iter().collect()));
        }
    }
}

impl Kept {
    fn new(wanted: Wanted) -> Self {
        let held = || if wanted.eager { Held::due(Work::Load) } else { Held::default() };
        let versions = wanted.versions.keys().map(|version| (*version, held())).collect();
        Self { wanted, led: None, versions, leaving: BTreeSet::new() }
    }

    fn change(
        &mut self,
        name: &ModelName,
        wanted: Wanted,
        has: &impl Fn(&Key) -> Option<Digest>,
        steps: &mut Vec<Step>,
    ) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let Wanted { versions, eager, grants, generation, .. } = &self.wanted;
        let gone = self.versions.extract_if(.., |version, _| !versions.contains_key(version));
        self.leaving.extend(gone.map(|(version, _)| version));
        let mut listed = Vec::new();
        for (version, source) in versions {
            let key = (name.clone(), *version);
            let has_another = || has(&key).zip(source.digest).is_some_and(|(has, wanted)| has != wanted);
            let was = before.versions.get(version);
            let Some(held) = self.versions.get_mut(version) else {
                // One that comes back before it went may come from elsewhere.
                let came_back = self.leaving.remove(version);
                let work = if came_back { Some(Work::Renew) } else { eager.then_some(Work::Load) };
                self.versions.insert(*version, work.map(Held::due).unwrap_or_default());
                listed.push(*version);
                continue;
            };
            let is_another = was.is_some_and(|was| {
                was.package != source.package || (was.digest != source.digest && has_another())
            });
            if is_another || before.grants != *grants {
                held.ask(Work::Renew);
            } else if held.has_failed() && before.generation != *generation {
                listed.push(*version);
                held.phase = Phase::Rest;
                if *eager {
                    held.ask(Work::Load);
                }
            } else if *eager && !before.eager && held.phase == Phase::Rest {
                held.ask(Work::Load);
            } else if !eager
                && before.eager
                && matches!(held.phase, Phase::Due(Work::Load) | Phase::Waiting(..))
            {
                held.phase = Phase::Rest;
            }
        }
        if !listed.is_empty() {
            steps.push(Step::List(name.clone(), listed));
        }
    }
}

#[cfg(test)]
mod tests;
