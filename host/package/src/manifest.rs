//! `model.toml`: raw as it is written, then validated.
//!
//! Contract: unknown keys are errors, and each error names its key. A manifest that exists is consistent in itself; that
//! its files are there is checked by [`crate::Store`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use vespid_types::{Device, Encoding, ModelName, TensorSpec, Version};

use crate::{PackageError, PackagePath};

/// The manifest's name, at the top of the package.
pub const MANIFEST_FILE: &str = "model.toml";

const MAX_MEMORY: ByteSize = ByteSize::gib(4);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// A validated `model.toml`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `model.name`
    pub name: ModelName,
    /// `model.version`
    pub version: Version,
    /// `model.plugin`: the component; none for a graph that is served as it is.
    pub plugin: Option<PackagePath>,
    /// `[[graph]]`
    pub graphs: Vec<GraphManifest>,
    /// `[[input]]`; empty where the plugin or the graph tells.
    pub inputs: Vec<TensorSpec>,
    /// `[[output]]`; empty where the plugin or the graph tells.
    pub outputs: Vec<TensorSpec>,
    /// `[limits]`
    pub limits: Limits,
    /// `grants.models`
    pub granted_models: BTreeSet<ModelName>,
    /// `[config]`
    pub config: BTreeMap<String, String>,
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
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// How its lane queues.
    #[serde(default)]
    pub batching: Batching,
}

/// `batching` of a graph.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// How many calls may wait.
    pub queue_limit: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { queue_limit: 256 }
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
    #[serde(default)]
    grants: RawGrants,
    #[serde(default)]
    config: BTreeMap<String, Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: ModelName,
    version: Version,
    plugin: Option<PackagePath>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGrants {
    models: BTreeSet<ModelName>,
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
        let RawManifest { model, graphs, inputs, outputs, limits, grants, config } = raw;
        check_graphs(&graphs, model.plugin.is_some())?;
        check_limits(&limits)?;
        check_specs("input", &inputs)?;
        check_specs("output", &outputs)?;
        if inputs.is_empty() != outputs.is_empty() {
            return Err(invalid("give both [[input]] and [[output]], or neither"));
        }
        Ok(Self {
            name: model.name,
            version: model.version,
            plugin: model.plugin,
            graphs,
            inputs,
            outputs,
            limits,
            granted_models: grants.models,
            config: config.into_iter().map(|(key, value)| (key, value.into())).collect(),
        })
    }

    /// The files that the manifest names, each with the field that names it.
    pub fn files(&self) -> impl Iterator<Item = (String, &PackagePath)> {
        let plugin = self.plugin.iter().map(|file| ("model.plugin".to_owned(), file));
        plugin.chain(self.graphs.iter().map(|graph| (format!("graph '{}'", graph.name), &graph.file)))
    }
}

fn invalid(reason: impl Into<String>) -> PackageError {
    PackageError::Manifest { reason: reason.into() }
}

fn check_graphs(graphs: &[GraphManifest], has_plugin: bool) -> Result<(), PackageError> {
    let mut names = BTreeSet::new();
    for graph in graphs {
        if graph.name.is_empty() || graph.name.len() > 128 {
            return Err(invalid(format!("graph.name '{}': use 1 to 128 characters", graph.name)));
        }
        if !names.insert(&graph.name) {
            return Err(invalid(format!("graph.name '{}' is used twice", graph.name)));
        }
        if !(1..=1 << 20).contains(&graph.batching.queue_limit) {
            return Err(invalid(format!("graph '{}': batching.queue_limit: use 1 to 1048576", graph.name)));
        }
    }
    if !has_plugin && graphs.len() != 1 {
        return Err(invalid(format!(
            "without model.plugin the package is served as its graph: it needs exactly one [[graph]], not {}",
            graphs.len()
        )));
    }
    Ok(())
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

fn check_specs(kind: &str, specs: &[TensorSpec]) -> Result<(), PackageError> {
    let mut names = BTreeSet::new();
    match specs.iter().find(|spec| !names.insert(&spec.name)) {
        Some(spec) => Err(invalid(format!("{kind}.name '{}' is used twice", spec.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        [model]
        name = "file-type"
        version = "1"
        plugin = "file_type.wasm"
        [[graph]]
        name = "magika"
        file = "model.onnx"
        encoding = "onnx"
        device = "cpu"
        batching = { queue_limit = 8 }
        [[input]]
        name = "file"
        datatype = "BYTES"
        shape = [-1]
        [[output]]
        name = "label"
        datatype = "BYTES"
        shape = [-1]
        [limits]
        memory = "64MiB"
        timeout = "1s"
        [grants]
        models = ["iris"]
        [config]
        threshold = 0.5
        mode = "high"
    "#;

    #[test]
    fn a_full_manifest_is_read() {
        let manifest = Manifest::parse(FULL).unwrap();
        assert_eq!(manifest.name.as_str(), "file-type");
        assert_eq!(manifest.limits.memory, ByteSize::mib(64));
        assert_eq!(manifest.limits.timeout, Duration::from_secs(1));
        assert_eq!(manifest.graphs[0].batching.queue_limit, 8);
        assert_eq!(manifest.config["threshold"], "0.5");
        assert_eq!(manifest.files().count(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let minimal = "[model]\nname = 'a'\nversion = '1'\n";
        let graph = "[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'\n";
        for (text, expected) in [
            (minimal.to_owned(), "exactly one [[graph]]"),
            (format!("{minimal}{graph}{graph}"), "'g' is used twice"),
            (format!("{minimal}{graph}device = 'npu'\n"), "'npu' is not a device"),
            (format!("{minimal}{graph}batching = {{ max_row = 1 }}\n"), "max_row"),
            (format!("{minimal}{graph}[limits]\nmemory = '8GiB'\n"), "limits.memory"),
            (format!("{minimal}{graph}[limits]\ntimeout = '0s'\n"), "limits.timeout"),
            (format!("{minimal}{graph}[model2]\n"), "model2"),
            (format!("{minimal}{graph}[config]\na = [1]\n"), "a string, a number or a boolean"),
            ("[model]\nname = 'a/b'\nversion = '1'\n".to_owned(), "not a model name"),
            ("[model]\nname = 'a'\nversion = '1.0'\n".to_owned(), "not a version"),
            (format!("{minimal}plugin = '../p.wasm'\n"), "plain relative path"),
        ] {
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
