//! The messages of a call, as far as they say which model they are for.
//!
//! Contract: each message is framed by five bytes (whether it is compressed, and its length). All that a call sends has to be for one
//! model, of which the first message tells: that is where the call goes, and what it was admitted to. Cost: nothing is held; what is
//! compressed is inflated once more here.

use std::io::{self, Write};
use std::mem;

use bytesize::ByteSize;
use flate2::write::{GzDecoder, ZlibDecoder};
use vespid_types::{Error, ErrorCode};

use super::message::{Message, Named};
use crate::body;

/// How messages are compressed, where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

impl Encoding {
    /// What the header `grpc-encoding` says.
    ///
    /// # Errors
    /// `UNSUPPORTED` of any that hosts do not read either.
    pub(crate) fn of(header: Option<&str>) -> Result<Self, Error> {
        match header {
            None | Some("identity") => Ok(Self::Identity),
            Some("gzip") => Ok(Self::Gzip),
            Some("deflate") => Ok(Self::Deflate),
            Some(_) => {
                let message = "grpc-encoding: use gzip or deflate, or send messages as they are";
                Err(Error::new(ErrorCode::Unsupported, message))
            }
        }
    }
}

/// A reader of a call's messages.
pub(crate) struct Scan {
    encoding: Encoding,
    limit: ByteSize,
    header: Vec<u8>,
    left: u64,
    reader: Option<Reader>,
    first: Option<Named>,
}

/// A reader of one message.
enum Reader {
    Plain(Sink),
    Gzip(Box<GzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
}

/// Where inflated bytes go. A fault ends inflating.
#[derive(Default)]
struct Sink {
    message: Message,
    fault: Option<Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.message.read(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(fault) => {
                self.fault = Some(fault);
                Err(io::Error::other("refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const HEADER: usize = 5;

impl Scan {
    pub(crate) fn new(encoding: Encoding, limit: ByteSize) -> Self {
        Self { encoding, limit, header: Vec::with_capacity(HEADER), left: 0, reader: None, first: None }
    }

    /// The model of the call; none while it may still come.
    pub(crate) fn named(&self) -> Option<&Named> {
        self.first.as_ref()
    }

    /// Whether no message has begun that has not ended.
    pub(crate) fn is_between(&self) -> bool {
        self.reader.is_none() && self.header.is_empty()
    }

    /// Reads on.
    #[cfg(test)]
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let read = self.read_one(bytes)?;
            bytes = &bytes[read..];
        }
        Ok(())
    }

    /// Reads on, to the end of a message at most. Says how much that was.
    ///
    /// # Errors
    /// What is wrong with the message, or that it is for another model.
    pub(crate) fn read_one(&mut self, all: &[u8]) -> Result<usize, Error> {
        let mut bytes = all;
        while !bytes.is_empty() {
            if self.reader.is_none() {
                let missing = (HEADER - self.header.len()).min(bytes.len());
                let (header, rest) = bytes.split_at(missing);
                self.header.extend_from_slice(header);
                bytes = rest;
                if self.header.len() == HEADER {
                    self.begin()?;
                }
            } else {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                let (message, rest) = bytes.split_at(taken);
                self.left -= taken as u64;
                bytes = rest;
                self.go_on(message)?;
            }
            if self.is_between() {
                break;
            }
        }
        Ok(all.len() - bytes.len())
    }

    /// A message begins.
    fn begin(&mut self) -> Result<(), Error> {
        let header = mem::take(&mut self.header);
        let [compressed, length @ ..] = <[u8; HEADER]>::try_from(header).unwrap_or_default();
        self.left = u64::from(u32::from_be_bytes(length));
        if self.left > self.limit.as_u64() {
            return Err(body::too_large("message", self.limit));
        }
        self.reader = Some(match (compressed, self.encoding) {
            (0, _) => Reader::Plain(Sink::default()),
            (1, Encoding::Gzip) => Reader::Gzip(Box::new(GzDecoder::new(Sink::default()))),
            (1, Encoding::Deflate) => Reader::Deflate(Box::new(ZlibDecoder::new(Sink::default()))),
            _ => return Err(Error::invalid("the message's frame does not say how it is compressed")),
        });
        self.go_on(&[])
    }

    fn go_on(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        reader.read(bytes)?;
        if self.left > 0 {
            let named = reader.sink().message.named().cloned();
            self.reader = Some(reader);
            return named.map_or(Ok(()), |named| self.found(named));
        }
        let mut message = reader.finish()?;
        message.end()?;
        message.named().cloned().map_or(Ok(()), |named| self.found(named))
    }

    fn found(&mut self, named: Named) -> Result<(), Error> {
        match &self.first {
            Some(first) if first.name != named.name => Err(Error::invalid(format!(
                "model_name: a stream over the gateway is for one model, and this one is for '{}': open another stream",
                first.name
            ))),
            Some(_) => Ok(()),
            None => {
                self.first = Some(named);
                Ok(())
            }
        }
    }
}

impl Reader {
    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let read = match self {
            Self::Plain(sink) => return sink.message.read(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        };
        read.map_err(|error| self.sink().fault.take().unwrap_or_else(|| garbled(&error)))
    }

    fn finish(mut self) -> Result<Message, Error> {
        let finished = match &mut self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
        };
        finished.map_err(|error| self.sink().fault.take().unwrap_or_else(|| garbled(&error)))?;
        Ok(mem::take(&mut self.sink().message))
    }
}

fn garbled(error: &io::Error) -> Error {
    Error::invalid(format!("the message is not what grpc-encoding says: {error}"))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use prost::Message as _;

    use super::*;
    use crate::grpc::message::tests::request;

    const LIMIT: ByteSize = ByteSize::mib(1);

    fn frame(compressed: u8, message: &[u8]) -> Vec<u8> {
        let mut frame = vec![compressed];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        frame
    }

    fn plain(name: &str, version: &str) -> Vec<u8> {
        frame(0, &request(name, version).encode_to_vec())
    }

    #[test]
    fn the_first_message_s_model_is_known_from_its_beginning() {
        let bytes = plain("iris", "3");
        let mut scan = Scan::new(Encoding::Identity, LIMIT);
        let known = bytes.iter().position(|byte| {
            scan.read(&[*byte]).unwrap();
            scan.named().is_some()
        });
        assert!(known.unwrap() < 20, "{known:?}");
        assert!(!scan.is_between());
        scan.read(&bytes[known.unwrap() + 1..]).unwrap();
        assert!(scan.is_between());
        assert_eq!(scan.named().unwrap().name, "iris");
    }

    #[test]
    fn messages_may_be_compressed() {
        let message = request("iris", "3").encode_to_vec();
        let gzip = {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&message).unwrap();
            encoder.finish().unwrap()
        };
        let deflate = {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&message).unwrap();
            encoder.finish().unwrap()
        };
        for (encoding, compressed) in [(Encoding::Gzip, gzip), (Encoding::Deflate, deflate)] {
            let bytes = [frame(1, &compressed), plain("iris", "")].concat();
            for size in [1, 7, 1000, bytes.len()] {
                let mut scan = Scan::new(encoding, LIMIT);
                bytes.chunks(size).for_each(|piece| scan.read(piece).unwrap());
                assert_eq!(
                    scan.named().unwrap(),
                    &Named { name: "iris".to_owned(), version: "3".to_owned() }
                );
                assert!(scan.is_between());
            }
            let mut scan = Scan::new(encoding, LIMIT);
            assert!(scan.read(&frame(1, b"not compressed")).is_err());
        }
        assert!(Scan::new(Encoding::Identity, LIMIT).read(&frame(1, &message)).is_err());
        assert!(Encoding::of(Some("zstd")).is_err());
    }

    #[test]
    fn a_stream_is_for_one_model() {
        let mut scan = Scan::new(Encoding::Identity, LIMIT);
        scan.read(&[plain("iris", "1"), plain("iris", "2"), plain("iris", "")].concat()).unwrap();
        let error = scan.read(&plain("other", "")).unwrap_err();
        assert!(error.message().contains("for one model"), "{error}");
    }

    #[test]
    fn a_message_has_a_limit() {
        let mut scan = Scan::new(Encoding::Identity, ByteSize(10));
        let error = scan.read(&frame(0, &[0; 11])[..5]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
        let mut empty = Scan::new(Encoding::Identity, LIMIT);
        empty.read(&frame(0, &[])).unwrap();
        assert_eq!(empty.named(), Some(&Named::default()));
    }
}
