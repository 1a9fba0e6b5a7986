//! The model `simple_string` of Triton's examples: `simple`, over numbers that are written as text.

use vespid_plugin::prelude::*;

struct SimpleString;

impl Model for SimpleString {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<str>("INPUT0", [ANY, 16])
            .input::<str>("INPUT1", [ANY, 16])
            .output::<str>("OUTPUT0", [ANY, 16])
            .output::<str>("OUTPUT1", [ANY, 16]))
    }

    fn predict(request: Request) -> Result<Response> {
        let (left, right) = (request.input("INPUT0")?, request.input("INPUT1")?);
        let shape = left.shape();
        if right.shape() != shape {
            return Err(Error::invalid(format!("INPUT0 has {shape:?} and INPUT1 {:?}", right.shape())));
        }
        let (left, right) = (numbers("INPUT0", left)?, numbers("INPUT1", right)?);
        let apply = |operation: fn(i32, i32) -> i32| {
            let texts: Vec<String> =
                left.iter().zip(&right).map(|(&a, &b)| operation(a, b).to_string()).collect();
            Tensor::bytes(&texts, shape)
        };
        Ok(Response::new()
            .output("OUTPUT0", apply(i32::wrapping_add)?)
            .output("OUTPUT1", apply(i32::wrapping_sub)?))
    }
}

fn numbers(input: &str, tensor: &Tensor) -> Result<Vec<i32>> {
    let parse = |text: Result<&str>| {
        let text = text.map_err(|error| error.context(input))?;
        text.parse().map_err(|error| Error::invalid(format!("{input}: '{text}' is no INT32: {error}")))
    };
    tensor.blobs()?.strings().map(parse).collect()
}

vespid_plugin::export!(SimpleString);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(left: &[&str], right: &[&str]) -> Request {
        Request::new()
            .with("INPUT0", Tensor::bytes(left, [1, left.len()]).unwrap())
            .with("INPUT1", Tensor::bytes(right, [1, right.len()]).unwrap())
    }

    #[test]
    fn sums_and_differences() {
        let response = SimpleString::predict(request(&["0", "41"], &["1", "-1"])).unwrap();
        assert_eq!(response.get("OUTPUT0").unwrap().to_strings().unwrap(), ["1", "40"]);
        assert_eq!(response.get("OUTPUT1").unwrap().to_strings().unwrap(), ["-1", "42"]);
    }

    #[test]
    fn what_is_no_number_is_named() {
        let error = SimpleString::predict(request(&["1"], &["one"])).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with("INPUT1: 'one'"), "{error}");
    }
}
