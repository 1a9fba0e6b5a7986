//! Traps while it is loaded.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        panic!("this model does not know itself")
    }

    fn predict(mut request: Request) -> Result<Response> {
        Ok(Response::new().output("answer", request.take("kind")?))
    }
}

vespid_plugin::export!(Hostile);
