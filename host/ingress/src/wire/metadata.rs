//! The protocol's descriptions of the server, its models and their repository.
//!
//! Contract: the field names and their order are the protocol's. Cost: plain structs, for paths that are seldom
//! walked. Left out on purpose: what models configure
//! (Triton's `model_configuration`).

use serde::{Deserialize, Serialize};
use vespid_types::{Datatype, Extent, ModelName, Signature, TensorSpec, Version};

/// What `GET /v2` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// The protocol extensions that the server supports, such as `binary_tensor_data`.
    pub extensions: Vec<String>,
}

/// What `GET /v2/models/{name}` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// The model.
    pub name: ModelName,
    /// Its versions that can be called.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// What runs it.
    pub platform: String,
    /// What a request brings.
    pub inputs: Vec<TensorMetadata>,
    /// What a response holds.
    pub outputs: Vec<TensorMetadata>,
}

/// An input or output in [`ModelMetadata`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// The name that requests use.
    pub name: String,
    /// The type of the elements.
    pub datatype: Datatype,
    /// One entry a dimension, -1 where any extent is accepted.
    pub shape: Vec<Extent>,
}

impl ModelMetadata {
    /// The description of a model with this signature.
    #[must_use]
    pub fn new(
        name: ModelName,
        versions: Vec<Version>,
        platform: impl Into<String>,
        signature: &Signature,
    ) -> Self {
        let describe = |specs: &[TensorSpec]| specs.iter().map(TensorMetadata::from).collect();
        Self {
            name,
            versions,
            platform: platform.into(),
            inputs: describe(&signature.inputs),
            outputs: describe(&signature.outputs),
        }
    }
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        Self { name: spec.name.clone(), datatype: spec.datatype, shape: spec.shape.clone() }
    }
}

/// What `POST /v2/repository/index` brings. An empty body stands for the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryIndexRequest {
    /// Whether to list only what can be called.
    #[serde(default)]
    pub ready: bool,
}

/// One version of a model in the answer to a [`RepositoryIndexRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryIndexEntry {
    /// The model.
    pub name: ModelName,
    /// The version; none for a model of which no version was ever loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What can be done with it.
    pub state: ModelState,
    /// Why it is in that state; empty where there is nothing to say.
    #[serde(default)]
    pub reason: String,
}

/// Whether a version of a model can be called, in Triton's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModelState {
    /// Nothing is known of it.
    Unknown,
    /// It can be called.
    Ready,
    /// It cannot be called.
    Unavailable,
    /// It is being loaded.
    Loading,
    /// It finishes the calls that it has.
    Unloading,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn models_are_described_as_the_protocol_has_it() {
        let signature: Signature = serde_json::from_value(json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4], "optional": true}],
            "outputs": [{"name": "y", "datatype": "BYTES", "shape": []}],
        }))
        .unwrap();
        let versions = vec!["1".parse().unwrap(), "3".parse().unwrap()];
        let metadata = ModelMetadata::new("iris".parse().unwrap(), versions, "vespid", &signature);
        assert_eq!(
            serde_json::to_value(&metadata).unwrap(),
            json!({
                "name": "iris",
                "versions": ["1", "3"],
                "platform": "vespid",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                "outputs": [{"name": "y", "datatype": "BYTES", "shape": []}],
            })
        );
    }

    #[test]
    fn the_index_is_triton_s() {
        let entry = RepositoryIndexEntry {
            name: "iris".parse().unwrap(),
            version: Some("1".parse().unwrap()),
            state: ModelState::Ready,
            reason: String::new(),
        };
        let json = json!({"name": "iris", "version": "1", "state": "READY", "reason": ""});
        assert_eq!(serde_json::to_value(entry).unwrap(), json);
        assert!(!serde_json::from_str::<RepositoryIndexRequest>("{}").unwrap().ready);
    }
}
