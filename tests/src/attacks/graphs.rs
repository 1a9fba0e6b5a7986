//! Graphs that no backend runs, that grow beyond all memory, that reach for other files, or that are no graphs: with the
//! embedded backend and with ONNX Runtime.

use serde_json::{Value, json};

use super::{Attack, Outcome, slug};
use crate::archive::Archive;
use crate::oip::request;
use crate::onnx::{self, BOOL, FLOAT, INT64};

const BACKENDS: [&str; 2] = ["embedded", "onnxruntime"];

fn package(model: &str, backend: &str, graph: &[u8]) -> Archive {
    let manifest = format!(
        "[model]\nname = \"{model}\"\nversion = \"1\"\n\n\
         [[graph]]\nname = \"graph\"\nfile = \"graph.onnx\"\nencoding = \"onnx\"\nbackend = \"{backend}\"\n\n\
         [limits]\nmemory = \"16MiB\"\ntimeout = \"60s\"\n"
    );
    Archive::default().file("model.toml", manifest).file("graph.onnx", graph)
}

/// Graphs that are refused: what each is, the file, and what is said, by the embedded backend and by ONNX Runtime.
fn refused() -> Vec<(&'static str, Vec<u8>, [Outcome; 2])> {
    let same = |outcome| [outcome, outcome];
    let graph = |fields: &[Vec<u8>]| {
        let ends = [onnx::input("X", FLOAT, &[None, Some(4)]), onnx::output("Y", FLOAT, &[None, Some(4)])];
        onnx::model(&[&ends[..], fields].concat())
    };
    let elsewhere = "is kept in another file";
    let passwd = || onnx::outside("w", "../../etc/passwd");
    let with_initializer = [onnx::field(5, passwd()), onnx::node("Add", &["X", "w"], &["Y"], &[])];
    let with_constant = [
        onnx::node("Constant", &[], &["w"], &[onnx::constant("value", &passwd())]),
        onnx::node("Add", &["X", "w"], &["Y"], &[]),
    ];
    let within = onnx::branch("then_branch", &with_constant);
    let none = |operator: &str| graph(&[onnx::node(operator, &["X"], &["Y"], &[])]);
    vec![
        ("an operator that is none", none("Softmix"), same((501, "Softmix"))),
        (
            "an operator of another domain",
            graph(&[
                onnx::field(1, onnx::node_of("ai.onnx.ml", "Normalizer", &["X"], &["Y"], &[])),
                onnx::field(1, onnx::node_of("com.example", "Own", &["X"], &["Z"], &[])),
            ]),
            [(501, "ai.onnx.ml/Normalizer operator not supported"), (400, "No opset import for domain")],
        ),
        ("weights from /etc/passwd", graph(&with_initializer), same((400, elsewhere))),
        ("a constant from /etc/passwd", graph(&with_constant), same((400, elsewhere))),
        (
            "a constant in a branch from /etc/passwd",
            graph(&[onnx::node("If", &["X"], &["Y"], &[within])]),
            same((400, elsewhere)),
        ),
        (
            "a node that reads what nobody makes",
            graph(&[onnx::node("Relu", &["Z"], &["Y"], &[])]),
            same((400, "failed to load")),
        ),
        (
            "a circle",
            graph(&[onnx::node("Relu", &["Y"], &["Z"], &[]), onnx::node("Relu", &["Z"], &["Y"], &[])]),
            same((400, "failed to load")),
        ),
        ("graphs in graphs", deep(20_000), same((400, "nested too deeply"))),
        (
            "a length beyond the file",
            [onnx::number(1, 8), vec![7 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat(),
            same((400, "not an ONNX model")),
        ),
        ("a hundred thousand inputs", many(100_000), same((400, "inputs"))),
        (
            "an input of 100 dimensions",
            graph(&[onnx::input("Z", FLOAT, &[None; 100]), onnx::node("Relu", &["X"], &["Y"], &[])]),
            same((400, "dimensions")),
        ),
        (
            "a name of a megabyte",
            graph(&[
                onnx::input(&"x".repeat(1 << 20), FLOAT, &[None]),
                onnx::node("Relu", &["X"], &["Y"], &[]),
            ]),
            same((400, "name")),
        ),
    ]
}

fn deep(graphs: usize) -> Vec<u8> {
    let around = |graph: Vec<u8>, _| onnx::field(1, onnx::field(5, onnx::field(6, graph)));
    onnx::field(7, (1..graphs).fold(Vec::new(), around))
}

/// Inputs, and as many constants to look them up in.
fn many(number: usize) -> Vec<u8> {
    let one = |index: usize| {
        let (input, constant) = (format!("i{index}"), format!("c{index}"));
        [onnx::input(&input, FLOAT, &[Some(1)]), onnx::integers(&constant, &[1])].concat()
    };
    onnx::model(&(0..number).map(one).collect::<Vec<_>>())
}

/// The extents that a bomb is asked for: 2^40 elements, each extent one that 32 bits hold.
const BOMB: [i64; 2] = [1 << 20, 1 << 20];

/// Graphs whose output is as large as their input says.
fn bombs() -> Vec<(&'static str, Vec<u8>, Value)> {
    let any = [None, None];
    let of_shape = |fields: &[Vec<u8>]| {
        let ends = [onnx::input("shape", INT64, &[Some(2)]), onnx::output("Y", FLOAT, &any)];
        onnx::model(&[&ends[..], fields].concat())
    };
    let one = onnx::integers_of("one", &[1, 1], &[1]);
    let one = || {
        [onnx::field(5, one.clone()), onnx::node("Cast", &["one"], &["x"], &[onnx::attribute("to", FLOAT)])]
    };
    let shape = || request("shape", "INT64", &[2], json!(BOMB));
    let outer = {
        let ends = [onnx::input("X", FLOAT, &[None, Some(1)]), onnx::output("Y", FLOAT, &any)];
        let permuted = onnx::node("Transpose", &["X"], &["T"], &[]);
        onnx::model(&[&ends[..], &[permuted, onnx::node("Mul", &["X", "T"], &["Y"], &[])]].concat())
    };
    vec![
        ("ConstantOfShape", of_shape(&[onnx::node("ConstantOfShape", &["shape"], &["Y"], &[])]), shape()),
        (
            "Expand",
            of_shape(&[&one()[..], &[onnx::node("Expand", &["x", "shape"], &["Y"], &[])]].concat()),
            shape(),
        ),
        (
            "Tile",
            of_shape(&[&one()[..], &[onnx::node("Tile", &["x", "shape"], &["Y"], &[])]].concat()),
            shape(),
        ),
        ("an outer product", outer, request("X", "FP32", &[1 << 20, 1], json!(vec![1; 1 << 20]))),
    ]
}

/// The same bombs with the shape in the file, so that who optimises the graph makes the tensor at once.
fn folded() -> Vec<(&'static str, Vec<u8>)> {
    let any = [None, None];
    let graph = |fields: &[Vec<u8>]| {
        let ends = [
            onnx::input("X", FLOAT, &[None, Some(1)]),
            onnx::output("Y", FLOAT, &any),
            onnx::integers("shape", &BOMB),
            onnx::node("Add", &["X", "bomb"], &["Y"], &[]),
        ];
        onnx::model(&[&ends[..], fields].concat())
    };
    vec![("a constant of 2^40 elements", graph(&[onnx::node("ConstantOfShape", &["shape"], &["bomb"], &[])]))]
}

/// A model that goes on for as long as `go` says, which is for ever where it is true. ONNX Runtime can be told to stop it, rten cannot:
/// see SECURITY.md.
#[must_use]
pub fn endless(backend: &'static str) -> Attack {
    let scalar = |name: &str, datatype| onnx::input(name, datatype, &[]);
    let body = [
        scalar("i", INT64),
        scalar("c", BOOL),
        onnx::input("n", INT64, &[Some(1)]),
        onnx::node("Identity", &["c"], &["again"], &[]),
        onnx::node("Add", &["n", "n"], &["more"], &[]),
        onnx::output("again", BOOL, &[]),
        onnx::output("more", INT64, &[Some(1)]),
    ];
    let graph = onnx::model(&[
        scalar("go", BOOL),
        onnx::output("Y", INT64, &[Some(1)]),
        onnx::integers("zero", &[0]),
        onnx::node("Loop", &["", "go", "zero"], &["Y"], &[onnx::branch("body", &body)]),
    ]);
    let file = move || package("endless-graph", backend, &graph).manifest("60s", "500ms");
    let go = request("go", "BOOL", &[], [true]);
    Attack::call(&format!("{backend}: a graph without end"), "endless-graph", file, go, (504, "deadline"))
}

pub(super) fn attacks() -> Vec<Attack> {
    let mut attacks = vec![endless("onnxruntime")];
    for (which, backend) in BACKENDS.into_iter().enumerate() {
        for (what, graph, outcomes) in refused() {
            let (name, model) = (format!("{backend}: {what}"), slug(&format!("{backend} {what}")));
            let file = {
                let model = model.clone();
                move || package(&model, backend, &graph)
            };
            attacks.push(Attack::upload(&name, &model, file, outcomes[which]));
        }
        for (what, graph, request) in bombs() {
            let factors = what == "an outer product";
            if factors && backend == "embedded" {
                // Which it does not survive: see growth.rs.
                continue;
            }
            let message = if factors { "Failed to allocate memory" } else { "input 'shape' asks" };
            let (name, model) =
                (format!("{backend}: 2^40 elements by {what}"), slug(&format!("{backend} {what}")));
            let file = {
                let model = model.clone();
                move || package(&model, backend, &graph)
            };
            attacks.push(Attack::call(&name, &model, file, request, (400, message)));
        }
        for (what, graph) in folded() {
            let (name, model) = (format!("{backend}: {what}"), slug(&format!("{backend} {what}")));
            let file = {
                let model = model.clone();
                move || package(&model, backend, &graph)
            };
            attacks.push(Attack::upload(
                &name,
                &model,
                file,
                (400, "a constant asks ConstantOfShape for 1099511627776 elements"),
            ));
        }
    }
    attacks
}
