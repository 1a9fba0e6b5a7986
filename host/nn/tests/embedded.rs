//! The embedded backend: what it says of operators that `rten` has not, or not as the graph wants them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

use std::num::NonZero;

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};
use rten_onnx::protobuf::{EncodeMessage as _, ValueWriter};
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions, NnError};
use vespid_types::{BackendName, Device, Encoding, ErrorCode};

fn value(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dim =
        shape.iter().map(|extent| Dimension { dim_value: Some(*extent), ..Default::default() }).collect();
    let tensor = TypeProtoTensor { elem_type: Some(DataType::FLOAT), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor), ..Default::default() }),
    }
}

fn node(operator: &str, input: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(operator.to_owned()),
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: vec!["y".to_owned()],
        attribute,
        ..Default::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        s: Some(value.to_owned()),
        r#type: Some(AttributeType::STRING),
        ..Default::default()
    }
}

fn number(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value),
        r#type: Some(AttributeType::INT),
        ..Default::default()
    }
}

/// Twice as high and wide.
fn resize(mode: &str) -> NodeProto {
    node("Resize", &["x", "", "scales"], vec![text("mode", mode)])
}

/// `y` is what the node makes of `x`.
fn load(node: NodeProto) -> Result<Graphs, NnError> {
    let scales = TensorProto {
        name: Some("scales".to_owned()),
        dims: vec![4],
        data_type: Some(DataType::FLOAT),
        float_data: vec![1., 1., 2., 2.],
        ..Default::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: vec![scales],
        input: vec![value("x", &[1, 1, 2, 2])],
        output: vec![value("y", &[1, 1, 4, 4])],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(18) };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![opset],
        ..Default::default()
    };
    let mut data = Vec::new();
    model.encode(ValueWriter::new(&mut data)).unwrap();
    let source = GraphSource {
        weights: None,
        name: "graph".to_owned(),
        data: data.into(),
        encoding: Encoding::Onnx,
        backend: Some(BackendName::Embedded),
        device: Device::Cpu,
        provider: None,
        threads: NonZero::new(1),
        instances: NonZero::<usize>::MIN,
        lane: LaneOptions::default(),
    };
    Graphs::load(&Backends::embedded(), vec![source])
}

#[test]
fn an_operator_that_is_there_in_another_form_alone_is_unsupported_and_never_run_as_that() {
    load(resize("linear")).map(drop).unwrap();
    let mut antialiased = resize("linear");
    antialiased.attribute.push(number("antialias", 1));
    let branch = AttributeProto {
        name: Some("then_branch".to_owned()),
        g: Some(GraphProto { node: vec![resize("cubic")], ..Default::default() }),
        r#type: Some(AttributeType::GRAPH),
        ..Default::default()
    };
    for (node, message) in [
        (node("Shrink", &["x"], Vec::new()), "Shrink operator not supported"),
        (antialiased, "attribute \"antialias\": unsupported value"),
        (node("ArgMax", &["x"], vec![number("select_last_index", 1)]), "attribute \"select_last_index\""),
        (node("Softplus", &["x"], vec![number("beta", 1)]), "attributes: beta"),
        // rten takes the linear one for it.
        (resize("cubic"), "the Resize that makes 'y' has mode \"cubic\""),
        (node("If", &["x"], vec![branch]), "the Resize that makes 'y' has mode \"cubic\""),
    ] {
        let error = load(node).err().unwrap();
        assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
        let text = error.to_string();
        assert!(text.contains(message) && text.contains("backend = \"onnxruntime\""), "{message}: {text}");
    }
}
