//! Descriptions of the server, its models and their repository as messages.

use axum::http::HeaderMap;
use vespid_auth::Action;
use vespid_types::{Error, ErrorCode, Extent};

use super::decode::target;
use super::proto::MemoryUsage as MemoryMessage;
use super::proto::model_metadata_response::TensorMetadata as TensorMessage;
use super::proto::repository_index_response::ModelIndex;
use super::proto::{
    InferBatchStatistics, InferStatistics, ModelConfigResponse, ModelMetadataResponse,
    ModelStatistics as StatisticsMessage, ModelStatisticsResponse, RepositoryIndexResponse,
    ServerMetadataResponse, StatisticDuration,
};
use crate::access::{Purpose, Rights};
use crate::version::chosen;
use crate::wire::metadata::{
    ModelMetadata, ModelState, RepositoryIndexEntry, ServerMetadata, TensorMetadata,
};
use crate::wire::statistics::{BatchStatistics, Duration, InferenceStatistics, MemoryUsage, ModelStatistics};
use crate::{Api, describe};

pub(super) fn server() -> ServerMetadataResponse {
    let ServerMetadata { name, version, extensions } = describe::server();
    ServerMetadataResponse { name, version, extensions }
}

pub(super) async fn model(
    api: &Api,
    model: &str,
    version: &str,
    headers: &HeaderMap,
) -> Result<ModelMetadataResponse, Error> {
    let ModelMetadata { name, versions, platform, inputs, outputs } =
        api.metadata(target(model, version)?, headers).await?;
    Ok(ModelMetadataResponse {
        name: name.into(),
        versions: versions.into_iter().map(String::from).collect(),
        platform,
        inputs: inputs.into_iter().map(tensor).collect(),
        outputs: outputs.into_iter().map(tensor).collect(),
    })
}

fn tensor(TensorMetadata { name, datatype, shape }: TensorMetadata) -> TensorMessage {
    let shape = shape.into_iter().map(Extent::to_signed).collect();
    TensorMessage { name, datatype: datatype.as_str().to_owned(), shape }
}

/// Whether a model can be called. One that is not there cannot, as Triton has it.
pub(super) fn is_ready(api: &Api, model: &str, version: &str, headers: &HeaderMap) -> Result<bool, Error> {
    match api.predictor.check(&chosen(&target(model, version)?, headers)?) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Unavailable) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn index(api: &Api, ready: bool, rights: &Rights) -> RepositoryIndexResponse {
    RepositoryIndexResponse { models: api.index(ready, rights).into_iter().map(index_entry).collect() }
}

fn index_entry(entry: RepositoryIndexEntry) -> ModelIndex {
    let state = match entry.state {
        ModelState::Unknown => "UNKNOWN",
        ModelState::Ready => "READY",
        ModelState::Unavailable => "UNAVAILABLE",
        ModelState::Loading => "LOADING",
        ModelState::Unloading => "UNLOADING",
    };
    ModelIndex {
        name: entry.name.into(),
        version: entry.version.map(String::from).unwrap_or_default(),
        state: state.to_owned(),
        reason: entry.reason,
    }
}

/// What models have counted; all of them that the caller may read of where none is named.
pub(super) async fn statistics(
    api: &Api,
    model: &str,
    version: &str,
    rights: &Rights,
) -> Result<ModelStatisticsResponse, Error> {
    let counted = match (model, version) {
        ("", "") => api.all_statistics(rights),
        ("", _) => return Err(Error::invalid("version: it is of no model: give its name as well")),
        _ => {
            rights.permit(&Purpose::model(Action::ReadMetadata, model)).await?;
            api.statistics(&target(model, version)?)?
        }
    };
    Ok(ModelStatisticsResponse { model_stats: counted.into_iter().map(statistics_message).collect() })
}

fn statistics_message(counted: ModelStatistics) -> StatisticsMessage {
    let InferenceStatistics {
        success,
        fail,
        queue,
        compute_input,
        compute_infer,
        compute_output,
        cache_hit,
        cache_miss,
    } = counted.inference_stats;
    StatisticsMessage {
        name: counted.name.into(),
        version: counted.version.into(),
        last_inference: counted.last_inference,
        inference_count: counted.inference_count,
        execution_count: counted.execution_count,
        inference_stats: Some(InferStatistics {
            success: duration(success),
            fail: duration(fail),
            queue: duration(queue),
            compute_input: duration(compute_input),
            compute_infer: duration(compute_infer),
            compute_output: duration(compute_output),
            cache_hit: duration(cache_hit),
            cache_miss: duration(cache_miss),
        }),
        batch_stats: counted.batch_stats.iter().map(batch).collect(),
        memory_usage: counted.memory_usage.into_iter().map(memory).collect(),
        ..StatisticsMessage::default()
    }
}

fn memory(memory: MemoryUsage) -> MemoryMessage {
    let MemoryUsage { r#type, id, byte_size } = memory;
    MemoryMessage { r#type: r#type.to_owned(), id, byte_size }
}

fn batch(batch: &BatchStatistics) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: duration(batch.compute_input),
        compute_infer: duration(batch.compute_infer),
        compute_output: duration(batch.compute_output),
    }
}

/// A message within a message is optional.
fn duration(Duration { count, ns }: Duration) -> Option<StatisticDuration> {
    Some(StatisticDuration { count, ns })
}

/// A model's configuration in Triton's words.
pub(super) async fn config(
    api: &Api,
    model: &str,
    version: &str,
    headers: &HeaderMap,
) -> Result<ModelConfigResponse, Error> {
    Ok(ModelConfigResponse { config: Some(api.config(&target(model, version)?, headers).await?) })
}
