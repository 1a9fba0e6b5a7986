//! Why a graph did not load or a compute call failed.

use vespid_types::{Datatype, Device, Error, ErrorCode, SignatureError};

/// A failure of inference.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// The failure `source` happened in the graph `graph`.
    #[error("graph '{graph}': {source}")]
    InGraph {
        /// The graph's name.
        graph: String,
        /// What happened.
        source: Box<NnError>,
    },
    /// No graph has that name.
    #[error("no graph is named '{name}'; the package has {}", list(known))]
    UnknownGraph {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The device is not there or the backend does not reach it.
    #[error("device '{device}' is not available to the {backend} backend; use device = \"cpu\"")]
    UnsupportedDevice {
        /// The backend.
        backend: &'static str,
        /// The device asked for.
        device: Device,
    },
    /// The backend cannot carry a datatype.
    #[error(
        "'{name}' has datatype {datatype}, which the {backend} backend does not carry; it carries {carried}"
    )]
    UnsupportedDatatype {
        /// The backend.
        backend: &'static str,
        /// The input or output.
        name: String,
        /// Its datatype.
        datatype: String,
        /// Those that the backend carries.
        carried: &'static str,
    },
    /// The graph uses an operator that the backend does not have, or not in that form.
    #[error(
        "failed to load: {message}; the {backend} backend runs ONNX's standard operators, not those of ai.onnx.ml: export the graph without them (for scikit-learn: an estimator whose probabilities need none, with the labels cut off)"
    )]
    UnsupportedOperator {
        /// The backend.
        backend: &'static str,
        /// What the backend says.
        message: String,
    },
    /// A value cannot be carried.
    #[error(
        "'{name}' element {index} is {value}: the {backend} backend carries INT64 as 32 bits, from -2147483648 to 2147483647"
    )]
    ValueOutOfRange {
        /// The backend.
        backend: &'static str,
        /// The input.
        name: String,
        /// The element's position.
        index: usize,
        /// The value.
        value: i64,
    },
    /// The file is not a graph that the backend can run.
    #[error("failed to load: {message}")]
    Load {
        /// What the backend says.
        message: String,
    },
    /// The inputs do not fit the graph.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The backend gave a result of another type than the graph declares.
    #[error("output '{name}' came as {got}; the graph declares {declared}")]
    Output {
        /// The output.
        name: String,
        /// What the graph declares.
        declared: Datatype,
        /// What came.
        got: String,
    },
    /// The backend failed on these inputs.
    #[error("inference failed: {message}")]
    Run {
        /// What the backend says.
        message: String,
    },
    /// The backend panicked; the panic was caught.
    #[error("the backend failed on these inputs: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The lane's queue is full.
    #[error("the queue of the graph is full ({limit} calls wait); try again later")]
    QueueFull {
        /// The queue's limit.
        limit: usize,
    },
    /// The deadline passed before the graph was run.
    #[error("the deadline passed while the call waited for the graph")]
    DeadlineExceeded,
    /// The lane is gone: the model is being unloaded, or its thread could not be started.
    #[error("the graph is not running: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl NnError {
    pub(crate) fn in_graph(self, graph: &str) -> Self {
        Self::InGraph { graph: graph.to_owned(), source: Box::new(self) }
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InGraph { source, .. } => source.code(),
            // Not the caller's doing: the package lacks what its own plugin asks for.
            Self::UnknownGraph { .. } => ErrorCode::PluginFailed,
            Self::UnsupportedDevice { .. }
            | Self::UnsupportedDatatype { .. }
            | Self::UnsupportedOperator { .. } => ErrorCode::Unsupported,
            Self::ValueOutOfRange { .. } | Self::Load { .. } | Self::Signature(_) | Self::Run { .. } => {
                ErrorCode::InvalidArgument
            }
            Self::Output { .. } | Self::Panicked { .. } => ErrorCode::Internal,
            Self::QueueFull { .. } | Self::Stopped { .. } => ErrorCode::Unavailable,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        }
    }
}

impl From<NnError> for Error {
    fn from(error: NnError) -> Self {
        Self::new(error.code(), error.to_string()).with_source(error)
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("'{}'", names.join("', '")) }
}
