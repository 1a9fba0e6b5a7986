//! Reads `NAME=VALUES`: the model's signature says how.

mod split;

use std::fs;
use std::str::FromStr;

use bytes::Bytes;
use half::{bf16, f16};
use vespid_types::{Datatype, NamedTensor, Shape, Signature, Tensor, TensorSpec, encode_elements};

use self::split::{Field, Grid};
use super::shape;
use crate::failure::{Failure, Hint};

/// All inputs of a request.
pub(super) fn read(arguments: &[String], signature: &Signature) -> Result<Vec<NamedTensor>, Failure> {
    arguments.iter().map(|argument| read_one(argument, signature)).collect()
}

/// The model's inputs, for a hint.
pub(crate) fn describe(signature: &Signature) -> String {
    let inputs: Vec<String> = signature
        .inputs
        .iter()
        .map(|spec| format!("'{}' {} {}", spec.name, spec.datatype, shape::text(&spec.shape)))
        .collect();
    format!("the model takes {}", if inputs.is_empty() { "no inputs".to_owned() } else { inputs.join(", ") })
}

fn read_one(argument: &str, signature: &Signature) -> Result<NamedTensor, Failure> {
    let (left, text) = argument.split_once('=').ok_or_else(|| {
        Failure::usage(format!("'{argument}' is not NAME=VALUES")).hint(describe(signature))
    })?;
    let (spec, shape) = target(left, signature).ok_or_else(|| {
        Failure::usage(format!("the model has no input '{left}'")).hint(describe(signature))
    })?;
    if spec.datatype != Datatype::Bytes
        && let Some(path) = text.strip_prefix('@')
    {
        return raw_file(spec, shape, path);
    }
    if text.is_empty() && shape.as_ref().is_some_and(|shape| shape.elements() == Some(0)) {
        return tensor(spec, shape, (0, 0), Bytes::new());
    }
    let grid =
        split::split(text).ok_or_else(|| misfit(spec, "the rows, which ';' sets apart, differ in length"))?;
    if spec.datatype == Datatype::Bytes {
        let elements = grid.fields.iter().map(element).collect::<Result<Vec<_>, _>>()?;
        return bytes_tensor(spec, shape, (grid.rows, grid.columns), &elements);
    }
    let data = encode(spec, &grid)?;
    tensor(spec, shape, (grid.rows, grid.columns), data)
}

/// The input that `NAME` or `NAME[SHAPE]` stands for.
fn target<'a>(left: &str, signature: &'a Signature) -> Option<(&'a TensorSpec, Option<Shape>)> {
    if let Some(spec) = signature.input(left) {
        return Some((spec, None));
    }
    let (name, extents) = left.strip_suffix(']')?.rsplit_once('[')?;
    let extents: Result<Vec<u64>, _> =
        extents.split(',').filter(|e| !e.trim().is_empty()).map(|e| e.trim().parse()).collect();
    Some((signature.input(name)?, Some(Shape::from(extents.ok()?.as_slice()))))
}

/// A BYTES tensor of the elements, in `rows` by `columns` where no shape is given.
pub(super) fn bytes_tensor<E: AsRef<[u8]>>(
    spec: &TensorSpec,
    shape: Option<Shape>,
    grid: (usize, usize),
    elements: &[E],
) -> Result<NamedTensor, Failure> {
    let data = encode_elements(elements).hint("a file is too large", "BYTES elements end at 4 GiB")?;
    tensor(spec, shape, grid, data)
}

fn tensor(
    spec: &TensorSpec,
    shape: Option<Shape>,
    (rows, columns): (usize, usize),
    data: Bytes,
) -> Result<NamedTensor, Failure> {
    let shape = match shape {
        Some(shape) => shape,
        None => {
            shape::infer(&spec.shape, rows, columns).map_err(|shape::Misfit(text)| misfit(spec, &text))?
        }
    };
    let tensor = Tensor::new(spec.datatype, shape, data).map_err(|error| misfit(spec, &error.to_string()))?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

fn misfit(spec: &TensorSpec, text: &str) -> Failure {
    let TensorSpec { name, datatype, .. } = spec;
    Failure::usage(format!("input '{name}': {text}")).hint(format!(
        "it is {datatype} of shape {}; write values as 1,2;3,4, or the shape too as '{name}[2,2]=1,2,3,4'",
        shape::text(&spec.shape)
    ))
}

fn element(field: &Field) -> Result<Vec<u8>, Failure> {
    match field {
        Field::Text(text) => Ok(text.clone().into_bytes()),
        Field::File(path) => read_file(path),
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path)
        .hint(format!("{path} cannot be read"), "check the path; for a text that begins with @ write \\@")
}

/// A tensor's data as it lies in a file.
fn raw_file(spec: &TensorSpec, shape: Option<Shape>, path: &str) -> Result<NamedTensor, Failure> {
    let data = read_file(path)?;
    let size = spec.datatype.size().unwrap_or(1);
    if !data.len().is_multiple_of(size) {
        return Err(misfit(spec, &format!("{path} has {} bytes; an element takes {size}", data.len())));
    }
    let elements = data.len() / size;
    tensor(spec, shape, (1, elements), data.into())
}

/// The numbers in the protocol's raw layout.
fn encode(spec: &TensorSpec, grid: &Grid) -> Result<Bytes, Failure> {
    let mut data = Vec::with_capacity(grid.fields.len() * spec.datatype.size().unwrap_or(1));
    for field in &grid.fields {
        let text = match field {
            Field::Text(text) => text.trim(),
            Field::File(_) => return Err(misfit(spec, "a file gives all of the values or none")),
        };
        number(spec.datatype, text, &mut data)
            .ok_or_else(|| misfit(spec, &format!("'{text}' is not a value of {}", spec.datatype)))?;
    }
    Ok(data.into())
}

fn number(datatype: Datatype, text: &str, data: &mut Vec<u8>) -> Option<()> {
    match datatype {
        Datatype::Bool => data.push(boolean(text)?),
        Datatype::Uint8 => data.push(parse::<u8>(text)?),
        Datatype::Uint16 => data.extend(parse::<u16>(text)?.to_le_bytes()),
        Datatype::Uint32 => data.extend(parse::<u32>(text)?.to_le_bytes()),
        Datatype::Uint64 => data.extend(parse::<u64>(text)?.to_le_bytes()),
        Datatype::Int8 => data.extend(parse::<i8>(text)?.to_le_bytes()),
        Datatype::Int16 => data.extend(parse::<i16>(text)?.to_le_bytes()),
        Datatype::Int32 => data.extend(parse::<i32>(text)?.to_le_bytes()),
        Datatype::Int64 => data.extend(parse::<i64>(text)?.to_le_bytes()),
        Datatype::Fp16 => data.extend(f16::from_f64(parse(text)?).to_le_bytes()),
        Datatype::Bf16 => data.extend(bf16::from_f64(parse(text)?).to_le_bytes()),
        Datatype::Fp32 => data.extend(parse::<f32>(text)?.to_le_bytes()),
        Datatype::Fp64 => data.extend(parse::<f64>(text)?.to_le_bytes()),
        Datatype::Bytes => return None,
    }
    Some(())
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn boolean(text: &str) -> Option<u8> {
    match text {
        "true" | "1" => Some(1),
        "false" | "0" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
