//! Grows its memory without end.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(_: Request) -> Result<Response> {
        let mut hoard = Vec::new();
        loop {
            hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
        }
    }
}

vespid_plugin::export!(Hostile);
