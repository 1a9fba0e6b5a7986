//! Components that are too large, too many things, too deep, or none.

use super::crude::{component, uploaded};
use super::{Attack, Outcome};
use crate::onnx::varint;

const INVALID: Outcome = (400, "not a valid WebAssembly component");
const SERVED: Outcome = (201, "READY");

/// Makes a component of a good one.
type Make = fn(Vec<u8>) -> Vec<u8>;

/// What each is, how it is made of a good one, and what must come of it.
const CASES: [(&str, Make, Outcome); 16] = [
    ("a component cut off", |good| good[..good.len() / 2].to_vec(), INVALID),
    ("a component with damage", damaged, INVALID),
    ("the head of a component and nothing else", |good| good[..8].to_vec(), (400, "does not export")),
    ("a component of another version", |good| [&good[..4], &[0xff, 0, 1, 0], &good[8..]].concat(), INVALID),
    (
        "a section longer than the file",
        |good| [&good, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0][..]].concat(),
        INVALID,
    ),
    ("an empty component", |_| text("(component)"), (400, "does not export vespid:model/model")),
    (
        "a core module",
        |_| text("(module (func (export \"predict\")))"),
        (400, "the core module is no command"),
    ),
    ("lists in lists, 2000 deep", |_| text(&lists(2000)), INVALID),
    (
        "components in components, 1000 deep",
        |_| components(1000),
        (400, "does not export vespid:model/model"),
    ),
    ("a thousand instances", |_| text(&instances(1000)), (400, "instances")),
    ("a custom section of 100 MB", |good| [good, custom(100 << 20)].concat(), SERVED),
    ("data of 100 MB", |_| more("(data \"{x}\")", 100), SERVED),
    (
        "100000 functions",
        |_| more("(func (param i32) (result i32) local.get 0 i32.const 3 i32.mul)", 100_000),
        SERVED,
    ),
    ("20000 blocks in each other", |_| more(&blocks(20_000), 1), SERVED),
    ("a function of 500000 instructions", |_| more(&long(500_000), 1), SERVED),
    ("60000 locals", |_| more(&format!("(func (local {}))", "i32 ".repeat(60_000)), 1), INVALID),
];

pub(super) fn attacks() -> Vec<Attack> {
    CASES
        .into_iter()
        .map(|(name, make, outcome)| uploaded(name, move || make(component(&[])), outcome))
        .collect()
}

fn damaged(mut good: Vec<u8>) -> Vec<u8> {
    let middle = good.len() / 2;
    good[middle..middle + 16].fill(0xff);
    good
}

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The usual component with more in its main module; `{x}` stands for a megabyte of text.
fn more(text: &str, times: usize) -> Vec<u8> {
    let text = text.replace("{x}", &"x".repeat(1 << 20));
    component(&[("more", &text.repeat(times))])
}

fn lists(deep: usize) -> String {
    let inner: String = (0..deep).map(|of| format!("(type (list {of}))")).collect();
    format!("(component (type (list u8)) {inner})")
}

/// Each in a section of the one around it.
fn components(deep: usize) -> Vec<u8> {
    const HEAD: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    (1..deep).fold(HEAD.to_vec(), |inner, _| [&HEAD[..], &[4], &varint(inner.len() as u64), &inner].concat())
}

fn instances(number: usize) -> String {
    let one = "(core instance (instantiate $m))";
    format!("(component (core module $m (memory 1)) {})", one.repeat(number))
}

fn blocks(deep: usize) -> String {
    format!("(func {} {})", "block ".repeat(deep), "end ".repeat(deep))
}

fn long(instructions: usize) -> String {
    let some = "local.get 0 i32.load local.get 0 i32.add local.set 0 ";
    format!("(func (param i32) {})", some.repeat(instructions / 5))
}

/// A custom section of so many bytes.
fn custom(length: usize) -> Vec<u8> {
    let content = [&[1, b'x'][..], &vec![0; length]].concat();
    [vec![0], varint(content.len() as u64), content].concat()
}
