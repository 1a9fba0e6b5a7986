//! Every way in which wasi-nn is used wrongly, with every datatype.

use super::{Attack, words};
use crate::archive::Archive;
use crate::onnx;

/// A graph for a plugin that has none in its folder: `graph`, FP32 [-1, 4] named X.
pub const GRAPH: &str = "[[graph]]\nname = \"graph\"\nfile = \"graph.onnx\"\nencoding = \"onnx\"\nbackend = \"embedded\"\n\n[limits]";

/// What is asked of the graph of `iris`, and a part of the error.
const CASES: [(&str, &str); 26] = [
    ("load", "ErrorCode::Security: `load` of a graph's bytes is not granted"),
    (
        "name nobody",
        "ErrorCode::NotFound: PLUGIN_FAILED: no graph is named 'nobody'; the package has 'graph'",
    ),
    ("name ../graph", "ErrorCode::NotFound"),
    ("name", "ErrorCode::NotFound"),
    ("compute", "input 'X' is missing"),
    (
        "compute Y:FP32:1x4",
        "ErrorCode::InvalidArgument: INVALID_ARGUMENT: graph 'graph': input 'Y' is unknown",
    ),
    ("compute X:FP32:1x4 X:FP32:1x4", "input 'X' is given twice"),
    ("compute X:FP32:1x4 Y:FP32:1x4", "input 'Y' is unknown"),
    ("compute X:FP32:1x5", "'X' has shape [1, 5]; the model expects [-1, 4]"),
    ("compute X:FP32:4", "'X' has shape [4]"),
    ("compute X:FP32:1x4x1", "'X' has shape [1, 4, 1]"),
    ("compute X:FP32:", "'X' has shape []"),
    ("compute X:FP16:1x4", "'X' has datatype FP16; the model expects FP32"),
    ("compute X:BF16:1x4", "'X' has datatype BF16"),
    ("compute X:FP64:1x4", "'X' has datatype FP64"),
    ("compute X:UINT8:1x4", "'X' has datatype UINT8"),
    ("compute X:INT32:1x4", "'X' has datatype INT32"),
    ("compute X:INT64:1x4", "'X' has datatype INT64"),
    // What wasi-nn cannot name does not become one of its tensors.
    ("compute X:BOOL:1x4", "wasi-nn has no datatype for BOOL"),
    ("compute X:INT8:1x4", "wasi-nn has no datatype for INT8"),
    ("compute X:INT16:1x4", "wasi-nn has no datatype for INT16"),
    ("compute X:UINT16:1x4", "wasi-nn has no datatype for UINT16"),
    ("compute X:UINT32:1x4", "wasi-nn has no datatype for UINT32"),
    ("compute X:UINT64:1x4", "wasi-nn has no datatype for UINT64"),
    ("compute X:BYTES:1x4", "wasi-nn has no datatype for BYTES"),
    ("compute X:FP32:1x4", "done"),
];

/// Each datatype, and the bytes of an element; of BYTES those of an empty one.
const DATATYPES: [(&str, u64); 14] = [
    ("BOOL", 1),
    ("UINT8", 1),
    ("UINT16", 2),
    ("UINT32", 4),
    ("UINT64", 8),
    ("INT8", 1),
    ("INT16", 2),
    ("INT32", 4),
    ("INT64", 8),
    ("FP16", 2),
    ("BF16", 2),
    ("FP32", 4),
    ("FP64", 8),
    ("BYTES", 4),
];

/// The datatypes of wasi-nn.
const OF_NN: [&str; 7] = ["FP16", "FP32", "FP64", "BF16", "UINT8", "INT32", "INT64"];

/// Shapes, the bytes that come with them, and what is said of each: extents as they would be after a -1, products that
/// overflow, elements without data.
const SHAPES: [(&str, u64, &str); 8] = [
    ("18446744073709551615", 0, "bytes of data"),
    ("1099511627776", 0, "0 bytes of data"),
    ("4294967296x4294967296", 0, "more elements than can be addressed"),
    ("18446744073709551615x18446744073709551615", 0, "more elements than can be addressed"),
    ("0x18446744073709551615", 1, "1 bytes of data"),
    ("0", 8, "8 bytes of data"),
    ("2", 3, "3 bytes of data"),
    ("", 3, "3 bytes of data"),
];

fn package(name: &'static str, graph: Vec<u8>) -> impl Fn() -> Archive {
    move || {
        let package = Archive::built("nn").manifest("[limits]", GRAPH).file("graph.onnx", graph.clone());
        package.manifest("name = \"nn\"", &format!("name = \"{name}\""))
    }
}

pub(super) fn attacks() -> Vec<Attack> {
    let iris = Archive::built("iris").data("iris.onnx").to_vec();
    let told = |asked: &str, message: &str| {
        let name = format!("wasi-nn: {asked}");
        Attack::call(&name, "nn", package("nn", iris.clone()), words(&[asked]), (200, message))
    };
    let mut attacks: Vec<Attack> = CASES.iter().map(|(asked, message)| told(asked, message)).collect();
    for (datatype, size) in DATATYPES {
        for (shape, bytes, message) in SHAPES {
            // Bytes that would fit are not the matter here.
            let bytes = bytes * if bytes > 1 { size } else { 1 } + u64::from(bytes > 1 && size > 1);
            let message = if message.starts_with(char::is_numeric) { "SizeMismatch" } else { message };
            let message = if datatype == "BYTES" { "SizeMismatch" } else { message };
            attacks.push(told(&format!("tensor {datatype}:{shape}:{bytes}"), message));
        }
    }
    for datatype in OF_NN {
        let asked = format!("nn {datatype}:2:1");
        let name = format!("wasi-nn: {asked}");
        let message = (500, "the plugin trapped: a wasi-nn tensor: 1 bytes of data");
        attacks.push(Attack::call(&name, "nn", package("nn", iris.clone()), words(&[&asked]), message));
    }
    attacks.extend(outputs());
    attacks
}

/// Graphs whose outputs wasi-nn cannot name, or that are more than the call may hold.
fn outputs() -> Vec<Attack> {
    let any = [None, Some(4)];
    let to_bool = onnx::model(&[
        onnx::node("Cast", &["X"], &["Y"], &[onnx::attribute("to", onnx::BOOL)]),
        onnx::input("X", onnx::FLOAT, &any),
        onnx::output("Y", onnx::BOOL, &any),
    ]);
    let large = onnx::model(&[
        onnx::node("Tile", &["X", "times"], &["Y"], &[]),
        onnx::integers("times", &[1 << 20, 2]),
        onnx::input("X", onnx::FLOAT, &any),
        onnx::output("Y", onnx::FLOAT, &[None, Some(8)]),
    ]);
    [
        ("nn-bool", to_bool, "the plugin trapped: a graph's output: wasi-nn has no datatype for BOOL"),
        ("nn-large", large, super::calls::MEMORY),
    ]
    .map(|(model, graph, message)| {
        let name = format!("wasi-nn: an output of {model}");
        Attack::call(&name, model, package(model, graph), words(&["compute X:FP32:1x4"]), (500, message))
    })
    .into()
}
