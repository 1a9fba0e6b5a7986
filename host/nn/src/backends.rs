//! Which inference libraries this process has, and which of them runs a graph.
//!
//! Contract: the graph's own `backend` decides; where it names none, ONNX Runtime runs it if its library is loaded, else
//! the embedded backend does. A backend that is named and not there is an error.

use std::sync::Arc;

use vespid_types::BackendName;

use crate::NnError;
use crate::backend::{Backend, GraphSource};
use crate::embedded::Embedded;
use crate::onnxruntime::OnnxRuntime;

/// The inference libraries. Clones share them.
#[derive(Clone, Default)]
pub struct Backends {
    onnxruntime: Option<Arc<OnnxRuntime>>,
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

    /// ONNX Runtime, where it is loaded.
    #[must_use]
    pub fn onnxruntime(&self) -> Option<&OnnxRuntime> {
        self.onnxruntime.as_deref()
    }

    /// What runs a graph.
    pub(crate) fn choose(&self, source: &GraphSource) -> Result<&dyn Backend, NnError> {
        match (source.backend, &self.onnxruntime) {
            (Some(BackendName::Embedded), _) | (None, None) => Ok(&Embedded),
            (_, Some(onnxruntime)) => Ok(&**onnxruntime),
            (Some(backend), None) => Err(NnError::NoBackend { backend }),
        }
    }
}
