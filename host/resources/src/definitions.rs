//! The definitions of the custom resources, as the API server is given them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::{BatchPrediction, Model, ModelPool, StreamPrediction};

/// The definitions, in the order of their names.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![BatchPrediction::crd(), ModelPool::crd(), Model::crd(), StreamPrediction::crd()]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Structural schemas have a type for every field, or say that anything goes.
    fn check(path: &str, schema: &Value) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, schema) in properties {
                check(&format!("{path}.{name}"), schema);
            }
        }
        for part in ["items", "additionalProperties"] {
            if let Some(schema @ Value::Object(_)) = schema.get(part) {
                check(&format!("{path}[]"), schema);
            }
        }
        let said = ["type", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
        assert!(said.iter().any(|said| schema.get(said).is_some()), "{path}: {schema}");
        assert!(
            schema.get("description").is_some() || !path.starts_with("vespid"),
            "{path} is not described"
        );
    }

    #[test]
    fn definitions_are_structural_and_have_rules() {
        for definition in definitions() {
            let definition = serde_json::to_value(definition).unwrap();
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            check(definition["spec"]["names"]["kind"].as_str().unwrap(), schema);
            assert!(definition.to_string().contains("x-kubernetes-validations"));
        }
    }

    #[test]
    fn the_rules_of_a_model_are_told_by_their_messages() {
        let model = |spec: Value| -> Model {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris"}, "spec": spec
            }))
            .unwrap()
        };
        let package = serde_json::json!({"oci": "oci://registry.example/iris:1"});
        let good = model(serde_json::json!({"versions": [{"version": 1, "package": package}]}));
        assert_eq!((good.spec.pool.as_str(), good.spec.replicas), ("default", 1));
        let crd = serde_json::to_value(Model::crd()).unwrap().to_string();
        for message in [
            "name one of oci, store and upload",
            "a version is never overwritten",
            "name one of the versions",
        ] {
            assert!(crd.contains(message), "{message}");
        }
    }
}
