//! Answers in pieces, and comes to grief on the way: `kind` says where.

use vespid_plugin::prelude::*;

struct Hostile;

const BEGINNING: i32 = 0;
const PIECE: i32 = 1;
const END: i32 = 2;
const LOOP_AT_END: i32 = 3;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(_: Request) -> Result<Response> {
        Err(Error::unsupported("ask for a stream of responses"))
    }
}

impl Streaming for Hostile {
    fn predict_stream(request: Request) -> Result<impl Iterator<Item = Result<Response>> + 'static> {
        let kind = request.input("kind")?.to_vec::<i32>()?.first().copied().unwrap_or(BEGINNING);
        assert_ne!(kind, BEGINNING, "it traps at the beginning");
        Ok(Pieces { kind, made: 0 })
    }
}

struct Pieces {
    kind: i32,
    made: i32,
}

impl Iterator for Pieces {
    type Item = Result<Response>;

    fn next(&mut self) -> Option<Self::Item> {
        self.made += 1;
        assert!(self.kind != PIECE || self.made < 2, "it traps at the second piece");
        (self.made < 4).then(|| Ok(Response::new().output("answer", Tensor::new(&[self.made], [1])?)))
    }
}

/// The resource's destructor, which the host calls.
impl Drop for Pieces {
    fn drop(&mut self) {
        assert_ne!(self.kind, END, "it traps when it is dropped");
        if self.kind == LOOP_AT_END {
            loop {
                std::hint::black_box(&self.made);
            }
        }
    }
}

vespid_plugin::export!(Hostile as Streaming);
