//! The model `simple` of Triton's examples: the sum and the difference of two rows of 16 numbers.

use vespid_plugin::prelude::*;

struct Simple;

impl Model for Simple {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<i32>("INPUT0", [ANY, 16])
            .input::<i32>("INPUT1", [ANY, 16])
            .output::<i32>("OUTPUT0", [ANY, 16])
            .output::<i32>("OUTPUT1", [ANY, 16]))
    }

    fn predict(request: Request) -> Result<Response> {
        let (left, right) = (request.input("INPUT0")?, request.input("INPUT1")?);
        let shape = left.shape();
        if right.shape() != shape {
            return Err(Error::invalid(format!("INPUT0 has {shape:?} and INPUT1 {:?}", right.shape())));
        }
        let (left, right) = (left.values::<i32>()?, right.values::<i32>()?);
        let apply = |operation: fn(i32, i32) -> i32| {
            let values: Vec<i32> = left.iter().zip(right.iter()).map(|(&a, &b)| operation(a, b)).collect();
            Tensor::new(&values, shape)
        };
        Ok(Response::new()
            .output("OUTPUT0", apply(i32::wrapping_add)?)
            .output("OUTPUT1", apply(i32::wrapping_sub)?))
    }
}

vespid_plugin::export!(Simple);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences() {
        let left: Vec<i32> = (0..32).collect();
        let request = Request::new()
            .with("INPUT0", Tensor::new(&left, [2, 16]).unwrap())
            .with("INPUT1", Tensor::new(&[1; 32], [2, 16]).unwrap());
        let response = Simple::predict(request).unwrap();
        let output = |name| response.get(name).unwrap().to_vec::<i32>().unwrap();
        assert_eq!(output("OUTPUT0"), (1..33).collect::<Vec<_>>());
        assert_eq!(output("OUTPUT1"), (-1..31).collect::<Vec<_>>());
    }

    #[test]
    fn rows_that_do_not_match_are_the_callers_mistake() {
        let request = Request::new()
            .with("INPUT0", Tensor::new(&[1; 32], [2, 16]).unwrap())
            .with("INPUT1", Tensor::new(&[1; 16], [1, 16]).unwrap());
        assert_eq!(Simple::predict(request).unwrap_err().code(), Code::InvalidArgument);
    }
}
