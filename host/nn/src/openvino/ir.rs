//! What a graph in OpenVINO's encoding ("IR", version 11) declares: its inputs and outputs, and whether it takes batches.
//!
//! Contract: inputs and outputs are the layers `Parameter` and `Result` in the file's order. One is named after its layer
//! where the tensor has that name too, else by the tensor's first name, or after its layer where the tensor has none.
//! Open and bounded dimensions become -1. A damaged file is refused, and so is one whose elements lie too deep in each
//! other or whose constants reach beyond the weights: the library's reader is C++, and is to see neither. Cost: one pass
//! over the XML, which is held as a tree meanwhile; the weights are not read.

use std::collections::{BTreeSet, HashMap};

use roxmltree::{Document, Node};
use vespid_types::{Datatype, Extent, Signature, TensorSpec};

use super::convert;
use super::session::{Port, Ports};
use crate::NnError;
use crate::backend::Batching;

/// The version that OpenVINO writes since 2022.
const VERSION: &str = "11";

/// Bodies of loops in bodies of loops, at three elements each: more than any converter writes, and few enough for what
/// loads them to recurse.
const MAX_DEPTH: usize = 64;

/// What a graph declares.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) signature: Signature,
    pub(super) batching: Batching,
    pub(super) ports: Ports,
}

/// Reads what the XML file declares; `weights` is the length of the other file.
///
/// # Errors
/// [`NnError::Load`] where the file is damaged or an input or output is not a tensor of a known rank and datatype;
/// [`NnError::UnsupportedDatatype`] where the backend does not carry it.
pub(super) fn describe(file: &[u8], weights: usize) -> Result<Described, NnError> {
    let damaged = |error: String| bad(format!("the file is not an OpenVINO model: {error}"));
    let text = std::str::from_utf8(file).map_err(|error| damaged(error.to_string()))?;
    let document = Document::parse(text).map_err(|error| damaged(error.to_string()))?;
    let root = document.root_element();
    if !root.has_tag_name("net") {
        return Err(damaged(format!("it begins with <{}>, not with <net>", root.tag_name().name())));
    }
    if root.descendants().any(|node| node.ancestors().nth(MAX_DEPTH).is_some()) {
        return Err(damaged(format!("elements lie in elements more than {MAX_DEPTH} deep")));
    }
    let version = root.attribute("version").unwrap_or("not given");
    if version != VERSION {
        return Err(bad(format!("its IR version is {version}, not {VERSION}: convert the graph anew")));
    }
    check_constants(root, weights)?;
    let inputs = parameters(root)?;
    let outputs = results(root)?;
    let batching = batching(inputs.iter().chain(&outputs));
    let (inputs, input_ports) = split(inputs, "inputs")?;
    let (outputs, output_ports) = split(outputs, "outputs")?;
    let ports = Ports { inputs: input_ports, outputs: output_ports };
    Ok(Described { signature: Signature { inputs, outputs }, batching, ports })
}

fn bad(message: String) -> NnError {
    NnError::Load { message }
}

/// Checks that every constant, those of loops' bodies too, lies within the weights.
fn check_constants(root: Node<'_, '_>, weights: usize) -> Result<(), NnError> {
    let layers = root.descendants().filter(|node| node.has_tag_name("layer"));
    for constant in layers.filter(|layer| layer.attribute("type") == Some("Const")) {
        let place = |name: &str| child(constant, "data")?.attribute(name)?.parse::<usize>().ok();
        let end = place("offset").zip(place("size")).and_then(|(offset, size)| offset.checked_add(size));
        if end.is_none_or(|end| end > weights) {
            let name = constant.attribute("name").unwrap_or_default();
            return Err(bad(format!(
                "the constant '{name}' does not lie within the {weights} bytes of weights: is `weights` the file that was written with this one?"
            )));
        }
    }
    Ok(())
}

/// An input or output.
struct Value {
    spec: TensorSpec,
    port: Port,
}

fn parameters(root: Node<'_, '_>) -> Result<Vec<Value>, NnError> {
    layers(root, "Parameter")
        .enumerate()
        .map(|(place, layer)| {
            let own = layer.attribute("name").unwrap_or_default();
            let port = child(layer, "output").and_then(|output| child(output, "port"));
            let names = port.and_then(|port| port.attribute("names"));
            let data = |name: &str| {
                let attribute = child(layer, "data").and_then(|data| data.attribute(name));
                attribute.ok_or_else(|| bad(format!("'{own}' has no {name}")))
            };
            let shape = data("shape")?;
            let extents = if shape.trim().is_empty() { vec![] } else { shape.split(',').collect() };
            value(own, names, place, data("element_type")?, &extents)
        })
        .collect()
}

fn results(root: Node<'_, '_>) -> Result<Vec<Value>, NnError> {
    let by_id: HashMap<&str, Node<'_, '_>> =
        all_layers(root).filter_map(|layer| Some((layer.attribute("id")?, layer))).collect();
    let edges = child(root, "edges").into_iter().flat_map(|edges| edges.children());
    let sources: HashMap<&str, (&str, &str)> = edges
        .filter_map(|edge| {
            let from = (edge.attribute("from-layer")?, edge.attribute("from-port")?);
            Some((edge.attribute("to-layer")?, from))
        })
        .collect();
    let source = |layer: Node<'_, '_>| {
        let (from, port) = sources.get(layer.attribute("id")?)?;
        let output = child(*by_id.get(from)?, "output")?;
        output.children().find(|candidate| candidate.attribute("id") == Some(*port))
    };
    layers(root, "Result")
        .enumerate()
        .map(|(place, layer)| {
            let own = layer.attribute("name").unwrap_or_default();
            let port = source(layer).ok_or_else(|| bad(format!("nothing leads to the output '{own}'")))?;
            let names = layer.attribute("output_names").or_else(|| port.attribute("names"));
            let datatype =
                port.attribute("precision").ok_or_else(|| bad(format!("'{own}' has no precision")))?;
            let extents: Vec<&str> = port
                .children()
                .filter(|node| node.has_tag_name("dim"))
                .map(|dim| dim.text().unwrap_or_default())
                .collect();
            value(own, names, place, datatype, &extents)
        })
        .collect()
}

fn all_layers<'a, 'i>(root: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    let layers = child(root, "layers").into_iter().flat_map(|layers| layers.children());
    layers.filter(|node| node.has_tag_name("layer"))
}

fn layers<'a, 'i>(root: Node<'a, 'i>, kind: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    all_layers(root).filter(move |layer| layer.attribute("type") == Some(kind))
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn value(
    layer: &str,
    names: Option<&str>,
    place: usize,
    datatype: &str,
    extents: &[&str],
) -> Result<Value, NnError> {
    let names = names.map(split_names).unwrap_or_default();
    let name = if names.iter().any(|name| name == layer) { None } else { names.first() };
    let name = name.map_or(layer, String::as_str).to_owned();
    let port = if names.is_empty() {
        Port::At(u32::try_from(place).unwrap_or(u32::MAX))
    } else {
        Port::Named(name.clone())
    };
    let parsed = extents.iter().map(|text| {
        extent(text).ok_or_else(|| bad(format!("'{name}' has the dimension '{text}', which cannot be read")))
    });
    let shape: Vec<Extent> = match extents {
        // Of a dynamic rank; an output's looks like a scalar's.
        ["..."] => vec![],
        _ => parsed.collect::<Result<_, _>>()?,
    };
    if shape.is_empty() {
        return Err(bad(format!(
            "'{name}' is a scalar or has no known rank, and the openvino backend carries neither: give it a dimension"
        )));
    }
    let datatype = self::datatype(datatype).ok_or_else(|| {
        bad(format!("'{name}' has OpenVINO's datatype {datatype}, which has no counterpart"))
    })?;
    let spec = TensorSpec { name, datatype, shape, optional: false };
    convert::check_carried(&spec)?;
    Ok(Value { spec, port })
}

/// The names of a tensor: they stand between commas, and a comma of their own has a backslash before it.
fn split_names(names: &str) -> Vec<String> {
    let mut split = vec![String::new()];
    let mut characters = names.chars();
    while let Some(character) = characters.next() {
        match (character, split.last_mut()) {
            (',', _) => split.push(String::new()),
            ('\\', Some(last)) => match characters.as_str().chars().next() {
                Some(',') => last.extend(characters.next()),
                _ => last.push('\\'),
            },
            (other, Some(last)) => last.push(other),
            (_, None) => {}
        }
    }
    split.retain(|name| !name.is_empty());
    split
}

/// A dimension: a number, `?` or -1 for any, or bounds such as `1..16`.
fn extent(text: &str) -> Option<Extent> {
    match text.trim() {
        "?" | "-1" => Some(Extent::Any),
        bounds if bounds.contains("..") => {
            let (low, high) = bounds.split_once("..")?;
            let number = |text: &str| text.is_empty() || text.parse::<u64>().is_ok();
            (number(low) && number(high)).then_some(Extent::Any)
        }
        number => number.parse().ok().map(Extent::Fixed),
    }
}

/// The datatype, by either of the names that it has in the file: of an element type, or of a port's precision.
fn datatype(name: &str) -> Option<Datatype> {
    Some(match name.to_ascii_lowercase().as_str() {
        "boolean" | "bool" => Datatype::Bool,
        "u8" => Datatype::Uint8,
        "u16" => Datatype::Uint16,
        "u32" => Datatype::Uint32,
        "u64" => Datatype::Uint64,
        "i8" => Datatype::Int8,
        "i16" => Datatype::Int16,
        "i32" => Datatype::Int32,
        "i64" => Datatype::Int64,
        "f16" | "fp16" => Datatype::Fp16,
        "bf16" => Datatype::Bf16,
        "f32" | "fp32" => Datatype::Fp32,
        "f64" | "fp64" => Datatype::Fp64,
        "string" => Datatype::Bytes,
        _ => return None,
    })
}

/// Whether several calls can be one run. The first dimensions have no names here, so that they can only stand against it.
fn batching<'a>(values: impl Iterator<Item = &'a Value>) -> Batching {
    let mut fixed = values.filter_map(|Value { spec, .. }| match spec.shape.first() {
        Some(Extent::Fixed(extent)) => Some((&spec.name, extent)),
        _ => None,
    });
    match fixed.next() {
        Some((name, extent)) => {
            Batching::Impossible { why: format!("'{name}' has a fixed first dimension of {extent}") }
        }
        None => Batching::Unproven,
    }
}

fn split(values: Vec<Value>, kind: &str) -> Result<(Vec<TensorSpec>, Vec<Port>), NnError> {
    let mut names = BTreeSet::new();
    if let Some(value) = values.iter().find(|value| !names.insert(&value.spec.name)) {
        return Err(bad(format!("two {kind} have the name '{}'", value.spec.name)));
    }
    Ok(values.into_iter().map(|value| (value.spec, value.port)).unzip())
}

#[cfg(test)]
mod tests;
