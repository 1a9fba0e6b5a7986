//! A tensor's JSON `data`, flat or nested as its shape, turned into the tensor's bytes.
//!
//! Contract: the text is JSON already (it comes out of a `RawValue`); nesting that disagrees with the shape is refused
//! with the place where it does. Cost: one pass, no recursion, one allocation bounded by the text rather than by what
//! the shape claims. Left out on purpose: a tree of values.

use half::{bf16, f16};
use vespid_types::{Datatype, Shape};

use super::element::{Bool, Element, Fraction, Got, Text, Whole};

/// The bytes of the tensor whose JSON `data` is `text`. The error begins with a path such as `data[3]`.
pub(super) fn parse(text: &str, datatype: Datatype, shape: &Shape) -> Result<Vec<u8>, String> {
    match datatype {
        Datatype::Bool => scan::<Bool>(text, shape),
        Datatype::Uint8 => scan::<Whole<u8>>(text, shape),
        Datatype::Uint16 => scan::<Whole<u16>>(text, shape),
        Datatype::Uint32 => scan::<Whole<u32>>(text, shape),
        Datatype::Uint64 => scan::<Whole<u64>>(text, shape),
        Datatype::Int8 => scan::<Whole<i8>>(text, shape),
        Datatype::Int16 => scan::<Whole<i16>>(text, shape),
        Datatype::Int32 => scan::<Whole<i32>>(text, shape),
        Datatype::Int64 => scan::<Whole<i64>>(text, shape),
        Datatype::Fp16 => scan::<Fraction<f16>>(text, shape),
        Datatype::Bf16 => scan::<Fraction<bf16>>(text, shape),
        Datatype::Fp32 => scan::<Fraction<f32>>(text, shape),
        Datatype::Fp64 => scan::<Fraction<f64>>(text, shape),
        Datatype::Bytes => scan::<Text>(text, shape),
    }
}

fn scan<E: Element>(text: &str, shape: &Shape) -> Result<Vec<u8>, String> {
    let Some(elements) = shape.elements() else {
        return Err(format!("shape: {shape} has more elements than can be addressed"));
    };
    let flat = [elements];
    // A single bracket at the start is flat data, whatever the shape; so is the data of a shape of one dimension.
    let extents: &[u64] = if depth(text) == 1 { &flat } else { shape };

    // An element takes two characters at least (a digit and a comma), so the text bounds the bytes.
    let most = usize::try_from(elements).unwrap_or(usize::MAX).min(text.len() / 2 + 1);
    let mut out = Vec::with_capacity(match E::DATATYPE.size() {
        Some(size) => most.saturating_mul(size),
        None => text.len().min(most.saturating_mul(16)),
    });

    let mut tokens = Tokens { text, at: 0 };
    // How many values each open array has had, the outermost first.
    let mut counts: Vec<u64> = Vec::with_capacity(extents.len());
    loop {
        match tokens.next() {
            Token::Open => {
                if let Some(last) = counts.last_mut() {
                    *last += 1;
                }
                if counts.len() == extents.len() {
                    return Err(disagrees(&counts, 1, shape, "is an array where an element should be"));
                }
                counts.push(0);
            }
            Token::Close => {
                let got = counts.pop().unwrap_or_default();
                let expected = extents.get(counts.len()).copied().unwrap_or_default();
                if got != expected {
                    let what =
                        format!("holds {got} {}, not {expected}", if got == 1 { "value" } else { "values" });
                    return Err(disagrees(&counts, 1, shape, &what));
                }
                if counts.is_empty() {
                    return Ok(out);
                }
            }
            Token::Scalar(token) if counts.is_empty() => {
                return Err(format!("data: expected an array, got {}", Got(token)));
            }
            Token::Scalar(_) if counts.len() != extents.len() => {
                return Err(disagrees(&counts, 0, shape, "is no array where one should be"));
            }
            Token::Scalar(token) => {
                if let Err(reason) = E::push(token, &mut out) {
                    return Err(format!("{}: {reason}", path(&counts, 0)));
                }
                if let Some(last) = counts.last_mut() {
                    *last += 1;
                }
            }
            Token::End => return Err("data: the array is not closed".to_owned()),
        }
    }
}

/// How many arrays the text opens before anything else.
fn depth(text: &str) -> usize {
    text.bytes().filter(|b| !is_blank(*b)).take_while(|b| *b == b'[').take(2).count()
}

/// The place that `counts` has come to. The innermost count is ahead of the index by `ahead`: 0 where the value at hand
/// is not counted yet.
fn path(counts: &[u64], ahead: u64) -> String {
    let mut path = "data".to_owned();
    for (position, count) in counts.iter().enumerate() {
        let ahead = if position + 1 == counts.len() { ahead } else { 1 };
        path.push_str(&format!("[{}]", count.saturating_sub(ahead)));
    }
    path
}

#[cold]
fn disagrees(counts: &[u64], ahead: u64, shape: &Shape, what: &str) -> String {
    let path = path(counts, ahead);
    format!(
        "{path} {what}: the data must be nested as the shape {shape}, or be one flat array of its elements"
    )
}

enum Token<'a> {
    Open,
    Close,
    /// A number, string or word as it stands; of an object its first byte.
    Scalar(&'a str),
    End,
}

/// The values and brackets of JSON text that is known to be well formed, so that commas need no check.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    #[inline]
    fn next(&mut self) -> Token<'a> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let start = self.at;
            self.at += 1;
            match byte {
                b',' | b' ' | b'\n' | b'\t' | b'\r' => {}
                b'[' => return Token::Open,
                b']' => return Token::Close,
                b'{' => return self.scalar(start),
                b'"' => {
                    self.end_string(bytes);
                    return self.scalar(start);
                }
                _ => {
                    let rest = bytes.get(self.at..).unwrap_or_default();
                    self.at += rest.iter().position(|b| ends_word(*b)).unwrap_or(rest.len());
                    return self.scalar(start);
                }
            }
        }
        Token::End
    }

    /// Moves past the quote that closes the string.
    fn end_string(&mut self, bytes: &[u8]) {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(stop) = rest.iter().position(|b| matches!(b, b'"' | b'\\')) else {
                self.at = bytes.len();
                return;
            };
            self.at += stop + 1;
            if rest.get(stop) == Some(&b'"') {
                return;
            }
            // The character after a backslash is never the end.
            self.at += 1;
        }
    }

    #[inline]
    fn scalar(&self, start: usize) -> Token<'a> {
        self.text.get(start..self.at).map_or(Token::End, Token::Scalar)
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}') || is_blank(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u8s(text: &str, shape: &[u64]) -> Result<Vec<u8>, String> {
        parse(text, Datatype::Uint8, &Shape::from(shape))
    }

    #[test]
    fn flat_and_nested_data_are_the_same() {
        for text in ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", " [ [ 1 , 2,3 ] ,\n[4,5,6] ] "] {
            assert_eq!(u8s(text, &[2, 3]), Ok(vec![1, 2, 3, 4, 5, 6]), "{text}");
        }
        assert_eq!(u8s("[[[7]]]", &[1, 1, 1]), Ok(vec![7]));
        assert_eq!(u8s("[7]", &[]), Ok(vec![7]));
    }

    #[test]
    fn nothing_may_be_nested_too() {
        for (text, shape) in [
            ("[]", &[0][..]),
            ("[]", &[0, 3]),
            ("[]", &[2, 0]),
            ("[[],[]]", &[2, 0]),
            ("[[],[]]", &[2, 0, 3]),
        ] {
            assert_eq!(u8s(text, shape), Ok(vec![]), "{text}");
        }
    }

    #[test]
    fn nesting_that_disagrees_is_named() {
        let tail = ": the data must be nested as the shape [2, 3], or be one flat array of its elements";
        for (text, head) in [
            ("[1,2,3]", "data holds 3 values, not 6"),
            ("[[1,2,3]]", "data holds 1 value, not 2"),
            ("[[1,2],[3,4],[5,6]]", "data[0] holds 2 values, not 3"),
            ("[[1,2,3],[4,5,6,7]]", "data[1] holds 4 values, not 3"),
            ("[[1,2,3],4]", "data[1] is no array where one should be"),
            ("[[1,2,[3]],[4,5,6]]", "data[0][2] is an array where an element should be"),
            ("[1,[2]]", "data[1] is an array where an element should be"),
            ("[[[1]]]", "data[0][0] is an array where an element should be"),
            ("[[],[]]", "data[0] holds 0 values, not 3"),
        ] {
            assert_eq!(u8s(text, &[2, 3]).unwrap_err(), format!("{head}{tail}"), "{text}");
        }
        assert_eq!(
            u8s("[[1,2,3],[4,5,\"\"]]", &[2, 3]).unwrap_err(),
            "data[1][2]: expected a UINT8 number, got a string"
        );
        assert_eq!(u8s("7", &[]).unwrap_err(), "data: expected an array, got 7");
        assert_eq!(u8s("[{\"a\":[]}]", &[1]).unwrap_err(), "data[0]: expected a UINT8 number, got an object");
    }

    #[test]
    fn strings_may_hold_what_looks_like_structure() {
        let text = r#"["a]\",[", "\\", "", "{}"]"#;
        let mut expected = Vec::new();
        for element in ["a]\",[", "\\", "", "{}"] {
            expected.extend_from_slice(&(element.len() as u32).to_le_bytes());
            expected.extend_from_slice(element.as_bytes());
        }
        assert_eq!(parse(text, Datatype::Bytes, &Shape::from(&[4][..])), Ok(expected));
    }

    #[test]
    fn a_claimed_shape_reserves_nothing() {
        let out = u8s("[1]", &[1 << 40]);
        assert!(out.unwrap_err().starts_with("data holds 1 value, not 1099511627776"));
        assert!(u8s("[]", &[1 << 62, 4]).unwrap_err().contains("more elements"));
        assert!(u8s(&"[".repeat(1 << 20), &[1 << 20, 1]).is_err());
    }
}
