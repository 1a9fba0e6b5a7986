//! Logs more than anyone wants to read, and answers.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        let kind = request.take("kind")?;
        log::info!("{}", "x".repeat(1 << 20));
        for line in 1..kind.to_vec::<i32>()?.first().copied().unwrap_or_default() {
            log::info!("line {line}");
        }
        Ok(Response::new().output("answer", kind))
    }
}

vespid_plugin::export!(Hostile);
