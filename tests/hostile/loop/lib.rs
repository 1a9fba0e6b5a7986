//! Never ends.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(_: Request) -> Result<Response> {
        loop {
            std::hint::black_box(());
        }
    }
}

vespid_plugin::export!(Hostile);
