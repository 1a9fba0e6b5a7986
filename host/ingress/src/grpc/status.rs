//! Failures on their way to clients, over gRPC.
//!
//! Contract: the message is the one that REST answers with, clipped where it would not fit into a header. What is the
//! server's fault is logged, as there.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use vespid_types::{Error, header};

use crate::observe::fault;
use crate::wire::fault::Clipped;

/// Characters of a message. It travels in a header, percent-encoded, and clients take 8 kB of headers.
const MAX_MESSAGE: usize = 2000;

/// A failure on its way to the client.
pub(super) fn status(error: &Error) -> Status {
    fault(error, None, None);
    unlogged(error)
}

/// The same of a failure that has been logged.
pub(super) fn unlogged(error: &Error) -> Status {
    let code = Code::from_i32(i32::from(error.code().grpc_status()));
    let mut status = Status::new(code, Clipped(error.message(), MAX_MESSAGE).to_string());
    if error.is_refused() {
        status.metadata_mut().insert(header::RETRY, MetadataValue::from_static(header::ELSEWHERE));
    }
    status
}
