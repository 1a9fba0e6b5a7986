//! What reads bytes of others, each as a function of those bytes, for a fuzzer to feed: see `README.md`.
//!
//! Contract: a target panics where what it calls breaks a promise, and nowhere else: whatever comes is read or refused; a refusal
//! blames who sent it, in few words; what was read is bounded by what came, and reads back the same where it is written again. Cost: a
//! run takes microseconds to a few milliseconds. Left out on purpose: sockets and what stands around them (headers, compression, time
//! limits), which the end-to-end tests are about, and whatever runs a model.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a target tells what it found"
)]

mod access;
mod check;
mod component;
mod grpc;
mod messages;
mod package;
mod rest;
mod rows;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use access::{access, token};
pub use component::component;
pub use grpc::infer_message;
pub use messages::{ipc_message, messages};
pub use package::{archive, manifest, record};
pub use rest::{control, embeddings, generates, infer_binary, infer_json, predict};
pub use rows::{condition, csv, ipc, jsonl, parquet};

/// A target: its name, which is that of its corpus and of its program, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 20] = [
    ("infer_json", infer_json),
    ("infer_binary", infer_binary),
    ("predict", predict),
    ("generates", generates),
    ("embeddings", embeddings),
    ("control", control),
    ("infer_message", infer_message),
    ("archive", archive),
    ("manifest", manifest),
    ("record", record),
    ("component", component),
    ("csv", csv),
    ("jsonl", jsonl),
    ("parquet", parquet),
    ("ipc", ipc),
    ("condition", condition),
    ("messages", messages),
    ("ipc_message", ipc_message),
    ("access", access),
    ("token", token),
];

/// More memory than anything here asks for, a length of 32 bits among it: what asks for more ends the process, and is found.
const MEMORY: u64 = 4 << 30;

/// Bounds the memory of this process.
pub fn bounded() {
    let maximum = getrlimit(Resource::Data).maximum;
    let current = Some(maximum.map_or(MEMORY, |maximum| maximum.min(MEMORY)));
    setrlimit(Resource::Data, Rlimit { current, maximum }).expect("a process may bound itself");
}
