//! The model `simple_identity` of Triton's examples: hands its input back, without touching its content.

use vespid_plugin::prelude::*;

struct SimpleIdentity;

impl Model for SimpleIdentity {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<[u8]>("INPUT0", [ANY, ANY]).output::<[u8]>("OUTPUT0", [ANY, ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        Ok(Response::new().output("OUTPUT0", request.take("INPUT0")?))
    }
}

vespid_plugin::export!(SimpleIdentity);
