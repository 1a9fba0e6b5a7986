//! Plugins that end their own calls: traps, loops, memory, wrong answers.

use super::Attack;
use crate::archive::Archive;
use crate::oip::kind;

/// The memory limit that the hostile packages have.
pub const MEMORY: &str = "memory limit of 16.0 MiB";

/// The plugin, what it is told, and the status and a part of the text that come of it.
const CASES: [(&str, i32, u16, &str); 21] = [
    ("trap", 0, 500, "the plugin trapped: it reached unreachable code"),
    ("trap", 1, 500, "the plugin trapped: it reached unreachable code"),
    ("recurse", 0, 500, "the plugin trapped: it recursed too deeply"),
    ("loop", 0, 504, "the plugin did not answer before the deadline"),
    ("allocate", 0, 500, MEMORY),
    ("hoard", 1 << 20, 500, MEMORY),
    ("hoard", 1 << 10, 500, MEMORY),
    ("hoard", i32::MAX, 500, MEMORY),
    ("hoard", -1, 500, "the plugin trapped"),
    ("hoard", -2, 500, MEMORY),
    ("wrong-output", 0, 500, "output 'answer' has shape [2, 2]; the model expects [-1]"),
    ("wrong-output", 1, 500, "output 'answer' has datatype FP32; the model expects INT32"),
    ("wrong-output", 2, 500, "output 'reply' is not in its signature"),
    ("wrong-output", 3, 500, "output 'answer' is missing"),
    ("wrong-output", 4, 500, "output 'answer' is given twice"),
    ("error", 0, 400, "InvalidArgument, as the caller asked"),
    ("error", 1, 404, "NotFound, as the caller asked"),
    ("error", 2, 501, "Unsupported, as the caller asked"),
    ("error", 3, 503, "Unavailable, as the caller asked"),
    ("error", 4, 504, "DeadlineExceeded, as the caller asked"),
    ("error", 5, 500, "Internal, as the caller asked"),
];

/// A built package, of which `loop` alone keeps its time limit of 500 ms: what the others come to must not depend on how busy
/// the machine is.
#[must_use]
pub fn package(model: &str) -> Archive {
    let package = Archive::built(model);
    if model == "loop" { package } else { package.manifest("500ms", "60s") }
}

pub(super) fn attacks() -> Vec<Attack> {
    let one = |(model, number, status, message): (&'static str, i32, u16, &str)| {
        let name = format!("{model} {number}");
        Attack::call(&name, model, move || package(model), kind(number), (status, message))
    };
    let pieces = |(number, status, message): (i32, u16, &str)| {
        let package = || Archive::built("pieces").manifest("60s", "2s");
        let name = format!("pieces {number}");
        let call = Attack::call(&name, "pieces", package, kind(number), (status, message)).in_pieces();
        call.asking(serde_json::json!({"kind": [number]}))
    };
    let of_pieces = [
        (0, 500, "it reached unreachable code"),
        (1, 200, "it reached unreachable code"),
        (2, 200, "it reached unreachable code"),
        (3, 200, "the plugin did not answer before the deadline"),
    ];
    CASES.into_iter().map(one).chain(of_pieces.into_iter().map(pieces)).collect()
}
