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
    /// The file is not WebAssembly, or not valid.
    #[error("not a valid WebAssembly {what}: {reason}")]
    Invalid {
        /// What it was taken for: a component or a module.
        what: &'static str,
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
        "the component imports '{import}', which is not granted: a plugin may import vespid:model, wasi:nn and WASI 0.2"
    )]
    ImportNotGranted {
        /// The import's name.
        import: String,
    },
    /// The component asks others over HTTP, and the manifest names no host.
    #[error(
        "the component imports '{import}', which is not granted: list the hosts that it asks as `http` under [grants] in model.toml"
    )]
    HttpNotGranted {
        /// The import's name.
        import: String,
    },
    /// Hosts are granted that are asked over TLS, and it cannot be spoken.
    #[error(
        "grants.http: {reason}; install the system's root certificates (ca-certificates), or name a file of them with SSL_CERT_FILE"
    )]
    Tls {
        /// What is missing.
        reason: String,
    },
    /// The folder that the manifest grants cannot be opened.
    #[error("grants.folder: the folder cannot be opened")]
    Folder(#[source] wasmtime::Error),
    /// An import is offered, with another type than the plugin expects, or as a whole but not in this part.
    #[error("an import of the plugin does not fit what the host offers: {reason}")]
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
    /// A core module that is no command.
    #[error(
        "the core module is no command: {reason}; build a binary crate for wasm32-wasip1, or a component with the vespid-plugin SDK"
    )]
    NoCommand {
        /// What it lacks, or asks for.
        reason: String,
    },
    /// The manifest has what a command cannot honour, or lacks what it needs.
    #[error("model.plugin is a core module, and so a command: {field}: {reason}")]
    CommandManifest {
        /// The field of model.toml.
        field: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// As many instances run as the engine has room for.
    #[error("all {limit} plugin instances are in use; try again later")]
    Saturated {
        /// The room there is.
        limit: u32,
    },
    /// As many sequences hold an instance as there is room for.
    #[error("sequences hold all {limit} plugin instances that they may; end one, or try again later")]
    TooManyHeld {
        /// The room there is.
        limit: u32,
    },
    /// A command was to be held between calls.
    #[error("a command cannot be held for a sequence: it runs once")]
    NothingHeld,
    /// A plugin that does not export `vespid:model/session` was asked for what it keeps.
    #[error(
        "what the plugin keeps of a sequence cannot be saved: it does not export vespid:model/session@0.1.0"
    )]
    NoSession,
    /// A plugin that does not export `vespid:model/streaming` was asked for an answer in pieces.
    #[error("the plugin does not answer in pieces: it does not export vespid:model/streaming@0.1.0")]
    NoStream,
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
        /// Whether that is because what it asked for the call refused it at its door.
        refused: bool,
    },
    /// A command cannot be given this input.
    #[error("input '{name}': {reason}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A command ended with another exit code than 0.
    #[error("the plugin exited with code {exit}{}", because(said.as_deref(), refused.as_ref()))]
    Exited {
        /// The exit code.
        exit: i32,
        /// The last line that it wrote to its standard error.
        said: Option<String>,
        /// What the last graph that failed in the call said.
        refused: Option<Refusal>,
    },
    /// The host's side of an import panicked over what a command handed it; the panic was caught.
    #[error(
        "the plugin handed the host what it cannot use, such as a pointer outside of its memory: {message}"
    )]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// What the plugin describes or answers makes no sense.
    #[error("the plugin's answer is not usable: {reason}")]
    BadAnswer {
        /// What is wrong.
        reason: String,
    },
}

/// Why wasi-nn refused something that a command asked for.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code that it had had as a call's answer.
    pub code: ErrorCode,
    /// What was wrong.
    pub message: String,
}

fn because(said: Option<&str>, refused: Option<&Refusal>) -> String {
    let said = said.map(|line| format!(": {line}")).unwrap_or_default();
    let refused = refused.map(|refusal| format!(" (wasi-nn: {})", refusal.message)).unwrap_or_default();
    said + &refused
}

impl EngineError {
    pub(crate) fn invalid(what: &'static str, error: &wasmtime::Error) -> Self {
        Self::Invalid { what, reason: format!("{:#}", error.root_cause()) }
    }

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

    /// Whether there is no room for the call here, while there may be elsewhere.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Saturated { .. } | Self::TooManyHeld { .. } => true,
            Self::Answered { refused, .. } => *refused,
            Self::Exited { refused, .. } => {
                refused.as_ref().is_some_and(|refusal| refusal.code == ErrorCode::Unavailable)
            }
            _ => false,
        }
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Start(_) | Self::Folder(_) => ErrorCode::Internal,
            Self::Invalid { .. }
            | Self::MissingExport { .. }
            | Self::ImportNotGranted { .. }
            | Self::HttpNotGranted { .. }
            | Self::Tls { .. }
            | Self::ImportMismatch { .. }
            | Self::NoCommand { .. }
            | Self::CommandManifest { .. }
            | Self::Snapshot { .. }
            | Self::Input { .. } => ErrorCode::InvalidArgument,
            Self::Saturated { .. } | Self::TooManyHeld { .. } => ErrorCode::Unavailable,
            Self::NothingHeld | Self::NoSession | Self::NoStream => ErrorCode::Unsupported,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Self::MemoryLimit { .. }
            | Self::Trapped { .. }
            | Self::Panicked { .. }
            | Self::BadAnswer { .. } => ErrorCode::PluginFailed,
            // A graph that has no room for the call now is no defect of the plugin: the caller may try again.
            Self::Exited { refused: Some(Refusal { code: ErrorCode::Unavailable, .. }), .. } => {
                ErrorCode::Unavailable
            }
            Self::Exited { .. } => ErrorCode::PluginFailed,
            Self::Answered { code, .. } => *code,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let told = match error.is_refused() {
            true => Self::refused(message),
            false => Self::new(error.code(), message),
        };
        told.with_source(error)
    }
}
