//! Makes tensors without end, which lie in the host's memory.

use vespid_plugin::prelude::*;

struct Hostile;

const SHARE: i32 = -2;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let kind = request.input("kind")?.to_vec::<i32>()?;
        let mut hoard = Vec::new();
        if kind.first() == Some(&SHARE) {
            // The shared one stays, and that which was paid for goes.
            let data = vec![0u8; 1 << 20];
            loop {
                hoard.push(Tensor::new(&data, [data.len()])?.share()?);
            }
        }
        let data = vec![0u8; kind.first().map_or(0, |&size| size as usize)];
        loop {
            hoard.push(Tensor::new(&data, [data.len()])?);
        }
    }
}

vespid_plugin::export!(Hostile);
