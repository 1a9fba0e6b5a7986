//! Memory for what is read of requests before it is known which model they are for.
//!
//! Contract: all of these requests together hold as much as the gateway has for them. Bytes are counted as they come, so that a small
//! body takes little, and until nobody has them any more, wherever they have gone. One for which there is no room is refused.

use std::sync::Arc;

use bytes::Bytes;
use bytesize::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vespid_types::Error;

/// What a piece of a body takes besides its bytes, about: a client may make its pieces as small as it likes.
pub(crate) const PIECE: usize = 128;

/// The memory.
#[derive(Debug)]
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    size: ByteSize,
}

impl Memory {
    pub(crate) fn new(size: ByteSize) -> Self {
        let permits = usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        Self { free: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))), size }
    }

    /// Room for so many bytes.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(bytes).map_err(|_| {
            let size = self.size;
            Error::refused(format!(
                "as much of requests is held to find their models' names as may be ({size}): try again, or name the model where it \
                 comes first: in the path, over gRPC as the message's first field"
            ))
        })
    }

    /// A piece of a body, counted.
    ///
    /// # Errors
    /// Where there is no room for them.
    pub(crate) fn hold(&self, bytes: Bytes) -> Result<Bytes, Error> {
        let room = self.take(bytes.len().saturating_add(PIECE))?;
        Ok(held(bytes, room))
    }
}

/// These bytes, which have that room until they are dropped.
pub(crate) fn held(bytes: Bytes, room: OwnedSemaphorePermit) -> Bytes {
    Bytes::from_owner(Held { bytes, _room: room })
}

struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_until_nobody_has_them() {
        let memory = Memory::new(ByteSize(5 + PIECE as u64));
        let held = memory.hold(Bytes::from_static(b"abc")).unwrap();
        let slice = held.slice(..1);
        drop(held);
        let error = memory.take(3).unwrap_err();
        assert!(error.is_refused() && error.message().contains("133 B"), "{error}");
        assert!(memory.take(2).is_ok());
        drop(slice);
        assert!(memory.take(5 + PIECE).is_ok());
    }
}
