//! Reading ONNX files that may be damaged, or made to do harm, before an inference library reads them.
//!
//! Contract: [`Bounded`] hands out nothing that lies beyond the file, allocates nothing for a length that the file only
//! claims, and follows messages in messages only so deep. The reader of `rten-onnx` 0.27 does none of that: there a length
//! of 2^60 is allocated or goes backwards for ever, a number of more than ten bytes is read for ever, and subgraphs in
//! subgraphs overflow the stack, which ends the process. Both run the same code above, so that what this one has read to
//! its end the library's own reader reads to its end as well. Cost: the file is read once more, its weights copied and
//! dropped.

use rten_onnx::protobuf::{ErrorKind, Fields, OwnedValues, ProtobufError, ReadValue};

/// How much stack may be in use below the reader's maker: less than half of what a thread has. How deep a message lies is
/// not told to a reader, and this is what it comes to.
const MAX_STACK: usize = 768 << 10;

/// A reader that stays within its bytes.
pub(crate) struct Bounded<'a> {
    rest: &'a [u8],
    position: u64,
    stack: usize,
}

impl<'a> Bounded<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, position: 0, stack: stack() }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(eof)?;
        self.rest = rest;
        self.position += length as u64;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}

/// Checks that the file ends where its last field does. Within a message the library takes the file's end for the
/// message's, so that half a model would be one.
pub(crate) fn check_end(file: &[u8]) -> Result<(), ProtobufError> {
    let mut reader = Bounded::new(file);
    let mut fields = Fields::new(&mut reader, None);
    while let Some(mut field) = fields.next()? {
        field.skip()?;
    }
    Ok(())
}

/// About where the stack ends now.
#[inline(never)]
fn stack() -> usize {
    let here = 0_u8;
    (&raw const here).addr()
}

fn eof() -> ProtobufError {
    ProtobufError::new(ErrorKind::Eof)
}

impl ReadValue for Bounded<'_> {
    type Types = OwnedValues;

    fn read_i32(&mut self) -> Result<i32, ProtobufError> {
        self.array().map(i32::from_le_bytes)
    }

    fn read_i64(&mut self) -> Result<i64, ProtobufError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Each field of a message begins with one.
    fn read_varint(&mut self) -> Result<u64, ProtobufError> {
        if stack().abs_diff(self.stack) > MAX_STACK {
            let error = std::io::Error::other("its messages are nested too deeply");
            return Err(ProtobufError::new(ErrorKind::IoError(error)));
        }
        let mut value = 0;
        // Seven bits a byte, so that the tenth has one that counts.
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError::new(ErrorKind::InvalidVarint))
    }

    fn read_bytes(&mut self, length: usize) -> Result<Vec<u8>, ProtobufError> {
        self.take(length).map(<[u8]>::to_vec)
    }

    fn read_string(&mut self, length: usize) -> Result<String, ProtobufError> {
        String::from_utf8(self.read_bytes(length)?).map_err(|_| ProtobufError::new(ErrorKind::InvalidUtf8))
    }

    fn skip(&mut self, length: usize) -> Result<(), ProtobufError> {
        self.take(length).map(drop)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
