//! A model that can be called, and how a package becomes one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vespid_engine::{
    Assets, Call, Callers, Engine, EngineError, Grants, Peers, Plugin, PluginContext, PoolOptions, Responses,
};
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions, LoadedGraph};
use vespid_package::{
    Batching, Granted, GraphManifest, Manifest, PackagePath, Permissions, Verified, VersionPolicy,
};
use vespid_types::{
    Deadline, Device, End, Error, ErrorCode, ModelName, NamedTensor, Parameters, Priority, Request, Response,
    Result, Signature, Spent, Stage, Timeline, Version,
};

use crate::sequences::Sequences;
use crate::stats::{Counters, Statistics};

/// How long a plugin may take to describe itself, whatever its own limit.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// A version of a model, compiled, loaded and described.
pub struct ReadyModel {
    name: ModelName,
    version: Version,
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
    counters: Counters,
    since: SystemTime,
    /// The package, where it is this one's alone, and its plugin reads files of it.
    package: Option<Box<Verified>>,
}

type Labels = BTreeMap<String, Vec<String>>;

enum Body {
    Plugin(Plugin),
    Native(LoadedGraph),
}

/// A package whose code is compiled and whose graphs are loaded, not yet described: the step before [`ReadyModel`].
pub(crate) struct CompiledModel {
    manifest: Manifest,
    platform: String,
    labels: Labels,
    body: Body,
    graphs: Graphs,
}

impl CompiledModel {
    /// Compiles the plugin and loads the graphs of the package in `dir`. Blocks.
    pub(crate) fn build(
        engine: &Engine,
        backends: &Backends,
        mut manifest: Manifest,
        dir: &Path,
        permissions: &Permissions,
        peers: Arc<dyn Peers>,
    ) -> Result<Self> {
        let granted = permissions.grant(&manifest)?;
        let sources = manifest.graphs.iter().map(|graph| graph_source(graph, dir)).collect::<Result<_>>()?;
        let graphs = Graphs::load(backends, sources)?;
        let first = manifest.graphs.first().and_then(|graph| graphs.get(&graph.name).ok()).cloned();
        let (body, platform) = match (&manifest.plugin, graphs.single()) {
            (Some(file), _) => {
                let code = read(&dir.join(file))?;
                let context = PluginContext {
                    model: manifest.name.clone(),
                    version: manifest.version,
                    written: Signature { inputs: manifest.inputs.clone(), outputs: manifest.outputs.clone() },
                    graphs: graphs.clone(),
                    config: manifest.config.clone(),
                    memory_limit: manifest.limits.memory,
                    instances: PoolOptions {
                        warm: manifest.instances.warm,
                        max_calls: manifest.instances.max_calls,
                    },
                    snapshot: manifest.instances.snapshot.then_some(DESCRIBE_TIMEOUT),
                    grants: grants(granted, dir)?,
                    peers: Some(peers),
                };
                let plugin = Plugin::compile(engine, &code, context)?;
                if manifest.sequences.is_some() && !plugin.can_be_held() {
                    let reason = "[sequences]: a command runs once and keeps nothing: leave it out, or write a component";
                    return Err(Error::invalid(reason));
                }
                let platform = first
                    .map_or("vespid_plugin".to_owned(), |graph| format!("vespid_plugin_{}", runner(&graph)));
                (Body::Plugin(plugin), platform)
            }
            (None, Some(graph)) => {
                let encoding = manifest.graphs.first().map_or("", |graph| graph.encoding.as_str());
                (Body::Native(graph.clone()), format!("{encoding}_{}", runner(graph)))
            }
            (None, None) => return Err(Error::internal("a package without plugin has not one graph")),
        };
        for graph in &mut manifest.graphs {
            fill_in(graph, &graphs)?;
        }
        let labels = read_labels(&manifest, dir)?;
        Ok(Self { manifest, platform, labels, body, graphs })
    }

    /// Finds out the signature, which runs a plugin for the first time.
    pub(crate) async fn describe(self) -> Result<ReadyModel> {
        let Self { manifest, platform, labels, body, graphs } = self;
        let described = match &body {
            Body::Plugin(plugin) => {
                plugin.describe(Deadline::after(DESCRIBE_TIMEOUT)).await.map_err(undescribed)?
            }
            Body::Native(graph) => graph.lane.signature().clone(),
        };
        let written = Signature { inputs: manifest.inputs.clone(), outputs: manifest.outputs.clone() };
        if written != Signature::default() && written != described {
            return Err(Error::invalid(format!(
                "[[input]] and [[output]] of model.toml say {written:?}; the model itself says {described:?}"
            )));
        }
        if let Some(output) = labels.keys().find(|output| described.output(output).is_none()) {
            return Err(Error::invalid(format!(
                "[labels] names output '{output}', which the model does not have"
            )));
        }
        let counters = Counters::default();
        Ok(ReadyModel {
            name: manifest.name.clone(),
            version: manifest.version,
            signature: described,
            timeout: manifest.limits.timeout,
            sequences: manifest.sequences.map(Sequences::new),
            manifest,
            overridden: None,
            platform,
            labels,
            body,
            graphs,
            counters,
            since: SystemTime::now(),
            package: None,
        })
    }
}

fn grants(granted: Granted, dir: &Path) -> Result<Grants> {
    let Granted { models, http, env, secrets, folder } = granted;
    let folder = folder.map(|folder| Assets::open(&dir.join(folder))).transpose()?;
    Ok(Grants { models, http, env, secrets, folder })
}

/// Writes into the manifest what was chosen where it leaves the choice.
fn fill_in(graph: &mut GraphManifest, graphs: &Graphs) -> Result<()> {
    let LoadedGraph { lane, backend, device } = graphs.get(&graph.name)?;
    graph.backend = Some(*backend);
    graph.device = *device;
    graph.batching.max_rows = Some(lane.max_rows());
    Ok(())
}

/// What keeps a plugin from describing itself is the package's fault, unless there was no room to ask it.
fn undescribed(error: EngineError) -> Error {
    let code = match error.code() {
        ErrorCode::Unavailable => ErrorCode::Unavailable,
        _ => ErrorCode::InvalidArgument,
    };
    Error::new(code, format!("the plugin does not describe itself: {error}")).with_source(error)
}

fn graph_source(graph: &GraphManifest, dir: &Path) -> Result<GraphSource> {
    let Batching { queue_limit, max_rows, preferred_rows, max_delay } = graph.batching;
    Ok(GraphSource {
        name: graph.name.clone(),
        data: read(&dir.join(&graph.file))?.into(),
        weights: graph.weights.as_ref().map(|file| read(&dir.join(file))).transpose()?.map(Into::into),
        encoding: graph.encoding,
        backend: graph.backend,
        device: graph.device,
        provider: graph.provider,
        threads: graph.threads,
        instances: graph.instances,
        lane: LaneOptions { queue_limit, max_rows, preferred_rows, max_delay },
    })
}

/// What runs a graph, and where, unless that is the processor.
fn runner(graph: &LoadedGraph) -> String {
    match graph.device {
        Device::Gpu(_) => format!("{}_{}", graph.backend, graph.device),
        Device::Cpu | Device::Auto => graph.backend.to_string(),
    }
}

/// Reads the files that `[labels]` names: a line each.
fn read_labels(manifest: &Manifest, dir: &Path) -> Result<Labels> {
    let one = |(output, file): (&String, &PackagePath)| {
        let text = String::from_utf8(read(&dir.join(file))?).map_err(|error| {
            Error::invalid(format!("[labels] {output}: {file} is not UTF-8 text: {error}"))
        })?;
        Ok((output.clone(), text.lines().map(str::to_owned).collect()))
    };
    manifest.labels.iter().map(one).collect()
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| Error::internal("a file of the package cannot be read").with_source(error))
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

    /// What it has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let plugin = match &self.body {
            Body::Plugin(plugin) => Some(plugin.usage()),
            Body::Native(_) => None,
        };
        self.counters.read((!self.graphs.is_empty()).then(|| self.graphs.usage()), plugin)
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
