//! Where the time of one request goes.
//!
//! Contract: a request is at one [`Stage`] at a time, and says so when it comes to the next; what it has spent at each is
//! therefore never more, all together, than the time since it began. This holds for a request that fails, or whose future
//! is dropped, as for one that is answered. A recorded timeline keeps each stay at a stage besides, for a trace, and
//! those of the requests that it led to. Cost: a reading of the clock and an uncontended lock a stage, and one allocation a
//! request. Left out on purpose: how a trace is written, and who wants it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{ErrorCode, ModelName, Version};

/// What is done for a request at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// What it brings is made into what the model takes: decoding, making an instance, joining a batch.
    Input,
    /// It waits: in the lane of a graph, or for an instance.
    Queue,
    /// The plugin runs.
    Guest,
    /// A graph runs.
    Compute,
    /// What came out is made into an answer: splitting a batch, checking the outputs, encoding.
    Output,
    /// Nothing: it is handed from thread to thread, or its caller is to take what is there.
    Between,
}

/// How many stages there are.
const STAGES: usize = 6;

impl Stage {
    const fn index(self) -> usize {
        match self {
            Self::Input => 0,
            Self::Queue => 1,
            Self::Guest => 2,
            Self::Compute => 3,
            Self::Output => 4,
            Self::Between => 5,
        }
    }
}

/// The run of a graph that a request had a part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphRun {
    /// The graph's name.
    pub graph: Arc<str>,
    /// Rows of the run, those of other requests among them.
    pub rows: u64,
}

/// A stay at a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The stage.
    pub stage: Stage,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The run, of [`Stage::Compute`].
    pub run: Option<GraphRun>,
}

/// What a recorded request went through.
#[derive(Clone, Debug)]
pub struct Record {
    /// The model that was asked.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
    /// The caller's id for the request.
    pub id: Option<String>,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// How it ended.
    pub end: End,
    /// Its stays, in order.
    pub stays: Vec<Stay>,
    /// The requests to other models that it led to.
    pub peers: Vec<Record>,
    /// Stays and peers that were too many to keep.
    pub dropped: u64,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Answered,
    /// It failed.
    Failed {
        /// The kind of failure.
        code: ErrorCode,
        /// What the caller was told.
        message: String,
    },
    /// Its caller left.
    Left,
}

/// What a request has spent at each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    total: Duration,
    stages: [Duration; STAGES],
    graph_cpu: Duration,
}

impl Spent {
    /// Since it began.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// At one stage.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Duration {
        self.stages.get(stage.index()).copied().unwrap_or_default()
    }

    /// Processor time of the graphs that ran for it, as near as is known: see [`Timeline::compute_at`].
    #[must_use]
    pub fn graph_cpu(&self) -> Duration {
        self.graph_cpu
    }

    /// A request that began at once, for tests and for what is made up.
    #[must_use]
    pub fn of(total: Duration, stages: &[(Stage, Duration)]) -> Self {
        let mut spent = Self { total, ..Self::default() };
        for (stage, time) in stages {
            if let Some(sum) = spent.stages.get_mut(stage.index()) {
                *sum += *time;
            }
        }
        spent
    }
}

/// Who gets the record of a request.
pub type Sink = Box<dyn FnOnce(Record) + Send>;

/// Stays of a request that are kept, and requests that it led to: a plugin may compute as often as it has time for.
const MAX_KEPT: usize = 128;

/// Characters of a caller's id that are kept: it stands in each line of the log.
const MAX_ID: usize = 256;

/// One request's way.
pub struct Timeline {
    tag: Tag,
    /// The caller's id, once it is known.
    id: OnceLock<String>,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    since: Instant,
    /// The run that goes on.
    run: Option<GraphRun>,
    /// How many processors it has of that.
    cpus: f64,
    stages: [Duration; STAGES],
    graph_cpu: Duration,
    kept: Option<Kept>,
}

struct Kept {
    stays: Vec<Stay>,
    peers: Vec<Record>,
    dropped: u64,
    sink: Option<Sink>,
}

/// What names a request in the log where its caller's id for it does not: the id of its trace, or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(TagKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TagKind {
    Number(u128),
    Text(Box<str>),
}

impl Tag {
    /// The id of a trace.
    #[must_use]
    pub const fn of_trace(id: u128) -> Self {
        Self(TagKind::Number(id))
    }

    /// Any text.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self(TagKind::Text(text.into()))
    }

    /// One that no other request of this process has, nor most likely one of another.
    fn new() -> Self {
        static START: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let start = START.get_or_init(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_nanos()).unwrap_or_default()
        });
        Self::of_trace(u128::from(*start) << 64 | u128::from(COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TagKind::Number(id) => write!(f, "{id:032x}"),
            TagKind::Text(text) => f.write_str(text),
        }
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::start(Tag::new(), None)
    }
}

impl Timeline {
    /// A timeline whose record goes to `sink`, for the trace with the id `tag`.
    #[must_use]
    pub fn recorded(tag: Tag, sink: Sink) -> Self {
        Self::start(tag, Some(Kept { stays: Vec::new(), peers: Vec::new(), dropped: 0, sink: Some(sink) }))
    }

    /// A timeline of which no record is kept, for a request that is part of the trace with the id `tag`.
    #[must_use]
    pub fn tagged(tag: Tag) -> Self {
        Self::start(tag, None)
    }

    fn start(tag: Tag, kept: Option<Kept>) -> Self {
        let began = Instant::now();
        let state = State {
            stage: Stage::Input,
            since: began,
            run: None,
            cpus: 0.0,
            stages: [Duration::ZERO; STAGES],
            graph_cpu: Duration::ZERO,
            kept,
        };
        Self { tag, id: OnceLock::new(), began, state: Mutex::new(state) }
    }

    /// A timeline for a request that this one leads to. Its record becomes part of this one's.
    #[must_use]
    pub fn child(self: &Arc<Self>) -> Self {
        let recorded = self.lock().kept.is_some();
        let parent = Arc::clone(self);
        let sink: Sink = Box::new(move |record| parent.adopt(record));
        let kept =
            recorded.then(|| Kept { stays: Vec::new(), peers: Vec::new(), dropped: 0, sink: Some(sink) });
        let child = Self::start(self.tag.clone(), kept);
        if let Some(id) = self.id.get() {
            child.set_id(id);
        }
        child
    }

    fn adopt(&self, record: Record) {
        if let Some(kept) = &mut self.lock().kept {
            if kept.peers.len() < MAX_KEPT {
                kept.peers.push(record);
            } else {
                kept.dropped += 1;
            }
        }
    }

    /// Takes note of the caller's id.
    pub fn set_id(&self, id: &str) {
        let end = id.char_indices().nth(MAX_ID).map_or(id.len(), |(end, _)| end);
        // Whoever said one first has named it.
        let _ = self.id.set(id.get(..end).unwrap_or_default().to_owned());
    }

    /// What names the request in the log: its caller's id, else its tag.
    pub fn name(&self) -> impl fmt::Display + '_ {
        std::fmt::from_fn(|f| match self.id.get() {
            Some(id) => f.write_str(id),
            None => fmt::Display::fmt(&self.tag, f),
        })
    }

    /// The request comes to a stage now.
    pub fn enter(&self, stage: Stage) {
        self.enter_at(stage, Instant::now());
    }

    /// The request comes to a stage at a moment that was measured for several.
    pub fn enter_at(&self, stage: Stage, now: Instant) {
        self.lock().enter(stage, now, None);
    }

    /// A run of a graph begins, with so many rows. `cpus` is this request's part of the processors that the run may use, for
    /// [`Spent::graph_cpu`].
    pub fn compute_at(&self, graph: &Arc<str>, rows: u64, cpus: f64, now: Instant) {
        let mut state = self.lock();
        let run = state.kept.is_some().then(|| GraphRun { graph: Arc::clone(graph), rows });
        state.enter(Stage::Compute, now, run);
        state.cpus = cpus;
    }

    /// Ends the request: what it has spent, of which the record is handed on, where one was kept.
    pub fn end(&self, model: &ModelName, version: Version, end: &End) -> Spent {
        let (spent, kept) = {
            let mut state = self.lock();
            let now = Instant::now();
            state.enter(Stage::Between, now, None);
            let total = now.saturating_duration_since(self.began);
            (Spent { total, stages: state.stages, graph_cpu: state.graph_cpu }, state.kept.take())
        };
        if let Some(Kept { stays, peers, dropped, sink: Some(sink) }) = kept {
            sink(Record {
                model: model.clone(),
                version,
                id: self.id.get().cloned(),
                began: self.began,
                ended: self.began + spent.total,
                end: end.clone(),
                stays,
                peers,
                dropped,
            });
        }
        spent
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, stage: Stage, now: Instant, run: Option<GraphRun>) {
        // A moment that was measured before another thread's, and comes after it, adds nothing.
        let now = now.max(self.since);
        if let Some(sum) = self.stages.get_mut(self.stage.index()) {
            *sum += now - self.since;
        }
        if self.stage == Stage::Compute {
            let spent = (now - self.since).as_secs_f64() * self.cpus;
            self.graph_cpu += Duration::try_from_secs_f64(spent).unwrap_or_default();
        }
        let ended = self.run.take();
        if let Some(kept) = &mut self.kept {
            kept.push(Stay { stage: self.stage, began: self.since, ended: now, run: ended });
        }
        (self.stage, self.since, self.run) = (stage, now, run);
    }
}

impl Kept {
    fn push(&mut self, stay: Stay) {
        if stay.began == stay.ended {
            return;
        }
        if self.stays.len() < MAX_KEPT {
            self.stays.push(stay);
        } else {
            self.dropped += 1;
        }
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").field("tag", &self.tag).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (ModelName, Version) {
        ("iris".parse().unwrap(), "1".parse().unwrap())
    }

    fn recorded() -> (Arc<Timeline>, Arc<Mutex<Option<Record>>>) {
        let record = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&record);
        let sink: Sink = Box::new(move |record| *kept.lock().unwrap() = Some(record));
        (Arc::new(Timeline::recorded(Tag::of_trace(7), sink)), record)
    }

    fn after(timeline: &Timeline, nanos: u64) -> Instant {
        timeline.began + Duration::from_nanos(nanos)
    }

    #[test]
    fn the_stages_are_never_more_than_the_whole() {
        let (timeline, record) = recorded();
        let graph: Arc<str> = "classifier".into();
        timeline.enter_at(Stage::Queue, after(&timeline, 10));
        timeline.compute_at(&graph, 3, 0.5, after(&timeline, 30));
        // A moment before the last one, measured by another thread.
        timeline.enter_at(Stage::Guest, after(&timeline, 25));
        timeline.enter_at(Stage::Output, after(&timeline, 70));
        timeline.set_id("mine");
        let (model, version) = names();
        let spent = timeline.end(&model, version, &End::Answered);
        let at = |stage| u64::try_from(spent.at(stage).as_nanos()).unwrap();
        assert_eq!([at(Stage::Input), at(Stage::Queue), at(Stage::Compute)], [10, 20, 0]);
        assert_eq!(at(Stage::Guest), 40);
        let sum: Duration = spent.stages.iter().sum();
        assert_eq!(sum, spent.total());

        let record = record.lock().unwrap().take().unwrap();
        assert_eq!((record.id.as_deref(), record.end), (Some("mine"), End::Answered));
        let stays: Vec<Stage> = record.stays.iter().map(|stay| stay.stage).collect();
        assert_eq!(
            stays,
            [Stage::Input, Stage::Queue, Stage::Guest, Stage::Output],
            "what took no time is none"
        );
        assert_eq!(timeline.name().to_string(), "mine");
    }

    #[test]
    fn of_a_graph_s_processors_a_request_has_its_part() {
        let timeline = Timeline::default();
        timeline.compute_at(&"classifier".into(), 8, 0.5, after(&timeline, 1_000));
        timeline.enter_at(Stage::Guest, after(&timeline, 5_000));
        let (model, version) = names();
        let spent = timeline.end(&model, version, &End::Answered);
        assert_eq!(spent.graph_cpu(), Duration::from_nanos(2_000));
    }

    #[test]
    fn a_run_is_told_of_where_a_record_is_kept() {
        let (timeline, record) = recorded();
        let graph: Arc<str> = "classifier".into();
        timeline.compute_at(&graph, 3, 0.5, after(&timeline, 30));
        let (model, version) = names();
        let child = timeline.child();
        assert_eq!(child.name().to_string(), format!("{:032x}", 7));
        child.end(&model, version, &End::Left);
        timeline.end(&model, version, &End::Answered);
        let record = record.lock().unwrap().take().unwrap();
        assert_eq!(record.stays[1].run, Some(GraphRun { graph, rows: 3 }));
        assert_eq!(record.peers[0].end, End::Left);
        // Without one nothing is kept, of the requests that it leads to neither.
        let plain = Arc::new(Timeline::default());
        assert!(plain.child().lock().kept.is_none());
        assert_ne!(plain.tag, Timeline::default().tag);
    }

    #[test]
    fn a_long_record_is_cut() {
        let (timeline, record) = recorded();
        for nanos in 1..=1000 {
            timeline.enter_at(Stage::Guest, after(&timeline, nanos));
        }
        let (model, version) = names();
        let spent = timeline.end(&model, version, &End::Answered);
        assert!(spent.at(Stage::Guest) >= Duration::from_nanos(999));
        let record = record.lock().unwrap().take().unwrap();
        assert_eq!(record.stays.len(), MAX_KEPT);
        assert!(record.dropped >= 1000 - MAX_KEPT as u64);
    }
}
