//! Counts its calls in its memory, which a kept instance has still at the next one; and ends calls as it should not.

use std::cell::Cell;

use vespid_plugin::prelude::*;

struct Stateful;

const COUNT: i32 = 0;
const FAIL: i32 = 1;
const TRAP: i32 = 2;
const KEEP_A_TENSOR: i32 = 3;
const LOOP: i32 = 4;

thread_local! {
    static CALLS: Cell<i32> = const { Cell::new(0) };
    /// 1000 for each description, which calls see where the state after it is kept.
    static DESCRIBED: Cell<i32> = const { Cell::new(0) };
}

impl Model for Stateful {
    fn describe() -> Result<Signature> {
        DESCRIBED.set(DESCRIBED.get() + 1000);
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        let calls = CALLS.get() + 1;
        CALLS.set(calls);
        let kind = request.take("kind")?;
        match kind.to_vec::<i32>()?.first().copied().unwrap_or(COUNT) {
            FAIL => return Err(Error::invalid(format!("call {calls} is refused"))),
            TRAP => panic!("as asked"),
            KEEP_A_TENSOR => std::mem::forget(kind),
            LOOP => loop {
                std::hint::black_box(&kind);
            },
            _ => {}
        }
        Ok(Response::new().output("answer", Tensor::new(&[calls + DESCRIBED.get()], [1])?))
    }
}

vespid_plugin::export!(Stateful);
