//! What is rewritten, and how the nodes are found.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem;

use rten_onnx::onnx::{AttributeProto, AttributeType, DataType, GraphProto, NodeProto, TensorProto};

use crate::error::Error;
use crate::table::Gelu;

/// Makes the first layer a table and the first normalisation's sums sequential.
pub(crate) fn rewrite(graph: &mut GraphProto) -> Result<(), Error> {
    look_up_first_layer(graph)?;
    sum_in_order(graph)?;
    let used: HashSet<_> = graph.node.iter().flat_map(|node| &node.input).cloned().collect();
    graph.initializer.retain(|tensor| tensor.name.as_ref().is_some_and(|name| used.contains(name)));
    check(graph)
}

/// The kinds of bytes: 256, and one for what is past the end of a short file.
const SYMBOLS: i64 = 257;
const WIDTH: i64 = 64;

/// The parts that the first layer's nodes belong to. They turn each byte, independently of the others, into a one-hot
/// row, a row of weights with a bias added, and its GELU.
const FIRST_LAYER: [&str; 3] = ["_one_hot_/", "/Dense_0/", "/ApplyActivation_0/"];
const FIRST_LAYER_OPERATORS: [&str; 17] = [
    "Reshape", "Concat", "Cast", "Expand", "Equal", "Cast", "MatMul", "Add", "Mul", "Mul", "Mul", "Add",
    "Mul", "Tanh", "Add", "Mul", "Mul",
];
const FIRST_LAYER_RESULT: &str = "/ApplyActivation_0/Mul_5:0";

const TABLE: &str = "first_layer/table";

/// Replaces the first layer by a table with a row for each kind of byte, computed as ONNX Runtime does.
fn look_up_first_layer(graph: &mut GraphProto) -> Result<(), Error> {
    let operators: Vec<_> = graph.node.iter().filter(|node| in_first_layer(node)).map(operator).collect();
    if operators != FIRST_LAYER_OPERATORS {
        return Err(Error::unexpected(format!("the first layer is {operators:?}")));
    }
    let [bytes] = graph.input.as_slice() else {
        return Err(Error::unexpected(format!("the graph has {} inputs", graph.input.len())));
    };
    let bytes = bytes.name.clone().unwrap_or_default();
    let table = tabulate(graph)?;
    graph.initializer.push(table);
    for node in mem::take(&mut graph.node) {
        if output(&node).ends_with(FIRST_LAYER_RESULT) {
            graph.node.push(gather([TABLE, &bytes], output(&node), 0));
        } else if !in_first_layer(&node) {
            graph.node.push(node);
        }
    }
    Ok(())
}

fn in_first_layer(node: &NodeProto) -> bool {
    FIRST_LAYER.iter().any(|part| output(node).contains(part))
}

fn tabulate(graph: &GraphProto) -> Result<TensorProto, Error> {
    let weights = floats(graph, "/Dense_0/einsum/Einsum:0", &[SYMBOLS, WIDTH])?;
    let bias = floats(graph, "/Dense_0/AddV2:0", &[1, 1, WIDTH])?;
    let gelu = Gelu {
        cubic: number(graph, "/ApplyActivation_0/Mul:0")?,
        scale: number(graph, "/ApplyActivation_0/Mul_3:0")?,
        one: number(graph, "/ApplyActivation_0/AddV2_1:0")?,
        half: number(graph, "/ApplyActivation_0/Mul_4:0")?,
    };
    let values = weights.iter().zip(bias.iter().cycle()).map(|(weight, bias)| gelu.of(weight + bias));
    let bytes = values.flat_map(f32::to_le_bytes).collect();
    Ok(constant(TABLE, DataType::FLOAT, vec![SYMBOLS, WIDTH], bytes))
}

const AXIS: &str = "sums/axis";
const LAST: &str = "sums/last";

/// Makes both sums of the first normalisation, over 512 rows, running sums of which the last row is taken. A running
/// sum adds row after row, as ONNX Runtime does for a batch of one; the backend's own sum adds in parts.
fn sum_in_order(graph: &mut GraphProto) -> Result<(), Error> {
    let is_sum =
        |node: &NodeProto| operator(node) == "ReduceSum" && output(node).contains("/LayerNorm_0/Sum");
    let sums: Vec<_> = graph.node.iter().filter(|node| is_sum(node)).collect();
    if sums.len() != 2 {
        return Err(Error::unexpected(format!("the first normalisation has {} sums", sums.len())));
    }
    for sum in sums {
        let axes = initializer(graph, sum)?;
        let drops_axis =
            sum.attribute.iter().any(|it| it.name.as_deref() == Some("keepdims") && it.i == Some(0));
        if !drops_axis || axes.data_type != Some(DataType::INT64) || bytes(axes) != 1_i64.to_le_bytes() {
            return Err(Error::unexpected(format!("{} is not the sum over axis 1", output(sum))));
        }
    }
    for (name, value) in [(AXIS, 1_i64), (LAST, -1)] {
        graph.initializer.push(constant(name, DataType::INT64, Vec::new(), value.to_le_bytes().into()));
    }
    for node in mem::take(&mut graph.node) {
        if !is_sum(&node) {
            graph.node.push(node);
            continue;
        }
        let running = format!("{}/running", output(&node));
        let summed = node.input.first().map(String::as_str).unwrap_or_default();
        graph.node.push(new_node("CumSum", [summed, AXIS], &running));
        graph.node.push(gather([&running, LAST], output(&node), 1));
    }
    Ok(())
}

/// Checks that each input of a node is there before it: that no node took what is gone.
fn check(graph: &GraphProto) -> Result<(), Error> {
    let inputs = graph.input.iter().filter_map(|value| value.name.as_deref());
    let constants = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref());
    let mut known: HashSet<&str> = inputs.chain(constants).collect();
    for node in &graph.node {
        if let Some(unknown) = node.input.iter().find(|input| !known.contains(input.as_str())) {
            return Err(Error::unexpected(format!("{} takes {unknown}, which was replaced", output(node))));
        }
        known.extend(node.output.iter().map(String::as_str));
    }
    Ok(())
}

fn operator(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap_or_default()
}

/// Every node of this graph has one.
fn output(node: &NodeProto) -> &str {
    node.output.first().map(String::as_str).unwrap_or_default()
}

/// The one number that a node takes.
fn number(graph: &GraphProto, suffix: &str) -> Result<f32, Error> {
    floats(graph, suffix, &[])?
        .first()
        .copied()
        .ok_or_else(|| Error::unexpected(format!("{suffix} is empty")))
}

/// The constant that a node takes; the node is named by its output's end.
fn floats(graph: &GraphProto, suffix: &str, shape: &[i64]) -> Result<Vec<f32>, Error> {
    let node = graph.node.iter().find(|node| output(node).ends_with(suffix));
    let node = node.ok_or_else(|| Error::unexpected(format!("no node gives {suffix}")))?;
    let tensor = initializer(graph, node)?;
    let values: Vec<_> = bytes(tensor).as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    let complete = usize::try_from(shape.iter().product::<i64>()) == Ok(values.len());
    if tensor.data_type != Some(DataType::FLOAT) || tensor.dims != shape || !complete {
        return Err(Error::unexpected(format!(
            "the constant of {suffix} is not of type FLOAT and shape {shape:?}"
        )));
    }
    Ok(values)
}

fn initializer<'a>(graph: &'a GraphProto, node: &NodeProto) -> Result<&'a TensorProto, Error> {
    let taken = |tensor: &&TensorProto| tensor.name.as_ref().is_some_and(|name| node.input.contains(name));
    let tensor = graph.initializer.iter().find(taken);
    tensor.ok_or_else(|| Error::unexpected(format!("{} takes no constant", output(node))))
}

fn bytes(tensor: &TensorProto) -> Vec<u8> {
    tensor.raw_data.as_ref().map(|data| data.borrow().clone()).unwrap_or_default()
}

fn constant(name: &str, data_type: DataType, dims: Vec<i64>, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type),
        dims,
        raw_data: Some(RefCell::new(bytes)),
        ..TensorProto::default()
    }
}

fn gather(inputs: [&str; 2], output: &str, axis: i64) -> NodeProto {
    let axis = AttributeProto {
        name: Some("axis".to_owned()),
        r#type: Some(AttributeType::INT),
        i: Some(axis),
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![axis], ..new_node("Gather", inputs, output) }
}

fn new_node(operator: &str, inputs: [&str; 2], output: &str) -> NodeProto {
    NodeProto {
        name: Some(output.to_owned()),
        op_type: Some(operator.to_owned()),
        input: inputs.map(str::to_owned).into(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

#[cfg(test)]
mod tests {
    use rten_onnx::onnx::ModelProto;

    use super::*;
    use crate::tests::original;

    fn graph() -> GraphProto {
        ModelProto::parse_buf(&original()).unwrap().graph.unwrap()
    }

    fn node<'a>(graph: &'a mut GraphProto, suffix: &str) -> &'a mut NodeProto {
        graph.node.iter_mut().find(|node| output(node).ends_with(suffix)).unwrap()
    }

    fn refusal(change: impl FnOnce(&mut GraphProto)) -> String {
        let mut graph = graph();
        change(&mut graph);
        rewrite(&mut graph).unwrap_err().to_string()
    }

    #[test]
    fn the_table_is_that_of_onnx_runtime_to_the_bit() {
        let table = tabulate(&graph()).unwrap();
        assert_eq!((table.dims.as_slice(), table.data_type), ([257, 64].as_slice(), Some(DataType::FLOAT)));
        let bits: Vec<_> = bytes(&table).as_chunks().0.iter().copied().map(u32::from_le_bytes).collect();
        for (byte, column, expected) in [
            (0, 0, 0xbdc8_1a19),
            (10, 3, 0x3e39_5ae7),
            (32, 7, 0xbd7d_fe9e),
            (127, 31, 0xbd02_835b),
            (255, 0, 0xbde8_0ab0),
            (256, 63, 0xbe06_17f1),
        ] {
            assert_eq!(bits[byte * 64 + column], expected, "byte {byte}, column {column}");
        }
        // All of them; the number, like those above, is of the values that ONNX Runtime gave.
        assert_eq!(bits.iter().fold(0_u32, |sum, bits| sum.rotate_left(5) ^ bits), 0x4a67_6546);
    }

    #[test]
    fn the_first_layer_is_looked_up_and_the_sums_run() {
        let mut graph = graph();
        rewrite(&mut graph).unwrap();
        let lookup = node(&mut graph, FIRST_LAYER_RESULT);
        assert_eq!(
            (operator(lookup), lookup.input.as_slice()),
            ("Gather", [TABLE, "bytes"].map(str::to_owned).as_slice())
        );
        for sum in ["/LayerNorm_0/Sum:0", "/LayerNorm_0/Sum_1:0"] {
            let last = node(&mut graph, sum);
            assert_eq!(
                (operator(last), last.input[1].as_str(), last.attribute[0].i),
                ("Gather", LAST, Some(1))
            );
            let running = last.input[0].clone();
            let running = node(&mut graph, &running);
            assert_eq!((operator(running), running.input[1].as_str()), ("CumSum", AXIS));
        }
        assert_eq!(graph.node.iter().filter(|node| operator(node) == "ReduceSum").count(), 3);
        let weights = graph.initializer.iter().filter(|tensor| tensor.dims == [SYMBOLS, WIDTH]);
        assert_eq!(weights.count(), 1, "the table takes the place of the weights");
    }

    #[test]
    fn another_graph_is_refused_with_what_differs() {
        let error = refusal(|graph| graph.node.clear());
        assert!(error.starts_with("the first layer is []: "), "{error}");
        let error = refusal(|graph| node(graph, "/Tanh:0").op_type = Some("Erf".to_owned()));
        assert!(error.contains("\"Erf\""), "{error}");
        let error = refusal(|graph| graph.input.clear());
        assert!(error.starts_with("the graph has 0 inputs"), "{error}");
        let error = refusal(|graph| node(graph, "/Dense_0/AddV2:0").input.truncate(1));
        assert!(error.contains("/Dense_0/AddV2:0 takes no constant"), "{error}");
        let error = refusal(|graph| graph.initializer.iter_mut().for_each(|tensor| tensor.dims.push(1)));
        assert!(error.contains("is not of type FLOAT and shape [257, 64]"), "{error}");
        let error =
            refusal(|graph| node(graph, "/LayerNorm_0/Sum_1:0").op_type = Some("ReduceMean".to_owned()));
        assert!(error.starts_with("the first normalisation has 1 sums"), "{error}");
        let error = refusal(|graph| node(graph, "/LayerNorm_0/Sum:0").attribute.clear());
        assert!(error.contains("/LayerNorm_0/Sum:0 is not the sum over axis 1"), "{error}");
        let error = refusal(|graph| {
            let inner = output(node(graph, "/ApplyActivation_0/Mul:0")).to_owned();
            node(graph, "target_label").input.push(inner);
        });
        assert!(error.contains("/ApplyActivation_0/Mul:0, which was replaced"), "{error}");
    }
}
