//! Makes tensors without end, which lie in the host's memory.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let kind = request.input("kind")?.to_vec::<i32>()?;
        let data = vec![0u8; kind.first().map_or(0, |&size| size as usize)];
        let mut hoard = Vec::new();
        loop {
            hoard.push(Tensor::new(&data, [data.len()])?);
        }
    }
}

vespid_plugin::export!(Hostile);
