//! Comes to grief over some rows, and over the whole call that they are in: one that is negative traps, one of a thousand loops.

use vespid_plugin::prelude::*;

struct SomeRows;

impl Model for SomeRows {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let kind = request.input("kind")?;
        let rows = kind.to_vec::<i32>()?;
        if rows.iter().any(|row| *row < 0) {
            std::process::abort();
        }
        while rows.contains(&1000) {
            std::hint::spin_loop();
        }
        let answer: Vec<i32> = rows.iter().map(|row| row * 2).collect();
        Ok(Response::new().output("answer", Tensor::new(&answer, kind.shape())?))
    }
}

vespid_plugin::export!(SomeRows);
