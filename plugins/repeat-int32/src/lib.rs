//! The model `repeat_int32` of Triton's examples: a response for each value that comes in.
//!
//! `IN` holds the values and `DELAY` the milliseconds to wait before each; `WAIT`, the milliseconds after which Triton's
//! model releases its request, changes nothing here.

use std::time::Duration;

use vespid_plugin::prelude::*;

struct Repeat;

impl Model for Repeat {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<i32>("IN", [ANY])
            .input::<u32>("DELAY", [ANY])
            .optional::<u32>("WAIT", [1])
            .output::<i32>("OUT", [1])
            .output::<u32>("IDX", [1]))
    }

    fn predict(_: Request) -> Result<Response> {
        Err(Error::unsupported("this model has a response for each value: ask for a stream of responses"))
    }
}

impl Streaming for Repeat {
    fn predict_stream(request: Request) -> Result<impl Iterator<Item = Result<Response>> + 'static> {
        let values = request.input("IN")?.to_vec::<i32>()?;
        let delays = request.input("DELAY")?.to_vec::<u32>()?;
        if values.len() != delays.len() {
            let (values, delays) = (values.len(), delays.len());
            return Err(Error::invalid(format!("IN has {values} values and DELAY {delays}: give one each")));
        }
        Ok((0_u32..).zip(values.into_iter().zip(delays)).map(|(index, (value, delay))| {
            if delay > 0 {
                sleep(Duration::from_millis(delay.into()));
            }
            Ok(Response::new()
                .output("OUT", Tensor::new(&[value], [1])?)
                .output("IDX", Tensor::new(&[index], [1])?))
        }))
    }
}

vespid_plugin::export!(Repeat as Streaming);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(delays: &[u32]) -> Request {
        Request::new()
            .with("IN", Tensor::new(&[4, -1], [2]).unwrap())
            .with("DELAY", Tensor::new(delays, [delays.len()]).unwrap())
    }

    #[test]
    fn each_value_has_its_response() {
        let responses = Repeat::predict_stream(request(&[0, 1])).unwrap().map(Result::unwrap);
        let pairs = responses.map(|response| {
            let value = response.get("OUT").unwrap().to_vec::<i32>().unwrap();
            (value, response.get("IDX").unwrap().to_vec::<u32>().unwrap())
        });
        assert_eq!(pairs.collect::<Vec<_>>(), [(vec![4], vec![0]), (vec![-1], vec![1])]);
    }

    #[test]
    fn a_value_without_a_delay_is_refused() {
        let refused = Repeat::predict_stream(request(&[0])).map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}
