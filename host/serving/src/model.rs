//! A model that can be called, and how a package becomes one.

mod build;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use vespid_engine::{Call, Callers, Plugin, PluginUsage, Responses};
use vespid_limits::{HeldMemory, Limited};
use vespid_nn::{Graphs, LaneUsage, LoadedGraph};
use vespid_package::{Manifest, Verified, VersionPolicy};
use vespid_types::{
    Deadline, Digest, End, Error, ErrorCode, ModelName, NamedTensor, Parameters, Priority, Request, Response,
    Result, SequenceId, Signature, Spent, Stage, Timeline, Version,
};

use crate::memory::Charge;
use crate::sequences::Sequences;
use crate::stats::{Counters, Statistics};

pub use build::CaseReader;
pub(crate) use build::{CompiledModel, Files, Workshop};

/// A version of a model, compiled, loaded and described.
pub struct ReadyModel {
    name: ModelName,
    version: Version,
    digest: Digest,
    manifest: Manifest,
    /// Where a load said something in place of `model.toml`: which versions it asked for.
    overridden: Option<VersionPolicy>,
    signature: Signature,
    timeout: Duration,
    platform: String,
    /// The names of an output's classes.
    labels: Labels,
    body: Body,
    graphs: Graphs,
    /// Where requests belong to sequences.
    sequences: Option<Arc<Sequences>>,
    counters: Arc<Counters>,
    since: SystemTime,
    /// When it was last asked, in milliseconds since [`EPOCH`].
    used: AtomicU64,
    parts: Parts,
    /// Where it is limited.
    limits: Option<Arc<Limited>>,
    /// What it takes of that.
    held: Option<HeldMemory>,
    /// The package, where it is this one's alone, and its plugin reads files of it.
    package: Option<Box<Verified>>,
}

/// What the uses of models are dated from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What a model has in memory, some of it together with others.
#[derive(Default)]
struct Parts(Vec<Arc<dyn Weighed>>);

/// A thing that is charged for.
trait Weighed: Send + Sync {
    fn bytes(&self) -> u64;
}

/// A thing and its charge, for as long as anyone has it.
struct Part<T> {
    thing: T,
    charge: Charge,
}

impl<T: Send + Sync> Weighed for Part<T> {
    fn bytes(&self) -> u64 {
        self.charge.bytes()
    }
}

type Labels = BTreeMap<String, Vec<String>>;

enum Body {
    Plugin(Plugin),
    Native(LoadedGraph),
}

impl ReadyModel {
    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What its package holds: equal for equal packages, wherever they came from. What a load said in place of `model.toml` is
    /// not in it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// When it became ready.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What runs the model, for its metadata: `vespid_plugin_embedded`, `onnx_onnxruntime_gpu:0` and the like.
    #[must_use]
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// The names of an output's classes, where the package has them.
    #[must_use]
    pub fn labels(&self, output: &str) -> Option<&[String]> {
        self.labels.get(output).map(Vec::as_slice)
    }

    /// What `model.toml` says, and what a load said in its place; where both leave a choice, what was chosen.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where a load said something in place of `model.toml`: which versions it asked for.
    #[must_use]
    pub fn overridden(&self) -> Option<&VersionPolicy> {
        self.overridden.as_ref()
    }

    /// The same, loaded with something in place of `model.toml`.
    pub(crate) fn overridden_by(mut self, versions: VersionPolicy) -> Self {
        self.overridden = Some(versions);
        self
    }

    /// The same, of a package that is in no store: its folder is there as long as this needs it.
    pub(crate) fn out_of(mut self, package: Verified) -> Self {
        self.package = self.manifest.grants.folder.is_some().then(|| Box::new(package));
        self
    }

    /// The same, under limits.
    pub(crate) fn under(mut self, limits: Arc<Limited>, held: HeldMemory) -> Self {
        (self.limits, self.held) = (Some(limits), Some(held));
        self
    }

    /// The limits of its calls.
    pub(crate) fn limits(&self) -> Option<&Arc<Limited>> {
        self.limits.as_ref()
    }

    /// What it takes of its limit of memory.
    pub(crate) fn held_memory(&self) -> u64 {
        self.held.as_ref().map_or(0, HeldMemory::bytes)
    }

    /// What it has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics { memory: Some(self.memory()), ..self.counters.read(self.lanes(), self.plugin_usage()) }
    }

    fn lanes(&self) -> Option<LaneUsage> {
        (!self.graphs.is_empty()).then(|| self.graphs.usage())
    }

    fn plugin_usage(&self) -> Option<PluginUsage> {
        match &self.body {
            Body::Plugin(plugin) => Some(plugin.usage()),
            Body::Native(_) => None,
        }
    }

    /// The bytes of memory that it takes up: code, graphs, and instances that are kept. What it shares with other models
    /// is in it as a whole.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.parts.0.iter().map(|part| part.bytes()).sum::<u64>() + self.idle_memory()
    }

    /// The bytes that would be free without it: what others share is not.
    pub(crate) fn own_memory(&self) -> u64 {
        let own = self.parts.0.iter().filter(|part| Arc::strong_count(part) == 1);
        own.map(|part| part.bytes()).sum::<u64>() + self.idle_memory()
    }

    /// The bytes of instances of its plugin that are kept and idle.
    #[must_use]
    pub fn idle_memory(&self) -> u64 {
        match &self.body {
            Body::Plugin(plugin) => plugin.idle_memory(),
            Body::Native(_) => 0,
        }
    }

    /// What counts its requests, for whoever comes in its place.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The same, counting on where another left off.
    pub(crate) fn counting(mut self, counters: Arc<Counters>) -> Self {
        self.counters = counters;
        self
    }

    /// Notes that it is asked.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    /// When it was last asked: the greater, the later.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it can be dropped and loaded again without anyone noticing but by the time that it takes.
    pub(crate) fn can_be_loaded_again(&self) -> bool {
        self.overridden.is_none() && self.sequences.as_ref().is_none_or(|sequences| sequences.is_empty())
    }

    /// Whether requests belong to sequences.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.sequences.is_some()
    }

    /// Whether what it keeps of a sequence can be saved.
    #[must_use]
    pub fn saves_sequences(&self) -> bool {
        self.sequences.is_some() && matches!(&self.body, Body::Plugin(plugin) if plugin.saves())
    }

    /// What it keeps of an open sequence; none where there is no such sequence. It takes as long as a request may.
    ///
    /// # Errors
    /// As of a request; `INVALID_ARGUMENT` where nothing can be saved.
    pub async fn save_sequence(&self, id: &SequenceId) -> Result<Option<Bytes>> {
        let (sequences, plugin) = self.stateful()?;
        sequences.save(plugin, id, Deadline::after(self.timeout)).await
    }

    /// Opens a sequence that goes on where one was saved: its next request is not its first.
    ///
    /// # Errors
    /// As [`ReadyModel::save_sequence`]; `UNAVAILABLE` where as many are open as may.
    pub async fn restore_sequence(&self, id: &SequenceId, state: &[u8]) -> Result<()> {
        let (sequences, plugin) = self.stateful()?;
        sequences.restore(plugin, id, state, Deadline::after(self.timeout)).await
    }

    /// Ends an open sequence, and gives back what it takes up.
    pub fn close_sequence(&self, id: &SequenceId) {
        if let Some(sequences) = &self.sequences {
            sequences.close(id);
        }
    }

    fn stateful(&self) -> Result<(&Arc<Sequences>, &Plugin)> {
        match (&self.sequences, &self.body) {
            (Some(sequences), Body::Plugin(plugin)) => Ok((sequences, plugin)),
            _ => Err(Error::invalid(format!("model '{}' keeps no sequences", self.name))),
        }
    }

    /// Whether it keeps an open sequence of that id.
    #[must_use]
    pub fn keeps(&self, id: &SequenceId) -> bool {
        self.sequences.as_ref().is_some_and(|sequences| sequences.contains(id))
    }

    /// Counts a request of `rows` rows that has ended.
    pub(crate) fn count(&self, rows: u64, spent: &Spent, end: &End) {
        self.counters.request(rows, spent, end);
    }

    /// Whether a request may have several responses: [`Predictor::predict_stream`](crate::Predictor::predict_stream) has
    /// them one by one.
    #[must_use]
    pub fn is_decoupled(&self) -> bool {
        match &self.body {
            Body::Plugin(plugin) => plugin.streams() && self.sequences.is_none(),
            Body::Native(_) => false,
        }
    }

    /// Checks, runs and checks again. `callers` are the models that led to this call.
    pub(crate) async fn predict(
        &self,
        request: Request,
        callers: Callers,
        timeline: &Arc<Timeline>,
    ) -> Result<Response> {
        let deadline = self.check(&request)?;
        let (id, requested) = (request.id.clone(), request.outputs.clone());
        let (outputs, parameters) = match &self.body {
            Body::Plugin(plugin) => {
                let sequence = request.sequence.clone();
                let call = call(request, deadline, callers, timeline);
                let answer = match (&self.sequences, &sequence) {
                    (Some(sequences), Some(sequence)) => sequences.call(plugin, sequence, call).await?,
                    _ => plugin.call(call).await?,
                };
                (answer.outputs, answer.parameters)
            }
            Body::Native(graph) => {
                let outputs = compute(graph, request.inputs, deadline, request.priority, timeline).await?;
                timeline.enter(Stage::Output);
                (outputs, Parameters::new())
            }
        };
        self.respond(id, &requested, outputs, parameters)
    }

    /// Begins to answer in pieces; the model is [decoupled](Self::is_decoupled).
    pub(crate) async fn stream(
        self: Arc<Self>,
        request: Request,
        timeline: &Arc<Timeline>,
    ) -> Result<Pieces> {
        let deadline = self.check(&request)?;
        let (id, requested) = (request.id.clone(), request.outputs.clone());
        let Body::Plugin(plugin) = &self.body else {
            return Err(Error::internal("a graph has one response"));
        };
        let responses = plugin.stream(call(request, deadline, Callers::default(), timeline)).await?;
        Ok(Pieces { responses: Some(responses), id, requested, deadline, model: self })
    }

    /// Checks a request, and when it must have been answered.
    fn check(&self, request: &Request) -> Result<Deadline> {
        self.signature.check_inputs(&request.inputs).map_err(|error| Error::invalid(error.to_string()))?;
        self.signature
            .check_requested(&request.outputs)
            .map_err(|error| Error::invalid(error.to_string()))?;
        match (&self.sequences, &request.sequence) {
            (Some(_), None) => {
                return Err(Error::invalid(format!(
                    "model '{}' answers sequences of requests: give the parameter sequence_id, a number other than 0 or \
                     a text, and with the first request sequence_start: true",
                    self.name
                )));
            }
            (None, Some(_)) => {
                return Err(Error::invalid(format!(
                    "model '{}' keeps no sequences: leave sequence_id out, or add [sequences] to its model.toml",
                    self.name
                )));
            }
            _ => {}
        }
        let own = Deadline::after(self.timeout);
        let deadline = request.deadline.map_or(own, |theirs| theirs.min(own));
        if deadline.remaining().is_zero() {
            let message = "the deadline passed before the model was asked";
            return Err(Error::new(ErrorCode::DeadlineExceeded, message));
        }
        Ok(deadline)
    }

    fn respond(
        &self,
        id: Option<String>,
        requested: &[String],
        outputs: Vec<NamedTensor>,
        parameters: Parameters,
    ) -> Result<Response> {
        let outputs = self.select(outputs, requested)?;
        Ok(Response { model: self.name.clone(), version: self.version, id, parameters, outputs })
    }

    /// The outputs asked for, in the order asked for, each as the signature says.
    fn select(&self, mut outputs: Vec<NamedTensor>, requested: &[String]) -> Result<Vec<NamedTensor>> {
        let bad = |what: String| Error::new(ErrorCode::PluginFailed, format!("the model's answer: {what}"));
        for (position, NamedTensor { name, .. }) in outputs.iter().enumerate() {
            if self.signature.output(name).is_none() {
                return Err(bad(format!("output '{name}' is not in its signature")));
            }
            if outputs.iter().skip(position + 1).any(|later| later.name == *name) {
                return Err(bad(format!("output '{name}' is given twice")));
            }
        }
        let all = self.signature.outputs.iter().filter(|_| requested.is_empty()).map(|spec| &spec.name);
        requested
            .iter()
            .chain(all)
            .map(|name| {
                let position = outputs
                    .iter()
                    .position(|output| output.name == *name)
                    .ok_or_else(|| bad(format!("output '{name}' is missing")))?;
                let output = outputs.swap_remove(position);
                let spec = self.signature.output(name);
                spec.map_or(Ok(()), |spec| spec.check(&output.tensor))
                    .map_err(|error| bad(format!("output {error}")))?;
                Ok(output)
            })
            .collect()
    }
}

impl Drop for ReadyModel {
    fn drop(&mut self) {
        // The counters may go on without it.
        self.counters.keep(self.lanes(), self.plugin_usage());
    }
}

/// An answer in pieces.
pub(crate) struct Pieces {
    model: Arc<ReadyModel>,
    responses: Option<Responses>,
    id: Option<String>,
    requested: Vec<String>,
    deadline: Deadline,
}

impl Pieces {
    /// When the last of them must have been made.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The next response; none after the last, or after a failure.
    pub(crate) async fn next(&mut self) -> Result<Option<Response>> {
        let (Some(responses), Body::Plugin(plugin)) = (&mut self.responses, &self.model.body) else {
            return Ok(None);
        };
        let Some(answer) = plugin.next(responses).await? else { return Ok(None) };
        let response =
            self.model.respond(self.id.clone(), &self.requested, answer.outputs, answer.parameters);
        if response.is_err() {
            self.responses = None;
        }
        response.map(Some)
    }
}

/// The rows that a request brings: the first dimension of its first input.
pub(crate) fn rows(request: &Request) -> u64 {
    request.inputs.first().and_then(|input| input.tensor.shape().first()).copied().unwrap_or(1)
}

fn call(request: Request, deadline: Deadline, callers: Callers, timeline: &Arc<Timeline>) -> Call {
    let Request { id, parameters, inputs, outputs, priority, sequence, .. } = request;
    let timeline = Arc::clone(timeline);
    Call { id, deadline, priority, callers, inputs, outputs, parameters, sequence, timeline }
}

async fn compute(
    graph: &LoadedGraph,
    inputs: Vec<NamedTensor>,
    deadline: Deadline,
    priority: Priority,
    timeline: &Arc<Timeline>,
) -> Result<Vec<NamedTensor>> {
    let computing = graph.lane.compute(inputs, deadline, priority, timeline);
    match tokio::time::timeout_at(deadline.instant().into(), computing).await {
        Ok(outputs) => Ok(outputs?),
        Err(_) => {
            Err(Error::new(ErrorCode::DeadlineExceeded, "the model did not answer before the deadline"))
        }
    }
}
