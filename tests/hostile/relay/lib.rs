//! Hands its input to the model that its configuration names, and that one's output back.

use std::time::Duration;

use vespid_plugin::prelude::*;

struct Relay;

impl Model for Relay {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<f32>("input", [ANY]).output::<f32>("output", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        if let Some(milliseconds) = config_as("sleep")? {
            sleep(Duration::from_millis(milliseconds));
        }
        let input = request.take("input")?;
        let output = match config("target") {
            Some(target) => infer(&target, [("input", input)])?.take("output")?,
            None => input,
        };
        Ok(Response::new().output("output", output))
    }
}

vespid_plugin::export!(Relay);
