//! Tensors whose extents are values: what a graph makes may be far larger than what it is made of.
//!
//! Contract: where `ConstantOfShape`, `Expand` or `Tile` takes its extents from a constant, a graph that asks for more than
//! [`MAX_ELEMENTS`] is refused; where from an input, as it is or cast, a call whose values do is. Why: the embedded backend's
//! allocations cannot fail, so that one that no machine has memory for ends the process, when the graph is optimised or run.
//! Cost: a look at the values of such inputs, of which most graphs have none. Left out: extents that are computed, and
//! factors that are large together (an outer product, one `Tile` after the other); who may push graphs is to be trusted
//! with that much.

use std::collections::HashMap;

use rten_onnx::onnx::{DataType, GraphProto, NodeProto, TensorProto};
use vespid_types::{Datatype, NamedTensor};

use crate::NnError;

/// Elements of one tensor: 1 GiB of FP32.
const MAX_ELEMENTS: u64 = 1 << 28;

/// Inputs whose values are the extents of what a graph makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth(Vec<Extents>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Extents {
    input: String,
    operator: String,
}

/// Where the value of a name comes from, as far as it is followed.
#[derive(Clone)]
enum Origin {
    Input(String),
    Constant(Vec<i64>),
}

/// Finds them.
///
/// # Errors
/// [`NnError::Growth`] where a constant asks for too much.
pub(crate) fn of(graph: &GraphProto) -> Result<Growth, NnError> {
    let mut growth = Growth::default();
    let inputs = graph.input.iter().filter_map(|input| input.name.clone());
    let origins = inputs.map(|name| (name.clone(), Origin::Input(name))).collect();
    growth.follow(graph, origins)?;
    Ok(growth)
}

impl Growth {
    /// Checks the inputs of a call.
    ///
    /// # Errors
    /// [`NnError::Growth`].
    pub(crate) fn check(&self, inputs: &[NamedTensor]) -> Result<(), NnError> {
        for Extents { input, operator } in &self.0 {
            let Some(NamedTensor { tensor, .. }) = inputs.iter().find(|given| given.name == *input) else {
                continue;
            };
            let data: &[u8] = tensor.data();
            match tensor.datatype() {
                Datatype::Int64 => {
                    check(&format!("input '{input}'"), operator, longs(data))?;
                }
                Datatype::Int32 => {
                    let values =
                        data.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk).into());
                    check(&format!("input '{input}'"), operator, values)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes through the nodes, which stand in the order in which they are run, and through the graphs in them.
    fn follow(&mut self, graph: &GraphProto, mut origins: HashMap<String, Origin>) -> Result<(), NnError> {
        for constant in &graph.initializer {
            if let (Some(name), Some(values)) = (&constant.name, values(constant)) {
                origins.insert(name.clone(), Origin::Constant(values));
            }
        }
        for node in &graph.node {
            let operator = node.op_type.as_deref().unwrap_or_default();
            if let Some(origin) = passed_on(operator, node, &origins)
                && let Some(output) = node.output.first()
            {
                origins.insert(output.clone(), origin);
            }
            let extents = match operator {
                "ConstantOfShape" => node.input.first(),
                "Expand" | "Tile" => node.input.get(1),
                _ => None,
            };
            match extents.and_then(|name| origins.get(name)) {
                Some(Origin::Constant(values)) => check("a constant", operator, values.iter().copied())?,
                Some(Origin::Input(input)) => {
                    self.0.push(Extents { input: input.clone(), operator: operator.to_owned() });
                }
                None => {}
            }
            for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
                self.follow(inner, origins.clone())?;
            }
        }
        Ok(())
    }
}

/// What a node makes, where that is a constant or what it was given.
fn passed_on(operator: &str, node: &NodeProto, origins: &HashMap<String, Origin>) -> Option<Origin> {
    match operator {
        "Constant" => {
            let of = |attribute: &rten_onnx::onnx::AttributeProto| match &attribute.t {
                Some(tensor) => values(tensor),
                None => (!attribute.ints.is_empty()).then(|| attribute.ints.clone()),
            };
            node.attribute.iter().find_map(of).map(Origin::Constant)
        }
        "Identity" | "Cast" => origins.get(node.input.first()?).cloned(),
        _ => None,
    }
}

/// More extents than a tensor has are none.
const MAX_EXTENTS: usize = 1024;

fn values(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != Some(DataType::INT64) {
        return None;
    }
    let values: Vec<i64> = match &tensor.raw_data {
        Some(raw) => longs(&raw.borrow()).take(MAX_EXTENTS).collect(),
        None => tensor.int64_data.iter().copied().take(MAX_EXTENTS).collect(),
    };
    Some(values)
}

fn longs(data: &[u8]) -> impl Iterator<Item = i64> {
    data.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk))
}

/// Negative extents are refused by who runs the graph.
fn check(what: &str, operator: &str, extents: impl Iterator<Item = i64>) -> Result<(), NnError> {
    let extents = extents.map(|extent| u64::try_from(extent).unwrap_or(1));
    let elements = extents.fold(1_u64, u64::saturating_mul);
    if elements <= MAX_ELEMENTS {
        return Ok(());
    }
    let (what, operator) = (what.to_owned(), operator.to_owned());
    Err(NnError::Growth { what, operator, elements, limit: MAX_ELEMENTS })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rten_onnx::onnx::{AttributeProto, ValueInfoProto};
    use vespid_types::{Shape, Tensor};

    use super::*;

    fn integers(name: &str, values: &[i64]) -> TensorProto {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(DataType::INT64),
            raw_data: Some(RefCell::new(raw)),
            ..Default::default()
        }
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        }
    }

    fn graph(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> GraphProto {
        let input = ValueInfoProto { name: Some("shape".to_owned()), r#type: None };
        GraphProto { input: vec![input], node: nodes, initializer: constants, ..Default::default() }
    }

    fn given(values: &[i64]) -> [NamedTensor; 1] {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = Tensor::new(Datatype::Int64, Shape::from(&[values.len() as u64][..]), data.into());
        [NamedTensor { name: "shape".to_owned(), tensor: tensor.unwrap() }]
    }

    #[test]
    fn constants_are_looked_at_before_a_graph_is_loaded() {
        let of = |values: &[i64]| {
            let made = node("Expand", &["x", "extents"], "y");
            super::of(&graph(vec![made], vec![integers("extents", values)]))
        };
        assert_eq!(of(&[1 << 14, 1 << 14]).unwrap(), Growth::default());
        let error = of(&[1 << 20, 1 << 20]).unwrap_err().to_string();
        assert!(error.starts_with("a constant asks Expand for 1099511627776 elements"), "{error}");
        // More than 64 bits hold; and -1 stands for what is there.
        assert!(of(&[i64::MAX, i64::MAX]).is_err() && of(&[-1, 4]).is_ok());
        let within = AttributeProto {
            g: Some(graph(vec![node("ConstantOfShape", &["extents"], "y")], vec![])),
            ..Default::default()
        };
        let branch = NodeProto { attribute: vec![within], ..node("If", &["c"], "z") };
        assert!(super::of(&graph(vec![branch], vec![integers("extents", &[1 << 40])])).is_err());
    }

    #[test]
    fn inputs_are_looked_at_before_a_graph_is_run() {
        let nodes = vec![node("Cast", &["shape"], "cast"), node("Tile", &["x", "cast"], "y")];
        let growth = super::of(&graph(nodes, vec![])).unwrap();
        assert!(growth.check(&given(&[1 << 14, 1 << 14])).is_ok());
        let error = growth.check(&given(&[1 << 20, 1 << 20])).unwrap_err().to_string();
        assert!(error.starts_with("input 'shape' asks Tile for 1099511627776 elements"), "{error}");
        let harmless = super::of(&graph(vec![node("Add", &["shape", "x"], "y")], vec![])).unwrap();
        assert!(harmless.check(&given(&[1 << 40])).is_ok());
    }
}
