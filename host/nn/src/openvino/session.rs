//! One execution context of wasi-nn, and a run of it. Nothing here is OpenVINO's own.

use vespid_types::{NamedTensor, Signature};
use wasmtime_wasi_nn::ExecutionContext;
use wasmtime_wasi_nn::backend::{BackendError, Id};

use super::{convert, error_text};
use crate::backend::{Session, Worker};
use crate::{Interrupt, NnError};

/// How the backend is told which input or output is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// By its name.
    Named(String),
    /// By its place, where it has no name.
    At(u32),
}

impl Port {
    fn id(&self) -> Id {
        match self {
            Self::Named(name) => Id::Name(name.clone()),
            Self::At(place) => Id::Index(*place),
        }
    }
}

/// The ports of a graph, in the signature's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

pub(super) struct WasiNnSession {
    context: ExecutionContext,
    signature: Signature,
    ports: Ports,
}

impl WasiNnSession {
    pub(super) fn new(context: ExecutionContext, signature: Signature, ports: Ports) -> Self {
        Self { context, signature, ports }
    }
}

impl Session for WasiNnSession {
    fn run(&mut self, inputs: &[NamedTensor], _: &Interrupt) -> Result<Vec<NamedTensor>, NnError> {
        for (input, port) in inputs.iter().zip(&self.ports.inputs) {
            let tensor = convert::to_wasi_nn(input)?;
            self.context.set_input(port.id(), &tensor).map_err(|error| run_error(&error))?;
        }
        self.context.compute().map_err(|error| run_error(&error))?;
        let outputs = self.signature.outputs.iter().zip(&self.ports.outputs);
        let output = |(spec, port): (_, &Port)| {
            let tensor = self.context.get_output(port.id()).map_err(|error| run_error(&error))?;
            convert::from_wasi_nn(spec, tensor)
        };
        outputs.map(output).collect()
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        worker(&mut *self);
    }
}

fn run_error(error: &BackendError) -> NnError {
    NnError::Run { message: error_text(error) }
}
