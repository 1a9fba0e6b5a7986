//! How a package becomes a model: compiled, loaded, described, warmed up.
//!
//! Contract: each step is a type, and none can be skipped. Code and graphs that another loaded model has too, of equal
//! content and asked for in the same way, are shared and not made again. Cost: compiling and optimising, on a thread that
//! blocks; where all is shared, reading what is not known by its digest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use vespid_engine::{
    Assets, Callers, Code, Engine, EngineError, Grants, Peers, Plugin, PluginContext, PoolOptions,
};
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions, LoadedGraph};
use vespid_package::{Batching, Granted, GraphManifest, Manifest, PackagePath, Permissions, Warmup};
use vespid_types::{
    Deadline, Device, Digest, Error, ErrorCode, ModelRef, Request, Result, Signature, Timeline,
};

use super::{Body, Labels, Part, Parts, ReadyModel, Weighed};
use crate::memory::Ledger;
use crate::sequences::Sequences;
use crate::shelf::Shelf;

/// How long a plugin may take to describe itself, whatever its own limit.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the request of a recorded case, for the model that it is to be asked of.
pub type CaseReader = fn(file: &Path, model: ModelRef) -> Result<Request>;

/// A package's files: where they lie, and what they hold where that is known.
pub(crate) struct Files {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Digests of files.
    pub(crate) digests: BTreeMap<PackagePath, Digest>,
}

impl Files {
    /// What all of them hold, by their paths.
    fn digest(&self) -> Digest {
        let lines: String = self.digests.iter().map(|(path, digest)| format!("{path} {digest}\n")).collect();
        vespid_package::digest_of(lines.as_bytes())
    }

    fn read(&self, path: &PackagePath) -> Result<Vec<u8>> {
        fs::read(self.dir.join(path)).map_err(|error| {
            Error::internal(format!("the package's file '{path}' cannot be read")).with_source(error)
        })
    }
}

/// What models are made with, and what they have in common.
pub(crate) struct Workshop {
    engine: Engine,
    backends: Backends,
    permissions: Permissions,
    ledger: Ledger,
    codes: Shelf<Digest, Part<Code>>,
    graphs: Shelf<GraphKey, Part<LoadedGraph>>,
}

/// What a graph is: its files, and all that is said about how it runs.
type GraphKey = (Digest, Option<Digest>, String);

impl Workshop {
    pub(crate) fn new(engine: Engine, backends: Backends, permissions: Permissions, ledger: Ledger) -> Self {
        let (codes, graphs) = (Shelf::default(), Shelf::default());
        Self { engine, backends, permissions, ledger, codes, graphs }
    }

    fn part<T>(&self, thing: T, bytes: u64) -> Part<T> {
        Part { thing, charge: self.ledger.charge(bytes) }
    }

    /// A graph of a package; one that another model has too where it is the same.
    fn graph(&self, graph: &GraphManifest, files: &Files) -> Result<Arc<Part<LoadedGraph>>> {
        let make = || {
            let loaded = LoadedGraph::load(&self.backends, source(graph, files)?)?;
            let bytes = loaded.lane.memory();
            Ok(self.part(loaded, bytes))
        };
        match key(graph, files) {
            Some(key) => self.graphs.get_or_make(key, make),
            None => make().map(Arc::new),
        }
    }

    /// A package's plugin, and what of it is charged for.
    fn plugin(
        &self,
        file: &PackagePath,
        files: &Files,
        context: PluginContext,
    ) -> Result<(Plugin, Arc<dyn Weighed>)> {
        if context.snapshot.is_some() {
            let plugin = Plugin::compile(&self.engine, &files.read(file)?, context)?;
            let bytes = plugin.code_memory();
            return Ok((plugin, Arc::new(self.part((), bytes))));
        }
        let make = || {
            let code = Code::compile(&self.engine, &files.read(file)?)?;
            let bytes = code.memory();
            Ok::<_, Error>(self.part(code, bytes))
        };
        let code = match files.digests.get(file) {
            Some(digest) => self.codes.get_or_make(*digest, make)?,
            None => Arc::new(make()?),
        };
        Ok((Plugin::new(&self.engine, &code.thing, context)?, code))
    }
}

fn key(graph: &GraphManifest, files: &Files) -> Option<GraphKey> {
    let digest = |file| files.digests.get(file).copied();
    let weights = match &graph.weights {
        Some(weights) => Some(digest(weights)?),
        None => None,
    };
    let GraphManifest {
        name, file, encoding, device, backend, provider, threads, instances, batching, ..
    } = graph;
    let how = format!(
        "{name:?} {encoding:?} {device:?} {backend:?} {provider:?} {threads:?} {instances} {batching:?}"
    );
    Some((digest(file)?, weights, how))
}

fn source(graph: &GraphManifest, files: &Files) -> Result<GraphSource> {
    let Batching { queue_limit, max_rows, preferred_rows, max_delay } = graph.batching;
    Ok(GraphSource {
        name: graph.name.clone(),
        data: files.read(&graph.file)?.into(),
        weights: graph.weights.as_ref().map(|file| files.read(file)).transpose()?.map(Into::into),
        encoding: graph.encoding,
        backend: graph.backend,
        device: graph.device,
        provider: graph.provider,
        threads: graph.threads,
        instances: graph.instances,
        lane: LaneOptions { queue_limit, max_rows, preferred_rows, max_delay },
    })
}

/// A package whose code is compiled and whose graphs are loaded, not yet described: the step before [`ReadyModel`].
pub(crate) struct CompiledModel {
    manifest: Manifest,
    platform: String,
    labels: Labels,
    body: Body,
    graphs: Graphs,
    parts: Parts,
    digest: Digest,
    dir: PathBuf,
}

impl CompiledModel {
    /// Compiles the plugin and loads the graphs of a package. Blocks.
    pub(crate) fn build(
        workshop: &Workshop,
        mut manifest: Manifest,
        files: Files,
        peers: Arc<dyn Peers>,
    ) -> Result<Self> {
        let granted = workshop.permissions.grant(&manifest)?;
        let mut parts = Parts::default();
        let load = |graph: &GraphManifest| {
            let part = workshop.graph(graph, &files)?;
            let loaded = part.thing.share();
            parts.0.push(part);
            Ok((graph.name.clone(), loaded))
        };
        let graphs: Graphs = manifest.graphs.iter().map(load).collect::<Result<_>>()?;
        let first = manifest.graphs.first().and_then(|graph| graphs.get(&graph.name).ok()).cloned();
        let (body, platform) = match (&manifest.plugin, graphs.single()) {
            (Some(file), _) => {
                let context = context(&manifest, &graphs, grants(granted, &files.dir)?, peers);
                let (plugin, code) = workshop.plugin(file, &files, context)?;
                parts.0.push(code);
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
        let labels = read_labels(&manifest, &files)?;
        let digest = files.digest();
        Ok(Self { manifest, platform, labels, body, graphs, parts, digest, dir: files.dir })
    }

    /// Finds out the signature, which runs a plugin for the first time.
    pub(crate) async fn describe(self) -> Result<DescribedModel> {
        let Self { manifest, platform, labels, body, graphs, parts, digest, dir } = self;
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
        let model = ReadyModel {
            name: manifest.name.clone(),
            version: manifest.version,
            digest,
            signature: described,
            timeout: manifest.limits.timeout,
            sequences: manifest.sequences.map(Sequences::new),
            manifest,
            overridden: None,
            platform,
            labels,
            body,
            graphs,
            counters: Arc::default(),
            since: SystemTime::now(),
            used: AtomicU64::default(),
            parts,
            limits: None,
            held: None,
            package: None,
        };
        model.touch();
        Ok(DescribedModel { model, dir })
    }
}

/// A model that has not been asked yet.
pub(crate) struct DescribedModel {
    model: ReadyModel,
    dir: PathBuf,
}

impl DescribedModel {
    /// Has it answer the cases that `[[warmup]]` names, as often as it says. They are not counted.
    pub(crate) async fn warm_up(self, read: CaseReader) -> Result<ReadyModel> {
        let Self { model, dir } = self;
        for Warmup { case, count } in &model.manifest.warmups {
            let failed = |error: Error| {
                let message = format!("[[warmup]] {case}: {error}");
                Error::new(ErrorCode::InvalidArgument, message).with_source(error)
            };
            let target = ModelRef { name: model.name.clone(), version: Some(model.version) };
            let request = read(&dir.join(case), target).map_err(failed)?;
            for _ in 0..count.get() {
                let timeline = Arc::new(Timeline::default());
                model.predict(request.clone(), Callers::default(), &timeline).await.map_err(failed)?;
            }
        }
        Ok(model)
    }
}

fn grants(granted: Granted, dir: &Path) -> Result<Grants> {
    let Granted { models, http, env, secrets, folder } = granted;
    let folder = folder.map(|folder| Assets::open(&dir.join(folder))).transpose()?;
    Ok(Grants { models, http, env, secrets, folder })
}

fn context(manifest: &Manifest, graphs: &Graphs, grants: Grants, peers: Arc<dyn Peers>) -> PluginContext {
    PluginContext {
        model: manifest.name.clone(),
        version: manifest.version,
        written: Signature { inputs: manifest.inputs.clone(), outputs: manifest.outputs.clone() },
        graphs: graphs.clone(),
        config: manifest.config.clone(),
        memory_limit: manifest.limits.memory,
        instances: PoolOptions { warm: manifest.instances.warm, max_calls: manifest.instances.max_calls },
        snapshot: manifest.instances.snapshot.then_some(DESCRIBE_TIMEOUT),
        grants,
        peers: Some(peers),
    }
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

/// What runs a graph, and where, unless that is the processor.
fn runner(graph: &LoadedGraph) -> String {
    match graph.device {
        Device::Gpu(_) => format!("{}_{}", graph.backend, graph.device),
        Device::Cpu | Device::Auto => graph.backend.to_string(),
    }
}

/// Reads the files that `[labels]` names: a line each.
fn read_labels(manifest: &Manifest, files: &Files) -> Result<Labels> {
    let one = |(output, file): (&String, &PackagePath)| {
        let text = String::from_utf8(files.read(file)?).map_err(|error| {
            Error::invalid(format!("[labels] {output}: {file} is not UTF-8 text: {error}"))
        })?;
        Ok((output.clone(), text.lines().map(str::to_owned).collect()))
    };
    manifest.labels.iter().map(one).collect()
}
