//! Calls itself without end.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(_: Request) -> Result<Response> {
        Err(Error::internal(recurse(0).to_string()))
    }
}

/// Goes through a pointer that the compiler cannot follow, so that it stays a call.
fn recurse(depth: u64) -> u64 {
    let next: fn(u64) -> u64 = std::hint::black_box(recurse);
    next(depth + 1) * 3 + depth
}

vespid_plugin::export!(Hostile);
