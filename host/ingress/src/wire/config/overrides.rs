//! What a load asks for, from a configuration that a client wrote.
//!
//! Every field of the message is either turned into what this server sets, or held against the model once it is loaded
//! (`agreement`), or refused where it is set to anything but its default.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use vespid_serving::{
    Agreement, InstanceGroup, Overrides, PackagePath, SequenceOverride, VersionPolicy, Waiting,
};
use vespid_types::{BackendName, Device, Error, ModelName};

use super::agreement::{Asked, Platform};
use super::describe::{LEVELS, PLUGIN};
use super::json::from_json;
use crate::grpc::proto::model_config::SchedulingChoice;
use crate::grpc::proto::model_instance_group::Kind;
use crate::grpc::proto::model_sequence_batching::{StrategyChoice, StrategyDirect, StrategyOldest};
use crate::grpc::proto::model_version_policy::PolicyChoice;
use crate::grpc::proto::{
    ModelConfig, ModelDynamicBatching, ModelInstanceGroup, ModelOptimizationPolicy, ModelOutput,
    ModelQueuePolicy, ModelSequenceBatching, ModelVersionPolicy,
};
use crate::wire::fault;

/// More than any configuration takes, and little enough to hold many times over: each entry takes more than its text.
const MAX_TEXT: usize = 1 << 20;

/// Reads the configuration that a load of the model `name` brings.
///
/// # Errors
/// What is wrong with it, by the field's name.
pub(in crate::wire) fn read(name: &ModelName, text: &str) -> Result<(Overrides, Agreement), Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::invalid(format!("config is longer than {MAX_TEXT} bytes")));
    }
    let json: Value =
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("config is not JSON: {error}")))?;
    // The message cannot tell 0 from nothing, and 0 asks for no batches.
    let says_rows = ["max_batch_size", "maxBatchSize"].iter().any(|key| json.get(key).is_some());
    let config = from_json(&json)?;
    if !config.name.is_empty() && config.name != name.as_str() {
        return Err(wrong("name", format_args!("'{}' is not the model's", fault::name(&config.name))));
    }
    let asked = Asked::of(&config, says_rows)?;
    let overrides = overrides(config, says_rows)?;
    Ok((overrides, Arc::new(move |model| asked.check(model))))
}

/// A refusal of a field.
pub(super) fn wrong(field: &str, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("config: {field}: {why}"))
}

/// Refuses a field that this server has no equal of.
fn refuse(field: &str, set: bool) -> Result<(), Error> {
    if set { Err(wrong(field, "this server has no equal of it: leave it out")) } else { Ok(()) }
}

fn overrides(config: ModelConfig, says_rows: bool) -> Result<Overrides, Error> {
    // Whole, so that no field that is ever added is passed over.
    let ModelConfig {
        name: _,
        platform,
        backend,
        runtime,
        version_policy: policy,
        max_batch_size,
        // Held against the model.
        input: _,
        output,
        batch_input,
        batch_output,
        optimization,
        instance_group,
        default_model_filename: _,
        cc_model_filenames,
        metric_tags,
        parameters,
        model_warmup,
        model_operations,
        model_transaction_policy: _,
        model_repository_agents,
        response_cache,
        model_metrics,
        scheduling_choice,
    } = config;
    refuse("runtime", !runtime.is_empty())?;
    refuse("batch_input", !batch_input.is_empty())?;
    refuse("batch_output", !batch_output.is_empty())?;
    refuse("optimization", optimization.is_some_and(|policy| optimizes(&policy)))?;
    refuse("cc_model_filenames", !cc_model_filenames.is_empty())?;
    refuse("metric_tags", !metric_tags.is_empty())?;
    refuse("model_warmup", !model_warmup.is_empty())?;
    refuse("model_operations", model_operations.is_some_and(|it| !it.op_library_filename.is_empty()))?;
    refuse("model_repository_agents", model_repository_agents.is_some_and(|it| !it.agents.is_empty()))?;
    refuse("response_cache.enable", response_cache.is_some_and(|cache| cache.enable))?;
    refuse("model_metrics", model_metrics.is_some_and(|it| !it.metric_control.is_empty()))?;
    let (mut calls, mut sequences) = (None, None);
    match scheduling_choice {
        None => {}
        Some(SchedulingChoice::DynamicBatching(batching)) => calls = Some(waiting(batching)?),
        Some(SchedulingChoice::SequenceBatching(batching)) => sequences = Some(sequence(batching)?),
        Some(SchedulingChoice::EnsembleScheduling(_)) => refuse("ensemble_scheduling", true)?,
    }
    let rows = u64::try_from(max_batch_size)
        .map_err(|_| wrong("max_batch_size", "use 0 (no batches) or a number of rows"))?;
    Ok(Overrides {
        backend: runner(&backend, &platform)?,
        max_rows: says_rows.then_some(rows.max(1)),
        waiting: calls,
        sequences,
        groups: instance_group.into_iter().map(group).collect::<Result<_, _>>()?,
        labels: labels(output)?,
        config: parameters
            .into_iter()
            .map(|(key, value)| (key, value.string_value))
            .collect::<BTreeMap<_, _>>(),
        versions: policy.map_or(Ok(VersionPolicy::All), versions)?,
    })
}

fn labels(outputs: Vec<ModelOutput>) -> Result<BTreeMap<String, PackagePath>, Error> {
    let labelled = outputs.into_iter().filter(|output| !output.label_filename.is_empty());
    let label = |output: ModelOutput| {
        let file = output.label_filename.parse();
        Ok((output.name, file.map_err(|error| wrong("output.label_filename", error))?))
    };
    labelled.map(label).collect()
}

/// Whether it asks for more than Triton fills in by itself. Pinned memory is a hint for copies that are not made here.
fn optimizes(policy: &ModelOptimizationPolicy) -> bool {
    let usual = ModelOptimizationPolicy {
        input_pinned_memory: policy.input_pinned_memory,
        output_pinned_memory: policy.output_pinned_memory,
        ..ModelOptimizationPolicy::default()
    };
    *policy != usual
}

/// The library that runs the model's graph, where one is named.
fn runner(backend: &str, platform: &str) -> Result<Option<BackendName>, Error> {
    let by_backend = match backend {
        "" | PLUGIN => None,
        "onnxruntime" => Some(BackendName::Onnxruntime),
        "openvino" => Some(BackendName::Openvino),
        "embedded" => Some(BackendName::Embedded),
        other => {
            let known = "use onnxruntime, openvino, embedded, or vespid for a model with a plugin";
            return Err(wrong("backend", format_args!("'{}' is not known: {known}", fault::name(other))));
        }
    };
    let by_platform = Platform::read(platform)?.and_then(Platform::backend);
    match (by_backend, by_platform) {
        (Some(one), Some(other)) if one != other => {
            Err(wrong("platform", format_args!("'{platform}' does not go with backend '{backend}'")))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn waiting(batching: ModelDynamicBatching) -> Result<Waiting, Error> {
    let ModelDynamicBatching {
        preferred_batch_size,
        max_queue_delay_microseconds,
        preserve_ordering,
        priority_levels,
        default_priority_level,
        default_queue_policy,
        priority_queue_policy,
    } = batching;
    refuse("dynamic_batching.preserve_ordering", preserve_ordering)?;
    if priority_levels > LEVELS {
        return Err(wrong("dynamic_batching.priority_levels", format_args!("use up to {LEVELS}")));
    }
    if default_priority_level > 1 {
        return Err(wrong("dynamic_batching.default_priority_level", "it is 1 of every model"));
    }
    refuse("dynamic_batching.priority_queue_policy", !priority_queue_policy.is_empty())?;
    let queue_limit = default_queue_policy.map_or(Ok(None), queue_limit)?;
    let sizes = preferred_batch_size.into_iter().map(|size| {
        let size = u64::try_from(size).ok().filter(|size| *size > 0);
        size.ok_or_else(|| wrong("dynamic_batching.preferred_batch_size", "use numbers of rows"))
    });
    // A batch that has come to the smallest waits no longer. Where none waits, there is nothing to end.
    let smallest = sizes.collect::<Result<Vec<_>, _>>()?.into_iter().min();
    Ok(Waiting {
        max_delay: Duration::from_micros(max_queue_delay_microseconds),
        preferred_rows: smallest.filter(|_| max_queue_delay_microseconds > 0),
        queue_limit,
    })
}

fn queue_limit(policy: ModelQueuePolicy) -> Result<Option<usize>, Error> {
    let ModelQueuePolicy {
        timeout_action,
        default_timeout_microseconds,
        // A request's own `timeout` always counts.
        allow_timeout_override: _,
        max_queue_size,
    } = policy;
    let field = |name: &str| format!("dynamic_batching.default_queue_policy.{name}");
    refuse(&field("timeout_action"), timeout_action != 0)?;
    refuse(&field("default_timeout_microseconds"), default_timeout_microseconds > 0)?;
    Ok(usize::try_from(max_queue_size).ok().filter(|size| *size > 0))
}

fn sequence(batching: ModelSequenceBatching) -> Result<SequenceOverride, Error> {
    let ModelSequenceBatching {
        max_sequence_idle_microseconds,
        control_input,
        state,
        iterative_sequence,
        strategy_choice,
    } = batching;
    // A plugin asks for what Triton hands to its models as inputs.
    refuse("sequence_batching.control_input", !control_input.is_empty())?;
    refuse("sequence_batching.state", !state.is_empty())?;
    refuse("sequence_batching.iterative_sequence", iterative_sequence)?;
    let max = match strategy_choice {
        None => 0,
        Some(StrategyChoice::Direct(direct)) => {
            refuse("sequence_batching.direct", direct != StrategyDirect::default())?;
            0
        }
        Some(StrategyChoice::Oldest(oldest)) => {
            let max = oldest.max_candidate_sequences;
            let usual = StrategyOldest { max_candidate_sequences: max, ..StrategyOldest::default() };
            refuse("sequence_batching.oldest", oldest != usual)?;
            max
        }
    };
    let max = usize::try_from(max).map_err(|_| {
        wrong("sequence_batching.oldest.max_candidate_sequences", "use a number of sequences")
    })?;
    let idle = Some(max_sequence_idle_microseconds).filter(|micros| *micros > 0);
    Ok(SequenceOverride { idle_timeout: idle.map(Duration::from_micros), max: NonZero::new(max) })
}

fn group(group: ModelInstanceGroup) -> Result<InstanceGroup, Error> {
    let ModelInstanceGroup {
        name,
        kind,
        count,
        rate_limiter,
        gpus,
        secondary_devices,
        profile,
        passive,
        host_policy,
    } = group;
    refuse("instance_group.rate_limiter", rate_limiter.is_some_and(|limiter| limiter != Default::default()))?;
    refuse("instance_group.secondary_devices", !secondary_devices.is_empty())?;
    refuse("instance_group.profile", !profile.is_empty())?;
    refuse("instance_group.passive", passive)?;
    refuse("instance_group.host_policy", !host_policy.is_empty())?;
    let instances = usize::try_from(count)
        .map(NonZero::new)
        .map_err(|_| wrong("instance_group.count", "use 1 or more"))?;
    let device = device(Kind::try_from(kind).unwrap_or_default(), &gpus)?;
    Ok(InstanceGroup { graph: Some(name).filter(|name| !name.is_empty()), instances, device })
}

/// Where a group runs; where `model.toml` says, if the group leaves it open.
fn device(kind: Kind, gpus: &[i32]) -> Result<Option<Device>, Error> {
    let index = match *gpus {
        [] => None,
        [index] => Some(
            u32::try_from(index)
                .map_err(|_| wrong("instance_group.gpus", format_args!("{index} is not an index")))?,
        ),
        [..] => {
            return Err(wrong("instance_group.gpus", "the sessions of a graph run on one device: name one"));
        }
    };
    match (kind, index) {
        (Kind::Auto | Kind::Gpu, Some(index)) => Ok(Some(Device::Gpu(index))),
        (Kind::Gpu, None) => Ok(Some(Device::Gpu(0))),
        (Kind::Cpu, None) => Ok(Some(Device::Cpu)),
        (Kind::Auto | Kind::Model, None) => Ok(None),
        (Kind::Cpu | Kind::Model, Some(_)) => {
            Err(wrong("instance_group.gpus", "only KIND_GPU and KIND_AUTO go with it"))
        }
    }
}

fn versions(policy: ModelVersionPolicy) -> Result<VersionPolicy, Error> {
    match policy.policy_choice {
        None | Some(PolicyChoice::All(_)) => Ok(VersionPolicy::All),
        Some(PolicyChoice::Latest(latest)) => NonZero::new(latest.num_versions)
            .map(VersionPolicy::Latest)
            .ok_or_else(|| wrong("version_policy.latest.num_versions", "use 1 or more")),
        Some(PolicyChoice::Specific(specific)) => {
            let parse = |version: &i64| {
                let parsed = version.to_string().parse();
                parsed.map_err(|error| wrong("version_policy.specific.versions", error))
            };
            let versions = specific.versions.iter().map(parse).collect::<Result<BTreeSet<_>, _>>()?;
            if versions.is_empty() {
                return Err(wrong("version_policy.specific.versions", "name at least one"));
            }
            Ok(VersionPolicy::Specific(versions))
        }
    }
}
