//! `model.toml`: raw as it is written, then validated.
//!
//! Contract: unknown keys are errors, and each error names its key. A manifest that exists is consistent in itself; that
//! its files are there is checked by [`crate::Store`]. One that is not read but made, or changed, is checked in the same
//! way (`Manifest::check`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use vespid_types::{BackendName, Device, Encoding, ModelName, Provider, TensorSpec, Version};

use crate::oci::Reference;
use crate::{Grants, PackageError, PackagePath, folder_files};

/// The manifest's name, at the top of the package.
pub const MANIFEST_FILE: &str = "model.toml";

/// More than anyone writes into a manifest, and little enough to hold and parse.
const MAX_MANIFEST: u64 = 1 << 20;

const MAX_MEMORY: ByteSize = ByteSize::gib(4);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// A validated `model.toml`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `model.name`
    pub name: ModelName,
    /// `model.version`
    pub version: Version,
    /// `model.plugin`: the component or the command; none for a graph that is served as it is.
    pub plugin: Option<PackagePath>,
    /// `model.plugin_source`: the artifact that whoever builds the package takes the plugin from. A server does not ask.
    pub plugin_source: Option<Reference>,
    /// `[[graph]]`
    pub graphs: Vec<GraphManifest>,
    /// `[[input]]`; empty where the plugin or the graph tells.
    pub inputs: Vec<TensorSpec>,
    /// `[[output]]`; empty where the plugin or the graph tells.
    pub outputs: Vec<TensorSpec>,
    /// `[limits]`
    pub limits: Limits,
    /// `[instances]`
    pub instances: Instances,
    /// `[sequences]`; none where requests do not belong together.
    pub sequences: Option<Sequences>,
    /// `[grants]`: what the plugin asks for, which is not what it gets.
    pub grants: Grants,
    /// `[config]`
    pub config: BTreeMap<String, String>,
    /// `[labels]`: by the name of an output the file with the names of its classes, a line each.
    pub labels: BTreeMap<String, PackagePath>,
    /// `[[warmup]]`: what the model is asked before it serves.
    pub warmups: Vec<Warmup>,
}

/// One `[[warmup]]`: a recorded case that the model answers before it takes requests, so that what it does once (filling
/// caches, choosing algorithms) is done by then.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// The file with the case inside the package.
    pub case: PackagePath,
    /// How often it is asked; at most 1,000 times.
    #[serde(default = "once")]
    pub count: NonZero<u32>,
}

fn once() -> NonZero<u32> {
    NonZero::<u32>::MIN
}

/// One `[[graph]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphManifest {
    /// What the plugin loads by name.
    pub name: String,
    /// The file inside the package.
    pub file: PackagePath,
    /// How the file is encoded.
    pub encoding: Encoding,
    /// The file with the weights, where the encoding keeps them in one of their own.
    pub weights: Option<PackagePath>,
    /// The artifact that whoever builds the package takes the files from. A server does not ask.
    pub source: Option<Reference>,
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// Which library runs it. Where none is named, OpenVINO runs its own encoding; ONNX Runtime runs the rest where its
    /// library is loaded, else the embedded one does.
    pub backend: Option<BackendName>,
    /// What ONNX Runtime hands its operators to; the device's usual one where none is named.
    pub provider: Option<Provider>,
    /// Threads of one run on the processor; one for each core, shared out among the instances, where it is not said.
    pub threads: Option<NonZero<usize>>,
    /// Runs of the graph that may go on at once.
    #[serde(default = "one")]
    pub instances: NonZero<usize>,
    /// How its lane queues and makes batches.
    #[serde(default)]
    pub batching: Batching,
}

pub(crate) fn one() -> NonZero<usize> {
    NonZero::<usize>::MIN
}

/// `batching` of a graph.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// How many calls of each priority class may wait.
    pub queue_limit: usize,
    /// Rows of a batch; where it is not said, as many as the host thinks right for a graph that takes batches.
    pub max_rows: Option<u64>,
    /// Rows for which a batch waits no longer; only with `max_delay`.
    pub preferred_rows: Option<u64>,
    /// How long the first call of a batch waits for others.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { queue_limit: 256, max_rows: None, preferred_rows: None, max_delay: Duration::ZERO }
    }
}

/// `[instances]`: what is kept of a plugin between calls.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    /// Instances that are kept, each for one call at a time. None: each call has a fresh one.
    pub warm: usize,
    /// Calls after which a kept instance is replaced.
    pub max_calls: NonZero<u64>,
    /// Whether instances begin where the plugin's `describe` ended, with the tables that it built.
    pub snapshot: bool,
}

impl Default for Instances {
    fn default() -> Self {
        Self { warm: 0, max_calls: NonZero::new(1000).unwrap_or(NonZero::<u64>::MIN), snapshot: false }
    }
}

/// `[sequences]`: the model answers each sequence of requests with one instance, which keeps what it has seen.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sequences {
    /// How long a sequence may go without a request before it ends, such as `"60s"`; at most a day.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Sequences that may be open at once.
    pub max: NonZero<usize>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(60), max: NonZero::new(64).unwrap_or(NonZero::<usize>::MIN) }
    }
}

/// `[limits]`: what one call may use up.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memories and host-side tensors together, such as `"64MiB"`; at most 4 GiB.
    pub memory: ByteSize,
    /// From the request's arrival to the answer, such as `"1s"`; at most an hour.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: ByteSize::mib(64), timeout: Duration::from_secs(10) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    model: RawModel,
    #[serde(default, rename = "graph")]
    graphs: Vec<GraphManifest>,
    #[serde(default, rename = "input")]
    inputs: Vec<TensorSpec>,
    #[serde(default, rename = "output")]
    outputs: Vec<TensorSpec>,
    #[serde(default)]
    limits: Limits,
    instances: Option<Instances>,
    sequences: Option<Sequences>,
    grants: Option<Grants>,
    #[serde(default)]
    config: BTreeMap<String, Scalar>,
    #[serde(default)]
    labels: BTreeMap<String, PackagePath>,
    #[serde(default, rename = "warmup")]
    warmups: Vec<Warmup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: ModelName,
    version: Version,
    plugin: Option<PackagePath>,
    plugin_source: Option<Reference>,
}

/// A value under `[config]`: the guest gets all of them as text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a string, a number or a boolean")]
enum Scalar {
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
}

impl From<Scalar> for String {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Text(text) => text,
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
        }
    }
}

impl Manifest {
    /// Reads and validates a `model.toml`.
    ///
    /// # Errors
    /// [`PackageError::Manifest`], which names the key.
    pub fn parse(text: &str) -> Result<Self, PackageError> {
        let raw: RawManifest = toml::from_str(text).map_err(|error| invalid(error.to_string().trim_end()))?;
        let RawManifest {
            model,
            graphs,
            inputs,
            outputs,
            limits,
            instances,
            sequences,
            grants,
            config,
            labels,
            warmups,
        } = raw;
        if instances.is_some() && model.plugin.is_none() {
            return Err(invalid("[instances] is about a plugin's: without model.plugin leave it out"));
        }
        if grants.is_some() && model.plugin.is_none() {
            return Err(invalid(
                "[grants] is about what a plugin reaches: without model.plugin leave it out",
            ));
        }
        let manifest = Self {
            name: model.name,
            version: model.version,
            plugin: model.plugin,
            plugin_source: model.plugin_source,
            graphs,
            inputs,
            outputs,
            limits,
            instances: instances.unwrap_or_default(),
            sequences,
            grants: grants.unwrap_or_default(),
            config: config.into_iter().map(|(key, value)| (key, value.into())).collect(),
            labels,
            warmups,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Reads the manifest of the package in the folder `dir`, and checks that the files that it names are there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(dir: &Path) -> Result<Self, PackageError> {
        let file = dir.join(MANIFEST_FILE);
        if fs::metadata(&file).is_ok_and(|metadata| metadata.len() > MAX_MANIFEST) {
            return Err(invalid(format!("it is larger than {}", ByteSize(MAX_MANIFEST))));
        }
        let text = match fs::read(&file) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
                return Err(PackageError::NoManifest);
            }
            read => read.map_err(PackageError::io("read", &file))?,
        };
        let text =
            String::from_utf8(text).map_err(|error| invalid(format!("it is not UTF-8 text: {error}")))?;
        let manifest = Self::parse(&text)?;
        let missing = manifest.files().find(|(_, path)| !dir.join(path).is_file());
        if let Some((field, path)) = missing {
            return Err(PackageError::MissingFile { field, file: path.to_string() });
        }
        if let Some(folder) = &manifest.grants.folder {
            folder_files(dir, folder)?;
        }
        Ok(manifest)
    }

    /// Checks that what it says is within limits and agrees with itself.
    pub(crate) fn check(&self) -> Result<(), PackageError> {
        self.graphs.iter().try_for_each(check_graph)?;
        check_graphs(&self.graphs, self.plugin.is_some())?;
        check_sources(self)?;
        check_limits(&self.limits)?;
        if self.instances.warm > MAX_WARM {
            return Err(invalid("instances.warm: use 0 to 4096"));
        }
        if self.instances.snapshot && !self.grants.secrets.is_empty() {
            return Err(invalid(
                "instances.snapshot keeps on disk what `describe` has read: with grants.secrets leave it out",
            ));
        }
        self.grants.check()?;
        check_sequences(self.sequences.as_ref(), self.plugin.is_some())?;
        check_specs("input", &self.inputs)?;
        check_specs("output", &self.outputs)?;
        if self.warmups.iter().any(|warmup| warmup.count.get() > MAX_WARMUPS) {
            return Err(invalid("warmup.count: use 1 to 1000"));
        }
        if self.inputs.is_empty() != self.outputs.is_empty() {
            return Err(invalid("give both [[input]] and [[output]], or neither"));
        }
        Ok(())
    }

    /// The files that the manifest names, each with the field that names it.
    pub fn files(&self) -> impl Iterator<Item = (String, &PackagePath)> {
        let plugin = self.plugin.iter().map(|file| ("model.plugin".to_owned(), file));
        let labels = self.labels.iter().map(|(output, file)| (format!("[labels] {output}"), file));
        let warmups = self.warmups.iter().map(|warmup| ("[[warmup]] case".to_owned(), &warmup.case));
        plugin.chain(labels).chain(warmups).chain(self.graphs.iter().flat_map(|graph| {
            let weights = graph.weights.iter().map(|file| (format!("graph '{}': weights", graph.name), file));
            std::iter::once((format!("graph '{}'", graph.name), &graph.file)).chain(weights)
        }))
    }
}

fn invalid(reason: impl Into<String>) -> PackageError {
    PackageError::Manifest { reason: reason.into() }
}

const MAX_THREADS: usize = 1024;
const MAX_SESSIONS: usize = 64;
const MAX_ROWS: u64 = 1 << 20;
const MAX_DELAY: Duration = Duration::from_secs(10);
const MAX_WARM: usize = 4096;
const MAX_WARMUPS: u32 = 1000;
const MAX_SEQUENCES: usize = 4096;
const MAX_IDLE: Duration = Duration::from_secs(24 * 3600);

fn check_graph(graph: &GraphManifest) -> Result<(), PackageError> {
    if graph.name.is_empty() || graph.name.len() > 128 {
        return Err(invalid(format!("graph.name '{}': use 1 to 128 characters", graph.name)));
    }
    let Batching { queue_limit, max_rows, preferred_rows, max_delay } = graph.batching;
    let rows = |rows: Option<u64>| rows.is_none_or(|rows| (1..=MAX_ROWS).contains(&rows));
    let wrong = if !(1..=1 << 20).contains(&queue_limit) {
        "batching.queue_limit: use 1 to 1048576"
    } else if !rows(max_rows) {
        "batching.max_rows: use 1 (no batches) to 1048576"
    } else if !rows(preferred_rows) || preferred_rows.zip(max_rows).is_some_and(|(rows, max)| rows > max) {
        "batching.preferred_rows: use 1 to batching.max_rows"
    } else if preferred_rows.is_some() && max_delay.is_zero() {
        "batching.preferred_rows says how many rows end a wait: give batching.max_delay too"
    } else if max_delay > MAX_DELAY {
        "batching.max_delay: use at most 10s"
    } else if !max_delay.is_zero() && max_rows == Some(1) {
        "batching.max_delay waits for a second row: give a batching.max_rows of more than 1"
    } else if graph.threads.is_some_and(|threads| threads.get() > MAX_THREADS) {
        "threads: use 1 to 1024"
    } else if graph.instances.get() > MAX_SESSIONS {
        "instances: use 1 to 64"
    } else if graph.encoding == Encoding::Openvino && graph.weights.is_none() {
        "encoding 'openvino' keeps the weights in a file of their own: name it with `weights`"
    } else if graph.encoding != Encoding::Openvino && graph.weights.is_some() {
        "weights is for encoding 'openvino': files of other encodings hold their weights"
    } else {
        return Ok(());
    };
    Err(invalid(format!("graph '{}': {wrong}", graph.name)))
}

fn check_graphs(graphs: &[GraphManifest], has_plugin: bool) -> Result<(), PackageError> {
    let mut names = BTreeSet::new();
    if let Some(graph) = graphs.iter().find(|graph| !names.insert(&graph.name)) {
        return Err(invalid(format!("graph.name '{}' is used twice", graph.name)));
    }
    if !has_plugin && graphs.len() != 1 {
        return Err(invalid(format!(
            "without model.plugin the package is served as its graph: it needs exactly one [[graph]], not {}",
            graphs.len()
        )));
    }
    Ok(())
}

fn check_sources(manifest: &Manifest) -> Result<(), PackageError> {
    if manifest.plugin_source.is_some() && manifest.plugin.is_none() {
        return Err(invalid(
            "model.plugin_source is where a plugin comes from: name its file in model.plugin",
        ));
    }
    let plugin = manifest.plugin_source.iter().map(|source| ("model.plugin_source".to_owned(), source));
    let graphs = manifest
        .graphs
        .iter()
        .filter_map(|graph| Some((format!("graph '{}': source", graph.name), graph.source.as_ref()?)));
    match plugin.chain(graphs).find(|(_, source)| source.digest().is_none()) {
        Some((field, source)) => Err(invalid(format!(
            "{field}: {source} is not pinned: add @ and the digest, which `vespid push` and `vespid pull` print"
        ))),
        None => Ok(()),
    }
}

fn check_limits(limits: &Limits) -> Result<(), PackageError> {
    if limits.memory < ByteSize::kib(64) || limits.memory > MAX_MEMORY {
        return Err(invalid(format!("limits.memory is {}: use 64 KiB to {MAX_MEMORY}", limits.memory)));
    }
    if limits.timeout.is_zero() || limits.timeout > MAX_TIMEOUT {
        return Err(invalid("limits.timeout: use more than 0 and at most 1h"));
    }
    Ok(())
}

fn check_sequences(sequences: Option<&Sequences>, has_plugin: bool) -> Result<(), PackageError> {
    match sequences {
        Some(_) if !has_plugin => {
            Err(invalid("[sequences] is about a plugin's state: without model.plugin leave it out"))
        }
        Some(sequences) if sequences.idle_timeout.is_zero() || sequences.idle_timeout > MAX_IDLE => {
            Err(invalid("sequences.idle_timeout: use more than 0 and at most 1day"))
        }
        Some(sequences) if sequences.max.get() > MAX_SEQUENCES => {
            Err(invalid("sequences.max: use 1 to 4096"))
        }
        _ => Ok(()),
    }
}

fn check_specs(kind: &str, specs: &[TensorSpec]) -> Result<(), PackageError> {
    let mut names = BTreeSet::new();
    match specs.iter().find(|spec| !names.insert(&spec.name)) {
        Some(spec) => Err(invalid(format!("{kind}.name '{}' is used twice", spec.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
