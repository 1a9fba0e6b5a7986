//! What a plugin may hand the host, and have it hold, by the thousand or by the megabyte.

use super::calls::MEMORY;
use super::{Attack, words};
use crate::archive::Archive;

/// More handles than a call may hold.
const FULL: &str = "the plugin trapped: resource table has no free keys";

/// What it is told, and the status and a part of the text that come of it.
const CASES: [(&str, u16, &str); 24] = [
    ("graphs", 500, FULL),
    ("contexts", 500, FULL),
    ("errors", 500, MEMORY),
    ("nn-tensors", 500, FULL),
    ("share", 500, FULL),
    ("shapes 65", 200, "dimensions"),
    ("shapes 1000000", 200, "dimensions"),
    ("nn-shapes 1000000", 500, "dimensions"),
    ("shapes 64", 200, "OutOfMemory"),
    ("log 1000000", 200, "logged"),
    ("error 1000", 400, "xxxx"),
    ("error 8000000", 400, "xxxx..."),
    ("name 4000000", 500, "xxxx..."),
    ("outputs 5000", 500, "output 'o0' is not in its signature"),
    ("config 4000000", 200, "None"),
    ("env 4000000", 200, "None"),
    ("secret 4000000", 200, "None"),
    ("model 1000", 200, "xxxx"),
    ("model 1000000", 200, "xxxx"),
    ("answer 2000000", 200, "xxxx"),
    ("answer 200000000", 500, MEMORY),
    ("sleep", 504, "the plugin did not answer before the deadline"),
    ("read", 200, "all are refused: true"),
    ("nothing", 400, "what is 'nothing'?"),
];

pub(super) fn attacks() -> Vec<Attack> {
    let one = |(asked, status, message): (&str, u16, &str)| {
        let model = if status == 504 { "greedy-hasty" } else { "greedy" };
        let package = move || {
            let graph = Archive::built("iris").data("iris.onnx").to_vec();
            let package =
                Archive::built("greedy").manifest("[limits]", super::nn::GRAPH).file("graph.onnx", graph);
            let package = package.manifest("name = \"greedy\"", &format!("name = \"{model}\""));
            if status == 504 { package.manifest("60s", "500ms") } else { package }
        };
        Attack::call(&format!("greedy: {asked}"), model, package, words(&[asked]), (status, message))
    };
    CASES.into_iter().map(one).collect()
}
