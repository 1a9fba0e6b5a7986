//! What a signature says of a model's requests and answers: schemas, and examples.

use serde_json::{Map, Value, json};
use vespid_types::{Datatype, Extent, ModelName, Signature, TensorSpec};

/// The longest list that is written out as an example.
const MAX_EXAMPLE: u64 = 256;

/// The schemas that are one model's own, in the place of the general ones.
pub(super) fn schemas(signature: &Signature) -> Map<String, Value> {
    let tensors = |specs: &[TensorSpec], required: &[&str]| {
        let one = |spec: &TensorSpec| {
            json!({
                "type": "object",
                "required": required,
                "properties": {
                    "name": {"const": spec.name},
                    "datatype": {"const": spec.datatype.as_str()},
                    "shape": shape(spec),
                    "data": {"$ref": "#/components/schemas/TensorData"},
                    "parameters": {"type": ["object", "null"]},
                },
            })
        };
        json!({"anyOf": specs.iter().map(one).collect::<Vec<_>>()})
    };
    let inputs = tensors(&signature.inputs, &["name", "shape", "datatype"]);
    let outputs = tensors(&signature.outputs, &["name", "shape", "datatype"]);
    let mut schemas = Map::new();
    // Of none there is nothing to say.
    if !signature.inputs.is_empty() {
        schemas.insert("InferInput".to_owned(), inputs);
    }
    if !signature.outputs.is_empty() {
        schemas.insert("InferOutput".to_owned(), outputs);
    }
    schemas
}

fn shape(spec: &TensorSpec) -> Value {
    let extents = spec.shape.iter().map(|extent| match extent {
        Extent::Any => json!({"type": "integer", "minimum": 0}),
        Extent::Fixed(extent) => json!({"const": extent}),
    });
    let rank = spec.shape.len();
    json!({"type": "array", "prefixItems": extents.collect::<Vec<_>>(), "minItems": rank, "maxItems": rank})
}

/// A request of each kind, by the name of its schema. Those that the signature does not tell are left out.
pub(super) fn requests(name: &ModelName, signature: &Signature) -> Vec<(&'static str, Value)> {
    let mut requests = Vec::new();
    let tensors: Option<Vec<_>> = signature.inputs.iter().map(|spec| Some((spec, extents(spec)?))).collect();
    let Some(tensors) = tensors else { return requests };
    let input = |(spec, extents): &(&TensorSpec, Vec<u64>)| {
        let elements = extents.iter().product::<u64>();
        let data = (0..elements).map(|_| element(spec.datatype)).collect::<Vec<_>>();
        json!({"name": spec.name, "datatype": spec.datatype.as_str(), "shape": extents, "data": data})
    };
    requests.push(("InferRequest", json!({"inputs": tensors.iter().map(input).collect::<Vec<_>>()})));
    let value =
        |(spec, extents): &(&TensorSpec, Vec<u64>)| (spec.name.clone(), nested(spec.datatype, extents));
    requests.push(("GenerateRequest", Value::Object(tensors.iter().map(value).collect())));
    if tensors.iter().all(|(_, extents)| extents.first() == Some(&1)) {
        let row = |(spec, extents): &(&TensorSpec, Vec<u64>)| {
            (spec.name.clone(), nested(spec.datatype, extents.get(1..).unwrap_or_default()))
        };
        let row = Value::Object(tensors.iter().map(row).collect());
        requests.push(("PredictRequest", json!({"instances": [row]})));
    }
    requests.push(("EmbeddingsRequest", json!({"model": name, "input": ["text"]})));
    requests
}

/// The model's shape with 1 for what is open; none where that is too much to write out.
fn extents(spec: &TensorSpec) -> Option<Vec<u64>> {
    let extents: Vec<u64> = spec
        .shape
        .iter()
        .map(|extent| match extent {
            Extent::Any => 1,
            Extent::Fixed(extent) => *extent,
        })
        .collect();
    let elements = extents.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent))?;
    // Of nothing, however it is nested, an example would show nothing.
    (1..=MAX_EXAMPLE).contains(&elements).then_some(extents)
}

fn nested(datatype: Datatype, extents: &[u64]) -> Value {
    match extents.split_first() {
        None => element(datatype),
        Some((extent, rest)) => (0..*extent).map(|_| nested(datatype, rest)).collect(),
    }
}

fn element(datatype: Datatype) -> Value {
    match datatype {
        Datatype::Bool => false.into(),
        Datatype::Bytes => "text".into(),
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => 0.0.into(),
        _ => 0.into(),
    }
}
