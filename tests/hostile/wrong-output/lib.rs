//! Answers against its own signature.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        let kind = request.take("kind")?;
        let response = Response::new();
        Ok(match kind.to_vec::<i32>()?.as_slice() {
            [0, ..] => response.output("answer", Tensor::new(&[1, 2, 3, 4], [2, 2])?),
            [1, ..] => response.output("answer", Tensor::new(&[1.0f32], [1])?),
            [2, ..] => response.output("reply", kind),
            [3, ..] => response,
            _ => response.output("answer", kind).output("answer", Tensor::new(&[0], [1])?),
        })
    }
}

vespid_plugin::export!(Hostile);
