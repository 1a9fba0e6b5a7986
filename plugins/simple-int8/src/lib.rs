//! The model `simple_int8` of Triton's examples: `simple`, over 8-bit integers.

use vespid_plugin::prelude::*;

struct SimpleInt8;

impl Model for SimpleInt8 {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<i8>("INPUT0", [ANY, 16])
            .input::<i8>("INPUT1", [ANY, 16])
            .output::<i8>("OUTPUT0", [ANY, 16])
            .output::<i8>("OUTPUT1", [ANY, 16]))
    }

    fn predict(request: Request) -> Result<Response> {
        let (left, right) = (request.input("INPUT0")?, request.input("INPUT1")?);
        let shape = left.shape();
        if right.shape() != shape {
            return Err(Error::invalid(format!("INPUT0 has {shape:?} and INPUT1 {:?}", right.shape())));
        }
        let (left, right) = (left.values::<i8>()?, right.values::<i8>()?);
        let apply = |operation: fn(i8, i8) -> i8| {
            let values: Vec<i8> = left.iter().zip(right.iter()).map(|(&a, &b)| operation(a, b)).collect();
            Tensor::new(&values, shape)
        };
        Ok(Response::new()
            .output("OUTPUT0", apply(i8::wrapping_add)?)
            .output("OUTPUT1", apply(i8::wrapping_sub)?))
    }
}

vespid_plugin::export!(SimpleInt8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_wrap_around() {
        let request = Request::new()
            .with("INPUT0", Tensor::new(&[100_i8; 16], [1, 16]).unwrap())
            .with("INPUT1", Tensor::new(&[50_i8; 16], [1, 16]).unwrap());
        let response = SimpleInt8::predict(request).unwrap();
        assert_eq!(response.get("OUTPUT0").unwrap().to_vec::<i8>().unwrap(), [-106; 16]);
        assert_eq!(response.get("OUTPUT1").unwrap().to_vec::<i8>().unwrap(), [50; 16]);
    }
}
