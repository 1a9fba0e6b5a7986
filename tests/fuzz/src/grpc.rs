//! Messages of the gRPC service.

use bytes::Bytes;
use vespid_ingress::fuzzing;
use vespid_types::Parameters;

use crate::check::{is_bounded, reads_back, refused};

/// `ModelInferRequest`.
pub fn infer_message(data: &[u8]) {
    match fuzzing::infer_message(Bytes::copy_from_slice(data)) {
        Ok(request) => {
            is_bounded(&request, data.len());
            // Parameters may be numbers that JSON has not.
            reads_back(&request, &Parameters::new());
        }
        Err(error) => refused(&error),
    }
}
