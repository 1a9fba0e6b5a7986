//! What can go wrong.

use std::fmt;
use std::io;
use std::path::Path;

use rten_onnx::protobuf::ProtobufError;

/// Why no graph was written.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file cannot be read or written.
    File(String),
    /// The input is no ONNX model.
    Onnx(ProtobufError),
    /// The graph is another one than that which the rewriting knows.
    Unexpected(String),
}

impl Error {
    pub(crate) fn file(done: &str, path: &Path, error: &io::Error) -> Self {
        Self::File(format!("{} cannot be {done}: {error}", path.display()))
    }

    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }
}

impl From<ProtobufError> for Error {
    fn from(error: ProtobufError) -> Self {
        Self::Onnx(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(what) => f.write_str(what),
            Self::Onnx(error) => write!(f, "this is no ONNX model: {error}"),
            Self::Unexpected(what) => {
                write!(
                    f,
                    "{what}: this is not Magika's standard_v3_3, to which plugins/file-type/graph is fitted"
                )
            }
        }
    }
}
