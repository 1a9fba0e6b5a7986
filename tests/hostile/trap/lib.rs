//! Traps.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        match request.input("kind")?.to_vec::<i32>()?.as_slice() {
            [1, ..] => panic!("as the caller asked"),
            _ => std::process::abort(),
        }
    }
}

vespid_plugin::export!(Hostile);
