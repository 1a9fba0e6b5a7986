//! Handles that are not the guest's: dropped already, given away, never given, or of another type.

use super::Attack;
use super::crude::call;

const UNKNOWN: &str = "the plugin trapped: unknown handle index";
const AGAIN: &str = "(call $tensor-drop (local.get $tensor))";

/// What the guest does with the handle of its input before it answers with it.
const CASES: [(&str, &str, &str); 11] = [
    (
        "a handle dropped twice",
        "(call $tensor-drop (local.get $tensor)) (call $tensor-drop (local.get $tensor))",
        UNKNOWN,
    ),
    (
        "a handle asked after it was dropped",
        "(call $tensor-drop (local.get $tensor)) (drop (call $byte-length (local.get $tensor)))",
        UNKNOWN,
    ),
    (
        "a handle read after it was dropped",
        "(call $tensor-drop (local.get $tensor)) (call $data (local.get $tensor) (i32.const 0x900))",
        UNKNOWN,
    ),
    ("a handle given away after it was dropped", AGAIN, UNKNOWN),
    ("a handle given away twice", TWICE, UNKNOWN),
    (
        "a handle of another type",
        "(call $nn-error-drop (local.get $tensor))",
        "the plugin trapped: handle index",
    ),
    ("a handle that never was", "(call $tensor-drop (i32.const 9999))", UNKNOWN),
    ("a handle that never was, asked", "(drop (call $byte-length (i32.const 77)))", UNKNOWN),
    ("the handle 0", "(call $tensor-drop (i32.const 0))", UNKNOWN),
    ("the handle -1", "(call $tensor-drop (i32.const -1))", UNKNOWN),
    ("the handle 2^31, given away", "(i32.store (i32.const 0x848) (i32.const 0x80000000))", UNKNOWN),
];

/// Two outputs, the second with the same name and handle.
const TWICE: &str = "(i32.store offset=8 (i32.const 2048) (i32.const 2))
    (i64.store (i32.const 0x84c) (i64.load (i32.const 0x840)))
    (i32.store (i32.const 0x854) (local.get $tensor))";

pub(super) fn attacks() -> Vec<Attack> {
    let one = |(name, text, message): (&str, &str, &str)| {
        call(name, &[("predict", &format!("{text} (i32.const 2048)"))], (500, message))
    };
    CASES.into_iter().map(one).collect()
}
