//! Grief in every place where a guest's code runs or its memory is read: at the start, while it describes itself, in its
//! allocator, in its answer, after it.

use super::Attack;
use super::calls::MEMORY;
use super::crude::{call, upload};

const TRAPPED: &str = "the plugin trapped: it reached unreachable code";
const UNDESCRIBED: &str = "the plugin does not describe itself: ";
const LATE: &str = "the plugin did not answer before the deadline";
const ENDLESS: &str = "(loop $again (br $again)) unreachable";
const GROWING: &str =
    "(loop $again (br_if $again (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable";

/// The place, what is in it, and what must come of the upload.
const REFUSED: [(&str, &str, &str, &str); 18] = [
    ("a trap at the start", "more", "(func $start unreachable) (start $start)", TRAPPED),
    (
        "recursion at the start",
        "more",
        "(func $start (call $start) (call $start)) (start $start)",
        "it recursed too deeply",
    ),
    (
        "memory without end at the start",
        "more",
        "(func $start (loop $again (br_if $again (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable) (start $start)",
        MEMORY,
    ),
    ("a trap while it describes itself", "describe", "unreachable", TRAPPED),
    ("memory without end while it describes itself", "describe", GROWING, MEMORY),
    ("a segment outside of the memory", "more", "(data (i32.const 0x7fffffff) \"x\")", "out of bounds"),
    ("a table of ten million", "more", "(table 10000000 funcref)", "table"),
    ("seventeen tables", "more", TABLES, "table"),
    (
        "a memory of its own of 4 GiB",
        "types",
        "(core module $big (memory 65536)) (core instance (instantiate $big))",
        MEMORY,
    ),
    (
        "three memories",
        "types",
        "(core module $one (memory 1)) (core instance (instantiate $one)) (core instance (instantiate $one))",
        "memor",
    ),
    (
        "a memory of 64 bits and 2^48 pages",
        "types",
        "(core module $big (memory i64 0x1000000000000)) (core instance (instantiate $big))",
        "memory",
    ),
    ("a description beyond the memory", "describe", "(i32.const -4)", "out of bounds"),
    ("a description out of line", "describe", "(i32.const 1025)", "not aligned"),
    (
        "a description that is neither",
        "describe",
        "(i32.store8 (i32.const 1024) (i32.const 7)) (i32.const 1024)",
        "discriminant",
    ),
    (
        "2^31 inputs",
        "describe",
        "(i32.store offset=8 (i32.const 1024) (i32.const 0x7fffffff)) (i32.const 1024)",
        "out of bounds",
    ),
    (
        "a datatype that is none",
        "describe",
        "(i32.store8 (i32.const 0x508) (i32.const 99)) (i32.const 1024)",
        "discriminant",
    ),
    (
        "an extent of -2",
        "describe",
        "(i64.store (i32.const 0x5c0) (i64.const -2)) (i32.const 1024)",
        "extent -2",
    ),
    (
        "an error while it describes itself",
        "describe",
        "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.const 1024)",
        UNDESCRIBED,
    ),
];

const TABLES: &str = "(table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref)
    (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref)
    (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref)";

/// The place, what is in it, and what must come of a call.
const FAILED: [(&str, &str, &str, u16, &str); 17] = [
    ("a trap in the allocator", "realloc", "unreachable", 500, TRAPPED),
    ("an allocator that never ends", "realloc", ENDLESS, 504, LATE),
    ("an allocator that takes all memory", "realloc", GROWING, 500, MEMORY),
    ("an allocator that gives what is not there", "realloc", "(i32.const -8)", 500, "the plugin trapped"),
    (
        "an allocator that gives what is out of line",
        "realloc",
        "(i32.const 65537)",
        500,
        "the plugin trapped",
    ),
    ("a trap after the answer", "post", "unreachable", 500, TRAPPED),
    ("no end after the answer", "post", "(loop $again (br $again))", 504, LATE),
    ("an answer beyond the memory", "predict", "(i32.const -4)", 500, "out of bounds"),
    ("an answer out of line", "predict", "(i32.const 2049)", 500, "not aligned"),
    (
        "an answer that is neither",
        "predict",
        "(i32.store8 (i32.const 2048) (i32.const 7)) (i32.const 2048)",
        500,
        "discriminant",
    ),
    (
        "2^31 outputs",
        "predict",
        "(i32.store offset=8 (i32.const 2048) (i32.const 0x7fffffff)) (i32.const 2048)",
        500,
        "out of bounds",
    ),
    (
        "outputs beyond the memory",
        "predict",
        "(i32.store offset=4 (i32.const 2048) (i32.const -4)) (i32.const 2048)",
        500,
        "out of bounds",
    ),
    (
        "a name beyond the memory",
        "predict",
        "(i32.store (i32.const 0x840) (i32.const -4)) (i32.const 2048)",
        500,
        "out of bounds",
    ),
    (
        "a name that is not UTF-8",
        "predict",
        "(i32.store8 (i32.const 0x5a0) (i32.const 0xff)) (i32.const 2048)",
        500,
        "utf-8",
    ),
    (
        "an error whose code is none",
        "predict",
        "(i32.store8 (i32.const 2048) (i32.const 1)) (i32.store8 (i32.const 2052) (i32.const 99)) (i32.const 2048)",
        500,
        "discriminant",
    ),
    (
        "data for a place beyond the memory",
        "predict",
        "(call $data (local.get $tensor) (i32.const -4)) (i32.const 2048)",
        500,
        "out of bounds",
    ),
    (
        "a table without end",
        "predict",
        "(loop $again (br_if $again (i32.ge_s (table.grow $table (ref.null func) (i32.const 1000)) (i32.const 0)))) unreachable",
        500,
        TRAPPED,
    ),
];

pub(super) fn attacks() -> Vec<Attack> {
    let refused = REFUSED.map(|(name, place, text, message)| upload(name, &[(place, text)], (400, message)));
    let failed = FAILED.map(|(name, place, text, status, message)| {
        let table = if text.contains("$table") { "(table $table 1 funcref)" } else { "" };
        call(name, &[(place, text), ("more", table)], (status, message))
    });
    refused.into_iter().chain(failed).collect()
}

/// Those that take the half minute in which a plugin may describe itself.
#[must_use]
pub fn endless() -> Vec<Attack> {
    let late = (400, "the plugin does not describe itself: the plugin did not answer before the deadline");
    vec![
        upload("no end while it describes itself", &[("describe", ENDLESS)], late),
        upload(
            "no end at the start",
            &[("more", "(func $start (loop $again (br $again))) (start $start)")],
            late,
        ),
    ]
}
