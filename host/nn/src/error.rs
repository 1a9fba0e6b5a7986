//! Why a graph did not load or a compute call failed.

use std::path::PathBuf;

use vespid_types::{BackendName, Datatype, Device, Encoding, Error, ErrorCode, Provider, SignatureError};

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
    /// The backend asked for is not there.
    #[error(
        "the {backend} backend is not loaded: start the server with --{backend} FILE, or see `vespid doctor` for how to get the library"
    )]
    NoBackend {
        /// The backend.
        backend: BackendName,
    },
    /// The backend does not read the graph's encoding.
    #[error("encoding '{encoding}' is not read by the {backend} backend: {remedy}")]
    UnsupportedEncoding {
        /// The backend.
        backend: BackendName,
        /// The graph's encoding.
        encoding: Encoding,
        /// What to do.
        remedy: &'static str,
    },
    /// The backend has no such setting.
    #[error("`{option}` is not available to the {backend} backend: {reason}")]
    UnsupportedOption {
        /// The backend.
        backend: BackendName,
        /// The key in `model.toml`.
        option: &'static str,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// A backend's library is there and cannot be used.
    #[error("{}: {reason}", path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The device is not there or the backend does not reach it.
    #[error("device '{device}' is not available to the {backend} backend: {reason}")]
    UnsupportedDevice {
        /// The backend.
        backend: BackendName,
        /// The device asked for.
        device: Device,
        /// Why not, and what to do.
        reason: String,
    },
    /// The provider is not there, or is not for the device.
    #[error("provider '{provider}' is not available to the {backend} backend: {reason}")]
    UnsupportedProvider {
        /// The backend.
        backend: BackendName,
        /// The provider asked for.
        provider: Provider,
        /// Why not, and what to do.
        reason: String,
    },
    /// The graph is to be batched and cannot.
    #[error("`batching` asks for batches, and the graph takes none: {why}")]
    CannotBatch {
        /// What stands against it.
        why: String,
    },
    /// The backend cannot carry a datatype.
    #[error(
        "'{name}' has datatype {datatype}, which the {backend} backend does not carry; it carries {carried}"
    )]
    UnsupportedDatatype {
        /// The backend.
        backend: BackendName,
        /// The input or output.
        name: String,
        /// Its datatype.
        datatype: String,
        /// Those that the backend carries.
        carried: &'static str,
    },
    /// The graph uses an operator that the backend does not have, or not in that form.
    #[error("failed to load: {message}; {remedy}")]
    UnsupportedOperator {
        /// What the backend says.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A value cannot be carried.
    #[error(
        "'{name}' element {index} is {value}: the {backend} backend carries INT64 as 32 bits, from -2147483648 to 2147483647"
    )]
    ValueOutOfRange {
        /// The backend.
        backend: BackendName,
        /// The input.
        name: String,
        /// The element's position.
        index: usize,
        /// The value.
        value: i64,
    },
    /// An element of a BYTES tensor cannot be carried.
    #[error("'{name}' element {index} {what}: ONNX Runtime takes texts in UTF-8 without NUL characters")]
    Text {
        /// The input.
        name: String,
        /// The element's position.
        index: usize,
        /// What it is or holds.
        what: &'static str,
    },
    /// Batches are to be larger than they may be.
    #[error(
        "batching.preferred_rows is {preferred_rows} and batching.max_rows {max_rows}: use at most as many"
    )]
    PreferredRows {
        /// The rows that are to end a wait.
        preferred_rows: u64,
        /// The rows that a batch may have.
        max_rows: u64,
    },
    /// A tensor without elements has extents from which a graph could make too much.
    #[error("'{name}' has no elements and the shape {shape}: its other extents may span at most 1048576")]
    EmptyTooWide {
        /// The input.
        name: String,
        /// Its shape.
        shape: String,
    },
    /// A tensor that the graph makes would have more elements than any machine serves.
    #[error(
        "{what} asks {operator} for {elements} elements: more than the memory is there for; at most {limit} are made"
    )]
    Growth {
        /// The input, or the constant, that has the extents.
        what: String,
        /// The operator.
        operator: String,
        /// The elements that it asks for.
        elements: u64,
        /// How many it may be.
        limit: u64,
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

    /// Whether there is no room for the call here, while there may be elsewhere.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Self::InGraph { source, .. } => source.is_refused(),
            Self::QueueFull { .. } | Self::Stopped { .. } => true,
            _ => false,
        }
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InGraph { source, .. } => source.code(),
            // Not the caller's doing: the package lacks what its own plugin asks for.
            Self::UnknownGraph { .. } => ErrorCode::PluginFailed,
            Self::NoBackend { .. }
            | Self::UnsupportedEncoding { .. }
            | Self::UnsupportedOption { .. }
            | Self::UnsupportedDevice { .. }
            | Self::UnsupportedProvider { .. }
            | Self::UnsupportedDatatype { .. }
            | Self::UnsupportedOperator { .. } => ErrorCode::Unsupported,
            Self::ValueOutOfRange { .. }
            | Self::Text { .. }
            | Self::CannotBatch { .. }
            | Self::PreferredRows { .. }
            | Self::EmptyTooWide { .. }
            | Self::Growth { .. }
            | Self::Load { .. }
            | Self::Signature(_)
            | Self::Run { .. } => ErrorCode::InvalidArgument,
            Self::Library { .. } | Self::Output { .. } | Self::Panicked { .. } => ErrorCode::Internal,
            Self::QueueFull { .. } | Self::Stopped { .. } => ErrorCode::Unavailable,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        }
    }
}

impl From<NnError> for Error {
    fn from(error: NnError) -> Self {
        let message = error.to_string();
        let told = match error.is_refused() {
            true => Self::refused(message),
            false => Self::new(error.code(), message),
        };
        told.with_source(error)
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("'{}'", names.join("', '")) }
}
