//! The model that a message names, read as the message comes.
//!
//! Contract: all requests about a model have its name as field 1 and its version as field 2. They are read from the bytes as these
//! come, however they are cut; what comes after is passed over by its length, and looked at only so far that neither field comes
//! again: protobuf lets the last of several count, and a pod must find no other model than was found here. Of the fields in their
//! usual order nothing has to be held but the beginning. Cost: a few steps for each field of the message itself.

use vespid_types::Error;

/// The fields that say which model.
const NAME: u32 = 1;
const VERSION: u32 = 2;

/// How long a name, and a version, may be: as long as any that is valid, and enough to say of others that they are not.
const MAX_TEXT: usize = 256;

/// What a message says of its model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A reader of one message.
#[derive(Debug, Default)]
pub(crate) struct Message {
    state: State,
    named: Named,
    has_name: bool,
    has_version: bool,
    /// Whether what was found counts: another field, or the end, has come.
    is_decided: bool,
}

#[derive(Debug)]
enum State {
    /// At a field's tag.
    Tag(Varint),
    /// In a number that nobody asks for.
    Number,
    /// At the length of a field.
    Length(u32, Varint),
    /// Within so many bytes that nobody asks for.
    Skip(u64),
    /// Within a text: so many bytes are left.
    Text(u32, u64, Vec<u8>),
}

impl Default for State {
    fn default() -> Self {
        Self::Tag(Varint::default())
    }
}

/// A number of a varying length, as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    /// Takes a byte; the number where it was the last.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, Error> {
        if self.bytes == 10 {
            return Err(damaged());
        }
        self.value |= u64::from(byte & 0x7f).checked_shl(7 * self.bytes).unwrap_or_default();
        self.bytes += 1;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

fn damaged() -> Error {
    Error::invalid("the message is not a protobuf message of the Open Inference Protocol")
}

impl Message {
    /// What the message says; none while it may still come.
    pub(crate) fn named(&self) -> Option<&Named> {
        self.is_decided.then_some(&self.named)
    }

    /// The message has ended.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        let State::Tag(Varint { bytes: 0, .. }) = self.state else { return Err(damaged()) };
        self.is_decided = true;
        Ok(())
    }

    /// Reads on.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Skip(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    let is_over = *left == 0;
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    if is_over {
                        self.state = State::default();
                    }
                    continue;
                }
                State::Text(field, left, text) => {
                    let (field, taken) =
                        (*field, usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len()));
                    text.extend_from_slice(bytes.get(..taken).unwrap_or_default());
                    *left -= taken as u64;
                    let is_over = *left == 0;
                    let text = if is_over { std::mem::take(text) } else { Vec::new() };
                    bytes = bytes.get(taken..).unwrap_or_default();
                    if is_over {
                        self.found(field, text)?;
                    }
                    continue;
                }
                State::Number => {
                    if first & 0x80 == 0 {
                        self.state = State::default();
                    }
                }
                State::Tag(tag) => {
                    if let Some(tag) = tag.push(*first)? {
                        self.field(tag)?;
                    }
                }
                State::Length(field, length) => {
                    let field = *field;
                    if let Some(length) = length.push(*first)? {
                        self.length(field, length)?;
                    }
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// A field begins.
    fn field(&mut self, tag: u64) -> Result<(), Error> {
        let field = u32::try_from(tag >> 3).map_err(|_| damaged())?;
        let is_asked = matches!(field, NAME | VERSION);
        self.state = match tag & 7 {
            2 => State::Length(field, Varint::default()),
            _ if is_asked => return Err(damaged()),
            0 => State::Number,
            1 => State::Skip(8),
            5 => State::Skip(4),
            _ => return Err(damaged()),
        };
        if !is_asked {
            // Where the name has not come, it may: fields have no order.
            self.is_decided |= self.has_name;
            return Ok(());
        }
        let again = if field == NAME { self.has_name } else { self.has_version };
        if again || self.is_decided {
            return Err(Error::invalid(
                "the message says twice, or too late, which model it is for: the gateway has to read it before the rest",
            ));
        }
        Ok(())
    }

    fn length(&mut self, field: u32, length: u64) -> Result<(), Error> {
        self.state = match field {
            NAME | VERSION if length > MAX_TEXT as u64 => {
                let what = if field == NAME { "model_name" } else { "model_version" };
                return Err(Error::invalid(format!(
                    "{what}: it has {length} bytes, and none that is valid has"
                )));
            }
            NAME | VERSION if length == 0 => return self.found(field, Vec::new()),
            NAME | VERSION => State::Text(field, length, Vec::new()),
            _ if length == 0 => State::default(),
            _ => State::Skip(length),
        };
        Ok(())
    }

    fn found(&mut self, field: u32, text: Vec<u8>) -> Result<(), Error> {
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        self.state = State::default();
        if field == NAME {
            (self.named.name, self.has_name) = (text, true);
        } else {
            (self.named.version, self.has_version) = (text, true);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request as clients write it; `extra` stands for the rest.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Request {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) version: String,
        #[prost(string, tag = "3")]
        pub(crate) id: String,
        #[prost(uint64, tag = "4")]
        pub(crate) number: u64,
        #[prost(double, tag = "5")]
        pub(crate) double: f64,
        #[prost(float, tag = "6")]
        pub(crate) float: f32,
        #[prost(bytes = "vec", repeated, tag = "7")]
        pub(crate) contents: Vec<Vec<u8>>,
    }

    pub(crate) fn request(name: &str, version: &str) -> Request {
        Request {
            name: name.to_owned(),
            version: version.to_owned(),
            id: "an id".to_owned(),
            number: u64::MAX,
            double: 1.5,
            float: 2.5,
            contents: vec![vec![0x0a; 300], Vec::new(), vec![0x12; 20_000]],
        }
    }

    fn encode(message: &impl prost::Message) -> Vec<u8> {
        message.encode_to_vec()
    }

    fn read(pieces: &[&[u8]]) -> Result<Named, Error> {
        let mut message = Message::default();
        pieces.iter().try_for_each(|piece| message.read(piece))?;
        message.end()?;
        Ok(message.named().unwrap().clone())
    }

    #[test]
    fn the_model_is_read_however_the_message_is_cut() {
        let bytes = encode(&request("iris", "3"));
        let expected = Named { name: "iris".to_owned(), version: "3".to_owned() };
        for cut in 0..100 {
            let (one, other) = bytes.split_at(cut);
            assert_eq!(read(&[one, other]).unwrap(), expected, "{cut}");
        }
        let bytewise: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&bytewise).unwrap(), expected);
        let named = Named { name: "iris".to_owned(), version: String::new() };
        assert_eq!(read(&[&encode(&request("iris", ""))]).unwrap(), named);
        assert_eq!(read(&[]).unwrap(), Named::default());
    }

    #[test]
    fn it_is_known_as_soon_as_something_else_begins() {
        let bytes = encode(&request("iris", "3"));
        // Tag, length and text of both.
        let end = 2 + 4 + 2 + 1;
        let mut message = Message::default();
        message.read(&bytes[..end]).unwrap();
        assert_eq!(message.named(), None);
        message.read(&bytes[end..=end]).unwrap();
        assert_eq!(message.named().unwrap().version, "3");
    }

    #[test]
    fn nothing_else_is_found_later() {
        let one = encode(&request("iris", "3"));
        let twice = [one.clone(), encode(&request("other", ""))].concat();
        assert!(read(&[&twice]).unwrap_err().message().contains("twice"));
        let late = [encode(&request("iris", "")), vec![0x12, 1, b'4']].concat();
        assert!(read(&[&late]).unwrap_err().message().contains("too late"));
        // The rest first, and then the model: nothing was decided before.
        let reversed =
            [encode(&request("", "")), encode(&Request { name: "iris".to_owned(), ..Request::default() })];
        assert_eq!(read(&[&reversed.concat()]).unwrap().name, "iris");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &[0x0b][..],
            &[0x08, 1],
            &[0x0a, 5, b'i'],
            &[0x0a, 1, 0xff],
            &[0xff; 11],
            &[0x1c],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            assert!(read(&[bytes]).is_err(), "{bytes:?}");
        }
    }
}
