//! One session of ONNX Runtime, and a run of it.

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session as OrtSession, SessionInputValue, SessionOutputs};
use vespid_types::{NamedTensor, Signature};

use super::convert;
use crate::NnError;
use crate::backend::{Session, Worker};

pub(super) struct OnnxSession {
    session: OrtSession,
    signature: Signature,
    /// Whether the graph's memory is another device's, so that inputs and outputs are bound.
    bound: bool,
}

impl OnnxSession {
    pub(super) fn new(session: OrtSession, signature: Signature, bound: bool) -> Self {
        Self { session, signature, bound }
    }

    fn run_plain(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, NnError> {
        let values =
            inputs.iter().map(convert::to_value).collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let outputs = self.session.run(&values[..]).map_err(|error| run_error(&error))?;
        take(&self.signature, outputs)
    }

    /// Outputs come back in page-locked memory, which a device writes to without a stop in between.
    fn run_bound(
        &mut self,
        inputs: &[NamedTensor],
        output: (AllocationDevice<'_>, AllocatorType, MemoryType),
    ) -> Result<Vec<NamedTensor>, NnError> {
        let values = inputs.iter().map(convert::to_value).collect::<Result<Vec<_>, _>>()?;
        let bind = |session: &OrtSession| -> ort::Result<IoBinding> {
            let mut binding = session.create_binding()?;
            for (input, value) in inputs.iter().zip(&values) {
                binding.bind_input(&input.name, value)?;
            }
            let (device, allocator, kind) = output;
            let memory = MemoryInfo::new(device, 0, allocator, kind)?;
            for spec in &self.signature.outputs {
                binding.bind_output_to_device(&spec.name, &memory)?;
            }
            Ok(binding)
        };
        let binding = bind(&self.session).map_err(|error| run_error(&error))?;
        let outputs = self.session.run_binding(&binding).map_err(|error| run_error(&error))?;
        binding.synchronize_outputs().map_err(|error| run_error(&error))?;
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
        if self.bound {
            let pinned = (AllocationDevice::CUDA_PINNED, AllocatorType::Device, MemoryType::CPUOutput);
            return self.run_bound(inputs, pinned);
        }
        self.run_plain(inputs)
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        worker(&mut *self);
    }
}
