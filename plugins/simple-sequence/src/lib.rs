//! The model `simple_sequence`: the sum of what a sequence of requests has brought so far.
//!
//! One instance answers all requests of a sequence (`[sequences]` in model.toml), so the sum is a plain variable.

use std::cell::Cell;

use vespid_plugin::prelude::*;

struct SimpleSequence;

thread_local! {
    static SUM: Cell<i32> = const { Cell::new(0) };
}

impl Model for SimpleSequence {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("INPUT", [ANY, 1]).output::<i32>("OUTPUT", [ANY, 1]))
    }

    fn predict(request: Request) -> Result<Response> {
        let input = request.input("INPUT")?;
        let add = |value: &i32| {
            SUM.set(SUM.get().wrapping_add(*value));
            SUM.get()
        };
        let sums: Vec<i32> = input.values::<i32>()?.iter().map(add).collect();
        Ok(Response::new().output("OUTPUT", Tensor::new(&sums, input.shape())?))
    }
}

vespid_plugin::export!(SimpleSequence);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_adds_to_what_it_has() {
        let send = |value: i32| {
            let request = Request::new().with("INPUT", Tensor::new(&[value], [1, 1]).unwrap());
            let response = SimpleSequence::predict(request).unwrap();
            response.get("OUTPUT").unwrap().to_vec::<i32>().unwrap()
        };
        assert_eq!([send(11), send(7), send(-20)], [[11], [18], [-2]]);
    }
}
