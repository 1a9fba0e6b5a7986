//! How many bytes of tensors this process has copied.
//!
//! Contract: whoever copies the data of a tensor on its way between the socket and the backend says so with
//! [`note_copy`]; a test takes the difference of [`copied_bytes`] around a call and holds it to the number that the way
//! is meant to have. Cost: one relaxed addition beside each copy. Left out on purpose: conversions between a number's text
//! and its bytes (JSON is parsed, not copied), and what an inference library does inside of itself.

use std::sync::atomic::{AtomicU64, Ordering};

static COPIED: AtomicU64 = AtomicU64::new(0);

/// Notes that `bytes` of a tensor's data were copied.
pub fn note_copy(bytes: usize) {
    COPIED.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// The bytes noted since the process began.
#[must_use]
pub fn copied_bytes() -> u64 {
    COPIED.load(Ordering::Relaxed)
}
