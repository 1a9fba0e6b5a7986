//! What the server says of itself, of its models and of their repository, whichever protocol asks.

use axum::http::HeaderMap;
use vespid_auth::Action;
use vespid_serving::{State, Statistics};
use vespid_types::{ModelName, ModelRef, Result, Version};

use crate::Api;
use crate::access::Rights;
use crate::grpc::proto::ModelConfig;
use crate::version::chosen;
use crate::wire::config;
use crate::wire::metadata::{ModelMetadata, ModelState, RepositoryIndexEntry, ServerMetadata};
use crate::wire::statistics::ModelStatistics;

/// Triton's extensions that are supported, by Triton's names.
const EXTENSIONS: [&str; 12] = [
    "binary_tensor_data",
    "classification",
    "generate",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
    "trace",
];

/// The server's name, version and protocol extensions.
pub(crate) fn server() -> ServerMetadata {
    ServerMetadata {
        name: "vespid".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

fn to_wire((name, version, counted): (ModelName, Version, Statistics)) -> ModelStatistics {
    ModelStatistics::new(name, version, counted)
}

impl Api {
    /// Whether the server is ready: the models that it had at its start are loaded, and it has not been told to end.
    pub(crate) fn is_ready(&self) -> bool {
        let streams = self.streams.as_ref().is_none_or(|streams| streams.get().is_some());
        streams && self.repository.is_loaded() && !*self.stopping.borrow()
    }

    /// What a model takes and gives, and its versions; of one version where one is named.
    pub(crate) async fn metadata(&self, target: ModelRef, headers: &HeaderMap) -> Result<ModelMetadata> {
        let model = self.predictor.resolve(&chosen(&target, headers)?).await?;
        let versions = match target {
            ModelRef { version: Some(version), .. } => vec![version],
            ModelRef { name, version: None } => self.predictor.ready_versions(&name),
        };
        Ok(ModelMetadata::new(model.name().clone(), versions, model.platform(), model.signature()))
    }

    /// How a version is configured.
    pub(crate) async fn config(&self, target: &ModelRef, headers: &HeaderMap) -> Result<ModelConfig> {
        Ok(config::describe(&*self.predictor.resolve(&chosen(target, headers)?).await?))
    }

    /// What every version of every model has counted that the caller may read of.
    pub(crate) fn all_statistics(&self, rights: &Rights) -> Vec<ModelStatistics> {
        let counted = self.predictor.statistics().into_iter();
        counted.filter(|(name, ..)| rights.has(Action::ReadMetadata, name.as_str())).map(to_wire).collect()
    }

    /// What a version has counted; of all versions where none is named.
    pub(crate) fn statistics(&self, target: &ModelRef) -> Result<Vec<ModelStatistics>> {
        // Says why there is none.
        self.predictor.check(target)?;
        let counted = self.predictor.statistics_of(&target.name).into_iter();
        let asked = counted.filter(|(_, version, _)| target.version.is_none_or(|asked| asked == *version));
        Ok(asked.map(to_wire).collect())
    }

    /// Every version of every model that the caller may read of; of those only that can be called where `ready`.
    pub(crate) fn index(&self, ready: bool, rights: &Rights) -> Vec<RepositoryIndexEntry> {
        let entries = self.predictor.index().into_iter();
        let entries = entries.filter(|entry| rights.has(Action::ReadMetadata, entry.name.as_str()));
        let wanted = entries.filter(|entry| !ready || matches!(entry.state, State::Ready | State::Idle));
        let to_wire = wanted.map(|entry| RepositoryIndexEntry {
            name: entry.name,
            version: Some(entry.version),
            state: match entry.state {
                State::Loading => ModelState::Loading,
                State::Ready | State::Idle => ModelState::Ready,
                State::Unloading => ModelState::Unloading,
                State::Unavailable => ModelState::Unavailable,
            },
            reason: entry.reason,
        });
        to_wire.collect()
    }
}
