//! One session of ONNX Runtime, and a run of it. Inputs are not bound to it: `ort` copies borrowed ones that lie on the
//! session's own device first, and waits for itself for ever while it does.

use ort::session::{Session as OrtSession, SessionInputValue, SessionOutputs};
use vespid_types::{NamedTensor, Signature};

use super::convert;
use crate::NnError;
use crate::backend::{Session, Worker};

pub(super) struct OnnxSession {
    session: OrtSession,
    signature: Signature,
}

impl OnnxSession {
    pub(super) fn new(session: OrtSession, signature: Signature) -> Self {
        Self { session, signature }
    }

    fn run_plain(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, NnError> {
        let values =
            inputs.iter().map(convert::to_value).collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let outputs = self.session.run(&values[..]).map_err(|error| run_error(&error))?;
        take(&self.signature, outputs)
    }
}

fn take(signature: &Signature, mut outputs: SessionOutputs<'_>) -> Result<Vec<NamedTensor>, NnError> {
    let one = |spec: &vespid_types::TensorSpec| {
        let value = outputs.remove(&spec.name).ok_or_else(|| NnError::Output {
            name: spec.name.clone(),
            declared: spec.datatype,
            got: "nothing".to_owned(),
        })?;
        convert::to_tensor(spec, value)
    };
    signature.outputs.iter().map(one).collect()
}

fn run_error(error: &ort::Error) -> NnError {
    NnError::Run { message: error.message().to_owned() }
}

impl Session for OnnxSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, NnError> {
        self.run_plain(inputs)
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        worker(&mut *self);
    }
}
