//! A request made from nothing but the model's metadata.

use std::fmt::Write;

use half::{bf16, f16};
use vespid_types::{Datatype, Extent, NamedTensor, Shape, Signature, Tensor, TensorSpec};

use super::Data;
use crate::failure::Failure;
use crate::predict::{shape as shapes, values};

/// An input's name and the shape that it is to have.
pub(super) type NamedShape = (String, Vec<u64>);

/// Each element of a BYTES input.
const TEXT: &str = "The quick brown fox jumps over the lazy dog.";

/// More than any server takes: a slip in --shape is not to take the machine's memory.
const MAX_BYTES: u64 = 1 << 30;

/// Reads `NAME=EXTENTS`.
pub(super) fn shape(text: &str) -> Result<NamedShape, String> {
    let unreadable = || "write NAME=EXTENTS, such as image=1,3,224,224".to_owned();
    let (name, extents) = text.rsplit_once('=').ok_or_else(unreadable)?;
    let extents = extents.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let extents = extents.map(str::parse).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    Ok((name.to_owned(), extents))
}

/// The inputs that a request must have, and the optional ones for which a shape is given.
pub(super) fn make(
    signature: &Signature,
    shapes: &[NamedShape],
    data: Data,
    seed: u64,
) -> Result<Vec<NamedTensor>, Failure> {
    if let Some((name, _)) = shapes.iter().find(|(name, _)| signature.input(name).is_none()) {
        return Err(Failure::usage(format!("--shape: the model has no input '{name}'"))
            .hint(values::describe(signature)));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut inputs = Vec::new();
    for spec in &signature.inputs {
        let given = shapes.iter().find(|(name, _)| *name == spec.name).map(|(_, extents)| extents);
        if given.is_some() || !spec.optional {
            let shape = shape_of(spec, given);
            let tensor = tensor(spec, shape, data, &mut random)?;
            inputs.push(NamedTensor { name: spec.name.clone(), tensor });
        }
    }
    Ok(inputs)
}

/// What was made, for people.
pub(super) fn describe(inputs: &[NamedTensor], data: Data, seed: u64) -> String {
    if inputs.is_empty() {
        return "made a request without inputs".to_owned();
    }
    let mut text = String::from("made");
    let mut separator = " ";
    for NamedTensor { name, tensor } in inputs {
        // Writing to a text does not fail.
        let _ = write!(text, "{separator}'{name}' {} {}", tensor.datatype(), tensor.shape());
        separator = ", ";
    }
    let filled = match data {
        Data::Random => format!("random, seed {seed}"),
        Data::Zeros => "zeros".to_owned(),
    };
    let only_text = inputs.iter().all(|input| input.tensor.datatype() == Datatype::Bytes);
    text + &if only_text { format!(": '{TEXT}'") } else { format!(": {filled}") }
}

fn shape_of(spec: &TensorSpec, given: Option<&Vec<u64>>) -> Shape {
    let open = |extent: &Extent| match extent {
        Extent::Any => 1,
        Extent::Fixed(n) => *n,
    };
    match given {
        Some(extents) => Shape::from(extents.as_slice()),
        None => spec.shape.iter().map(open).collect(),
    }
}

fn tensor(
    spec: &TensorSpec,
    shape: Shape,
    data: Data,
    random: &mut fastrand::Rng,
) -> Result<Tensor, Failure> {
    let misfit = |reason: String| {
        let expected = shapes::text(&spec.shape);
        Failure::usage(format!("input '{}': {reason}", spec.name))
            .hint(format!("it is {} of shape {expected}; write --shape '{}=...'", spec.datatype, spec.name))
    };
    let size = spec.datatype.size().unwrap_or(4 + TEXT.len()) as u64;
    let bytes = shape.elements().and_then(|elements| elements.checked_mul(size));
    let Some(bytes) = bytes.filter(|bytes| *bytes <= MAX_BYTES) else {
        return Err(misfit(format!("shape {shape} takes more than 1 GiB")));
    };
    let mut raw = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    for _ in 0..bytes / size {
        element(spec.datatype, data, random, &mut raw);
    }
    let tensor = Tensor::new(spec.datatype, shape, raw.into()).map_err(|error| misfit(error.to_string()))?;
    spec.check(&tensor).map_err(|error| misfit(error.to_string()))?;
    Ok(tensor)
}

/// Integers are 0 or 1: they may be indices, masks or kinds, and those two are in range for nearly every graph.
fn element(datatype: Datatype, data: Data, random: &mut fastrand::Rng, raw: &mut Vec<u8>) {
    match (datatype, data) {
        (Datatype::Bytes, _) => {
            raw.extend((TEXT.len() as u32).to_le_bytes());
            raw.extend(TEXT.as_bytes());
        }
        (_, Data::Zeros) => raw.resize(raw.len() + datatype.size().unwrap_or_default(), 0),
        (Datatype::Fp16, _) => raw.extend(f16::from_f32(random.f32()).to_le_bytes()),
        (Datatype::Bf16, _) => raw.extend(bf16::from_f32(random.f32()).to_le_bytes()),
        (Datatype::Fp32, _) => raw.extend(random.f32().to_le_bytes()),
        (Datatype::Fp64, _) => raw.extend(random.f64().to_le_bytes()),
        // Little-endian: the lowest byte comes first.
        _ => {
            let end = raw.len() + datatype.size().unwrap_or_default();
            raw.push(u8::from(random.bool()));
            raw.resize(end, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: Datatype, shape: &[i64], optional: bool) -> TensorSpec {
        let shape = shape.iter().map(|n| Extent::from_signed(*n).unwrap()).collect();
        TensorSpec { name: name.into(), datatype, shape, optional }
    }

    fn signature() -> Signature {
        let inputs = vec![
            spec("x", Datatype::Fp32, &[-1, 4], false),
            spec("ids", Datatype::Int64, &[-1, -1], false),
            spec("text", Datatype::Bytes, &[-1], false),
            spec("extra", Datatype::Bool, &[2], true),
        ];
        Signature { inputs, outputs: vec![] }
    }

    #[test]
    fn open_extents_become_one_or_what_is_said() {
        let made = |shapes: &[&str]| {
            let shapes: Vec<NamedShape> = shapes.iter().map(|text| shape(text).unwrap()).collect();
            let inputs = make(&signature(), &shapes, Data::Random, 7).unwrap();
            signature().check_inputs(&inputs).unwrap();
            inputs.iter().map(|i| format!("{} {}", i.name, i.tensor.shape())).collect::<Vec<_>>()
        };
        assert_eq!(made(&[]), ["x [1, 4]", "ids [1, 1]", "text [1]"]);
        assert_eq!(
            made(&["x=8,4", "ids=8, 16", "text=8", "extra=2"]),
            ["x [8, 4]", "ids [8, 16]", "text [8]", "extra [2]"]
        );
    }

    #[test]
    fn every_datatype_is_made_and_a_seed_makes_the_same() {
        for datatype in Datatype::ALL {
            let signature = Signature { inputs: vec![spec("x", datatype, &[64], false)], outputs: vec![] };
            for data in [Data::Random, Data::Zeros] {
                let made = |seed| make(&signature, &[], data, seed).unwrap().remove(0).tensor;
                assert_eq!(made(1), made(1), "{datatype}");
                let differs = made(1) != made(2);
                assert_eq!(differs, data == Data::Random && datatype != Datatype::Bytes, "{datatype}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fails = |text: &str, part: &str| {
            let shapes = [shape(text).unwrap()];
            let message = make(&signature(), &shapes, Data::Zeros, 0).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        fails("y=1", "no input 'y'");
        fails("x=1,5", "[1, 5]");
        fails("x=1", "[1]");
        fails("ids=99999999,99999999", "1 GiB");
        assert!(shape("x").is_err() && shape("x=a").is_err() && shape("x=-1").is_err());
    }

    #[test]
    fn what_was_made_is_told() {
        let inputs = make(&signature(), &[], Data::Random, 3).unwrap();
        let text = "made 'x' FP32 [1, 4], 'ids' INT64 [1, 1], 'text' BYTES [1]: random, seed 3";
        assert_eq!(describe(&inputs, Data::Random, 3), text);
        assert!(
            describe(&inputs[2..], Data::Random, 3)
                .ends_with("'The quick brown fox jumps over the lazy dog.'")
        );
    }
}
