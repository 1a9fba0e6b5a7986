//! Which inference libraries this process has, and which of them runs a graph.
//!
//! Contract: the graph's own `backend` decides. Where it names none, OpenVINO runs graphs of its own encoding; of ONNX,
//! ONNX Runtime runs it if its library is loaded, else the embedded backend does. A backend that is named and not there is
//! an error.

use std::sync::Arc;

use vespid_types::{BackendName, Encoding};

use crate::NnError;
use crate::backend::{Backend, GraphSource};
use crate::embedded::Embedded;
use crate::onnxruntime::OnnxRuntime;
use crate::openvino::OpenVino;

/// The inference libraries. Clones share them.
#[derive(Clone, Default)]
pub struct Backends {
    onnxruntime: Option<Arc<OnnxRuntime>>,
    openvino: Option<Arc<OpenVino>>,
}

impl Backends {
    /// The embedded backend alone.
    #[must_use]
    pub fn embedded() -> Self {
        Self::default()
    }

    /// With ONNX Runtime besides.
    #[must_use]
    pub fn with_onnxruntime(mut self, onnxruntime: Arc<OnnxRuntime>) -> Self {
        self.onnxruntime = Some(onnxruntime);
        self
    }

    /// With OpenVINO besides.
    #[must_use]
    pub fn with_openvino(mut self, openvino: Arc<OpenVino>) -> Self {
        self.openvino = Some(openvino);
        self
    }

    /// ONNX Runtime, where it is loaded.
    #[must_use]
    pub fn onnxruntime(&self) -> Option<&OnnxRuntime> {
        self.onnxruntime.as_deref()
    }

    /// What runs a graph.
    pub(crate) fn choose(&self, source: &GraphSource) -> Result<&dyn Backend, NnError> {
        let named = match source.encoding {
            Encoding::Openvino => source.backend.or(Some(BackendName::Openvino)),
            Encoding::Onnx => source.backend,
        };
        match (named, &self.onnxruntime) {
            (Some(BackendName::Embedded), _) | (None, None) => Ok(&Embedded),
            (Some(backend @ BackendName::Openvino), _) => match &self.openvino {
                Some(openvino) => Ok(&**openvino),
                None => Err(NnError::NoBackend { backend }),
            },
            (_, Some(onnxruntime)) => Ok(&**onnxruntime),
            (Some(backend), None) => Err(NnError::NoBackend { backend }),
        }
    }
}
