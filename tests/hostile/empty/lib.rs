//! Hands its input on: what is left is what a call costs.

use vespid_plugin::prelude::*;

struct Empty;

impl Model for Empty {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<f32>("input", [ANY]).output::<f32>("output", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        Ok(Response::new().output("output", request.take("input")?))
    }
}

vespid_plugin::export!(Empty);
