//! One session of ONNX Runtime, and a run of it. Inputs are not bound to it: `ort` copies borrowed ones that lie on the
//! session's own device first, and waits for itself for ever while it does.

use std::sync::Arc;

use ort::logging::LogLevel;
use ort::session::{RunOptions, Session as OrtSession, SessionInputValue, SessionOutputs};
use vespid_types::{NamedTensor, Signature};

use super::convert;
use crate::backend::{Session, Worker};
use crate::{Interrupt, NnError};

pub(super) struct OnnxSession {
    session: OrtSession,
    signature: Signature,
}

impl OnnxSession {
    pub(super) fn new(session: OrtSession, signature: Signature) -> Self {
        Self { session, signature }
    }
}

/// Options of a run whose failure is told by its error alone, and not by the library's log too.
fn quiet() -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Fatal)?;
    Ok(options)
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
    fn run(&mut self, inputs: &[NamedTensor], interrupt: &Interrupt) -> Result<Vec<NamedTensor>, NnError> {
        let values =
            inputs.iter().map(convert::to_value).collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        // Of this run alone: what comes late ends no other.
        let options = Arc::new(quiet().map_err(|error| run_error(&error))?);
        let ended = Arc::clone(&options);
        interrupt.on_abandoned(move || {
            if let Err(error) = ended.terminate() {
                tracing::warn!("a run that nobody waits for goes on: {}", error.message());
            }
        });
        let outputs =
            self.session.run_with_options(&values[..], &*options).map_err(|error| run_error(&error))?;
        take(&self.signature, outputs)
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        worker(&mut *self);
    }
}
