//! Takes all of its input into its memory and gives it back from there: more than a host call moves by default.

use vespid_plugin::prelude::*;

struct Large;

impl Model for Large {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<u8>("input", [ANY]).output::<u8>("output", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        let input = request.take("input")?;
        let data = input.data();
        drop(input);
        Ok(Response::new().output("output", Tensor::raw(Datatype::Uint8, [data.len()], &data)?))
    }
}

vespid_plugin::export!(Large);
