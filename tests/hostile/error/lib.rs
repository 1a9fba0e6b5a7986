//! Fails with the code asked for.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let code = match request.input("kind")?.to_vec::<i32>()?.as_slice() {
            [0, ..] => Code::InvalidArgument,
            [1, ..] => Code::NotFound,
            [2, ..] => Code::Unsupported,
            [3, ..] => Code::Unavailable,
            [4, ..] => Code::DeadlineExceeded,
            _ => Code::Internal,
        };
        Err(Error::new(code, format!("{code:?}, as the caller asked")))
    }
}

vespid_plugin::export!(Hostile);
