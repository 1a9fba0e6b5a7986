//! The Open Inference Protocol's forms that the commands read, and the paths that they ask for.

use serde::Deserialize;
use serde_json::Value;
use vespid_types::{Datatype, Extent, ModelName, Signature, TensorSpec, Version};

/// The list of a repository's models.
pub(crate) const INDEX_PATH: &str = "/v2/repository/index";

/// A version of a model, to ask or to describe.
pub(crate) fn model_path(model: &ModelName, version: Option<Version>) -> String {
    match version {
        Some(version) => format!("/v2/models/{model}/versions/{version}"),
        None => format!("/v2/models/{model}"),
    }
}

/// A version of a model as a thing to put into a repository or take out.
pub(crate) fn repository_path(model: &ModelName, version: Version) -> String {
    format!("/v2/repository/models/{model}/versions/{version}")
}

/// How a model's traffic is led.
pub(crate) fn traffic_path(model: &ModelName) -> String {
    format!("/v2/repository/models/{model}/traffic")
}

/// An entry of a repository's index.
#[derive(Debug, Deserialize)]
pub(crate) struct IndexEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) reason: String,
}

/// A model's metadata. Servers add keys of their own, which are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    #[serde(default)]
    inputs: Vec<MetadataTensor>,
    #[serde(default)]
    outputs: Vec<MetadataTensor>,
}

#[derive(Debug, Deserialize)]
struct MetadataTensor {
    name: String,
    datatype: Datatype,
    shape: Vec<Extent>,
    #[serde(default)]
    optional: bool,
}

impl From<Metadata> for Signature {
    fn from(metadata: Metadata) -> Self {
        let specs = |tensors: Vec<MetadataTensor>| {
            let spec = |t: MetadataTensor| TensorSpec {
                name: t.name,
                datatype: t.datatype,
                shape: t.shape,
                optional: t.optional,
            };
            tensors.into_iter().map(spec).collect()
        };
        Self { inputs: specs(metadata.inputs), outputs: specs(metadata.outputs) }
    }
}

/// A prediction, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(crate) struct Prediction {
    pub(crate) outputs: Vec<Output>,
}

/// An output of a prediction.
#[derive(Debug, Deserialize)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<u64>,
    #[serde(default)]
    data: Value,
}

impl Output {
    /// The elements in row-major order: the protocol lets a server nest them or not.
    pub(crate) fn elements(&self) -> Vec<&Value> {
        let mut elements = Vec::new();
        flatten(&self.data, &mut elements);
        elements
    }
}

fn flatten<'a>(value: &'a Value, elements: &mut Vec<&'a Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, elements)),
        Value::Null if elements.is_empty() => {}
        value => elements.push(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_a_signature() {
        let json = r#"{"name":"m","versions":["1"],"platform":"x","inputs":
            [{"name":"a","datatype":"FP32","shape":[-1,4],"labels":[]}],"outputs":[]}"#;
        let metadata: Metadata = serde_json::from_str(json).unwrap();
        let signature = Signature::from(metadata);
        assert_eq!(signature.inputs[0].shape, [Extent::Any, Extent::Fixed(4)]);
    }

    #[test]
    fn data_may_be_nested() {
        let output: Output =
            serde_json::from_str(r#"{"name":"o","datatype":"INT64","shape":[2,2],"data":[[1,2],[3,4]]}"#)
                .unwrap();
        assert_eq!(
            output.elements().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["1", "2", "3", "4"]
        );
    }
}
