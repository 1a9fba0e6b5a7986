//! Why a component was refused or a call failed.

use bytesize::ByteSize;
use vespid_types::{Error, ErrorCode};
use wasmtime::Trap;

/// A failure of the engine or of a plugin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine does not give what the engine needs.
    #[error("the WebAssembly engine could not start")]
    Start(#[source] wasmtime::Error),
    /// The file is not a component, or not a valid one.
    #[error("not a valid WebAssembly component: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// The component exports no model.
    #[error(
        "the component does not export vespid:model/model@0.1.0 as the interface is written: {reason}; build it with the vespid-plugin SDK or against wit/model.wit"
    )]
    MissingExport {
        /// What wasmtime says.
        reason: String,
    },
    /// The component asks for something that the host does not offer or the manifest does not grant.
    #[error(
        "the component imports '{import}', which is not granted: a plugin may import vespid:model, wasi:nn and WASI 0.2 without http"
    )]
    ImportNotGranted {
        /// The import's name.
        import: String,
    },
    /// An import is offered, with another type than the component expects.
    #[error("an import of the component does not fit what the host offers: {reason}")]
    ImportMismatch {
        /// What wasmtime says.
        reason: String,
    },
    /// The component cannot be written anew with the state that it has after `describe`.
    #[error("instances.snapshot: the component cannot be snapshotted: {reason}; leave it out")]
    Snapshot {
        /// Why not.
        reason: String,
    },
    /// As many instances run as the engine has room for.
    #[error("all {limit} plugin instances are in use; try again later")]
    Saturated {
        /// The room there is.
        limit: u32,
    },
    /// The call did not end in time.
    #[error("the plugin did not answer before the deadline")]
    DeadlineExceeded,
    /// The call asked for more memory than the manifest allows.
    #[error(
        "the plugin needs more than its memory limit of {limit}; raise `memory` under [limits] in its model.toml"
    )]
    MemoryLimit {
        /// The limit.
        limit: ByteSize,
    },
    /// The guest trapped.
    #[error("the plugin trapped: {reason}")]
    Trapped {
        /// What happened.
        reason: String,
    },
    /// The plugin answered with an error of its own.
    #[error("{message}")]
    Answered {
        /// The code that the plugin chose.
        code: ErrorCode,
        /// The plugin's message.
        message: String,
    },
    /// What the plugin describes or answers makes no sense.
    #[error("the plugin's answer is not usable: {reason}")]
    BadAnswer {
        /// What is wrong.
        reason: String,
    },
}

impl EngineError {
    /// What a failed call means, told from the trap that ended it.
    pub(crate) fn from_call(error: &wasmtime::Error) -> Self {
        let reason = match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => "it recursed too deeply (stack overflow)".to_owned(),
            Some(Trap::UnreachableCodeReached) => {
                "it reached unreachable code, as a panic does; its own message is in the server's log"
                    .to_owned()
            }
            Some(trap) => trap.to_string(),
            None => format!("{:#}", error.root_cause()),
        };
        Self::Trapped { reason }
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Start(_) => ErrorCode::Internal,
            Self::Invalid { .. }
            | Self::MissingExport { .. }
            | Self::ImportNotGranted { .. }
            | Self::ImportMismatch { .. }
            | Self::Snapshot { .. } => ErrorCode::InvalidArgument,
            Self::Saturated { .. } => ErrorCode::Unavailable,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Self::MemoryLimit { .. } | Self::Trapped { .. } | Self::BadAnswer { .. } => {
                ErrorCode::PluginFailed
            }
            Self::Answered { code, .. } => *code,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::new(error.code(), error.to_string()).with_source(error)
    }
}
