//! The one map from [`ErrorCode`] to gRPC.
//!
//! Contract: the message is the one that REST answers with, clipped where it would not fit into a header. What is the
//! server's fault is logged, as there.

use tonic::{Code, Status};
use vespid_types::{Error, ErrorCode};

use crate::observe::fault;
use crate::wire::fault::Clipped;

/// The gRPC code of a code.
#[must_use]
pub const fn code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        // What gRPC's own libraries say of a message beyond their limit.
        ErrorCode::TooLarge => Code::ResourceExhausted,
        ErrorCode::Unsupported => Code::Unimplemented,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::PluginFailed | ErrorCode::Internal => Code::Internal,
    }
}

/// Characters of a message. It travels in a header, percent-encoded, and clients take 8 kB of headers.
const MAX_MESSAGE: usize = 2000;

/// A failure on its way to the client.
pub(super) fn status(error: &Error) -> Status {
    fault(error, None, None);
    unlogged(error)
}

/// The same of a failure that has been logged.
pub(super) fn unlogged(error: &Error) -> Status {
    Status::new(code(error.code()), Clipped(error.message(), MAX_MESSAGE).to_string())
}
