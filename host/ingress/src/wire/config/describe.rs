//! A version's configuration.

use std::collections::HashMap;
use std::time::Duration;

use vespid_serving::{GraphManifest, Manifest, ReadyModel, Sequences, VersionPolicy};
use vespid_types::{BackendName, Datatype, Device, Extent, Signature, TensorSpec};

use crate::grpc::proto::model_config::SchedulingChoice;
use crate::grpc::proto::model_instance_group::Kind;
use crate::grpc::proto::model_sequence_batching::{StrategyChoice, StrategyOldest};
use crate::grpc::proto::model_version_policy::{All, Latest, PolicyChoice, Specific};
use crate::grpc::proto::{
    DataType, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelParameter,
    ModelQueuePolicy, ModelResponseCache, ModelSequenceBatching, ModelTransactionPolicy, ModelVersionPolicy,
};
use crate::wire::options;

/// The levels of priority, of which every model has all.
pub(super) const LEVELS: u64 = options::LEVELS.unsigned_abs();

/// What `backend` says of a model with a plugin.
pub(super) const PLUGIN: &str = "vespid";

/// Rows of a request that a plugin without graphs is said to take, where its first dimensions are any number. It takes as
/// many as come: nothing joins its requests, so that there is no true number.
const PLUGIN_ROWS: u64 = 64;

/// The configuration of a version that can be called.
pub(crate) fn describe(model: &ReadyModel) -> ModelConfig {
    let described = Described {
        manifest: model.manifest(),
        signature: model.signature(),
        platform: model.platform(),
        decoupled: model.is_decoupled(),
        versions: model.overridden(),
    };
    described.config()
}

/// What a configuration is made of.
pub(super) struct Described<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) signature: &'a Signature,
    pub(super) platform: &'a str,
    pub(super) decoupled: bool,
    pub(super) versions: Option<&'a VersionPolicy>,
}

impl Described<'_> {
    pub(super) fn config(&self) -> ModelConfig {
        let Self { manifest, signature, .. } = self;
        let max_rows = self.max_rows();
        let file = manifest.plugin.as_ref().or_else(|| manifest.graphs.first().map(|graph| &graph.file));
        let parameter =
            |(key, value): (&String, &String)| (key.clone(), ModelParameter { string_value: value.clone() });
        ModelConfig {
            name: manifest.name.to_string(),
            platform: self.platform.to_owned(),
            backend: self.backend(),
            version_policy: Some(version_policy(self.versions)),
            max_batch_size: i32::try_from(max_rows).unwrap_or(i32::MAX),
            input: signature.inputs.iter().map(|spec| input(spec, max_rows)).collect(),
            output: signature.outputs.iter().map(|spec| self.output(spec, max_rows)).collect(),
            instance_group: manifest.graphs.iter().map(instance_group).collect(),
            default_model_filename: file.map(ToString::to_string).unwrap_or_default(),
            parameters: manifest.config.iter().map(parameter).collect::<HashMap<_, _>>(),
            model_transaction_policy: Some(ModelTransactionPolicy { decoupled: self.decoupled }),
            response_cache: Some(ModelResponseCache { enable: false }),
            scheduling_choice: self.scheduling(max_rows),
            ..ModelConfig::default()
        }
    }

    fn output(&self, spec: &TensorSpec, max_rows: u64) -> ModelOutput {
        let labels = self.manifest.labels.get(&spec.name);
        ModelOutput {
            name: spec.name.clone(),
            data_type: data_type(spec.datatype).into(),
            dims: dims(spec, max_rows),
            label_filename: labels.map(ToString::to_string).unwrap_or_default(),
            ..ModelOutput::default()
        }
    }

    fn backend(&self) -> String {
        let graph = self.manifest.graphs.first().filter(|_| self.manifest.plugin.is_none());
        let name = graph.and_then(|graph| graph.backend).map(BackendName::as_str);
        name.unwrap_or(PLUGIN).to_owned()
    }

    /// Rows of a batch; 0 where the model makes none, or a first dimension is not a number of rows.
    fn max_rows(&self) -> u64 {
        let Self { manifest, signature, .. } = self;
        let mut specs = signature.inputs.iter().chain(&signature.outputs).peekable();
        let rows = specs.peek().is_some()
            && !self.decoupled
            && specs.all(|spec| spec.shape.first() == Some(&Extent::Any));
        match self.batching_graph() {
            _ if !rows => 0,
            Some(graph) => graph.batching.max_rows.unwrap_or_default(),
            None if manifest.graphs.is_empty() => PLUGIN_ROWS,
            None => 0,
        }
    }

    /// The graph with the largest batches, where one makes batches.
    fn batching_graph(&self) -> Option<&GraphManifest> {
        let batching = self.manifest.graphs.iter().filter(|graph| graph.batching.max_rows > Some(1));
        batching.max_by_key(|graph| graph.batching.max_rows)
    }

    fn scheduling(&self, max_rows: u64) -> Option<SchedulingChoice> {
        match self.manifest.sequences {
            Some(sequences) => Some(SchedulingChoice::SequenceBatching(sequence_batching(sequences))),
            None => self.dynamic_batching(max_rows).map(SchedulingChoice::DynamicBatching),
        }
    }

    fn dynamic_batching(&self, max_rows: u64) -> Option<ModelDynamicBatching> {
        let batching = self.batching_graph().filter(|_| max_rows > 0)?.batching;
        let preferred = batching.preferred_rows.and_then(|rows| i32::try_from(rows).ok());
        Some(ModelDynamicBatching {
            preferred_batch_size: preferred.into_iter().collect(),
            max_queue_delay_microseconds: micros(batching.max_delay),
            priority_levels: LEVELS,
            default_priority_level: 1,
            default_queue_policy: Some(ModelQueuePolicy {
                // A request's own `timeout` always counts.
                allow_timeout_override: true,
                max_queue_size: u32::try_from(batching.queue_limit).unwrap_or(u32::MAX),
                ..ModelQueuePolicy::default()
            }),
            ..ModelDynamicBatching::default()
        })
    }
}

fn sequence_batching(sequences: Sequences) -> ModelSequenceBatching {
    let oldest = StrategyOldest {
        max_candidate_sequences: i32::try_from(sequences.max.get()).unwrap_or(i32::MAX),
        ..StrategyOldest::default()
    };
    ModelSequenceBatching {
        max_sequence_idle_microseconds: micros(sequences.idle_timeout),
        strategy_choice: Some(StrategyChoice::Oldest(oldest)),
        ..ModelSequenceBatching::default()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn version_policy(policy: Option<&VersionPolicy>) -> ModelVersionPolicy {
    let choice = match policy.unwrap_or(&VersionPolicy::All) {
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Latest(number) => PolicyChoice::Latest(Latest { num_versions: number.get() }),
        VersionPolicy::Specific(versions) => {
            let versions = versions.iter().filter_map(|version| i64::try_from(version.number()).ok());
            PolicyChoice::Specific(Specific { versions: versions.collect() })
        }
    };
    ModelVersionPolicy { policy_choice: Some(choice) }
}

fn input(spec: &TensorSpec, max_rows: u64) -> ModelInput {
    ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec, max_rows),
        optional: spec.optional,
        ..ModelInput::default()
    }
}

/// The shape; without its first dimension, the rows, where there are batches. Metadata has that dimension in either case.
fn dims(spec: &TensorSpec, max_rows: u64) -> Vec<i64> {
    let rows = usize::from(max_rows > 0);
    spec.shape.iter().skip(rows).map(|extent| extent.to_signed()).collect()
}

pub(super) const fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Bf16 => DataType::TypeBf16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    }
}

/// A graph's sessions, by the graph's name.
fn instance_group(graph: &GraphManifest) -> ModelInstanceGroup {
    let (kind, gpus) = match graph.device {
        Device::Cpu => (Kind::Cpu, Vec::new()),
        Device::Gpu(index) => (Kind::Gpu, i32::try_from(index).into_iter().collect()),
        Device::Auto => (Kind::Auto, Vec::new()),
    };
    ModelInstanceGroup {
        name: graph.name.clone(),
        kind: kind.into(),
        count: i32::try_from(graph.instances.get()).unwrap_or(i32::MAX),
        gpus,
        ..ModelInstanceGroup::default()
    }
}
