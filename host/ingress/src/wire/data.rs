//! A tensor's JSON `data`, flat or nested as its shape, turned into the tensor's bytes.
//!
//! Contract: the text is JSON already (it comes out of a `RawValue`); nesting that disagrees with the shape is refused
//! with the place where it does. Cost: one pass, no recursion, one allocation bounded by the text rather than by what
//! the shape claims. Left out on purpose: a tree of values.

use std::fmt;

use half::{bf16, f16};
use vespid_types::{Datatype, Shape};

use super::element::{Bool, Element, Fraction, Got, Text, TextOrBase64, Whole};

/// The bytes of the tensor whose JSON `data` is `text`. The error begins with a path such as `data[3]`.
pub(super) fn parse(text: &str, datatype: Datatype, shape: &Shape) -> Result<Vec<u8>, String> {
    let Some(elements) = shape.elements() else {
        return Err(format!("shape: {shape} has more elements than can be addressed"));
    };
    let depth = depth(text);
    if depth == 0 {
        return Err(format!("data: expected an array, got {}", Got(text.trim_start())));
    }
    let flat = [elements];
    // A single bracket at the start is flat data, whatever the shape; so is the data of a shape of one dimension.
    let extents: &[u64] = if depth == 1 { &flat } else { shape };
    let mut out = Vec::new();
    let nesting = Nesting { root: &"data", extents, remedy: Remedy::FlatOrNested(shape) };
    match datatype {
        Datatype::Bytes => scan::<Text>(text, &nesting, &mut out)?,
        _ => scan_numbers(text, datatype, &nesting, &mut out)?,
    }
    Ok(out)
}

/// Appends the bytes of `text`, which is nested in arrays just as `extents` say, and a single value where they say nothing.
/// BYTES may be objects `{"b64": ...}`. The error begins with the path, which begins with `root`.
pub(super) fn append(
    text: &str,
    datatype: Datatype,
    root: &dyn fmt::Display,
    extents: &[u64],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let nesting = Nesting { root, extents, remedy: Remedy::Alike };
    match datatype {
        Datatype::Bytes => scan::<TextOrBase64>(text, &nesting, out),
        _ => scan_numbers(text, datatype, &nesting, out),
    }
}

/// How `text` is nested, as the first array at each depth has it; none where it is nested deeper than `deepest`.
pub(super) fn extents(text: &str, deepest: usize) -> Option<Shape> {
    let mut known: Vec<Option<u64>> = Vec::new();
    let mut counts: Vec<u64> = Vec::new();
    let mut tokens = Tokens { text, at: 0 };
    loop {
        match tokens.next() {
            Token::Open if counts.len() == deepest => return None,
            Token::Open => {
                if let Some(last) = counts.last_mut() {
                    *last += 1;
                }
                counts.push(0);
                if known.len() < counts.len() {
                    known.push(None);
                }
            }
            Token::Close => {
                let count = counts.pop().unwrap_or_default();
                if let Some(extent) = known.get_mut(counts.len()) {
                    extent.get_or_insert(count);
                }
            }
            Token::Scalar(_) => {
                if let Some(last) = counts.last_mut() {
                    *last += 1;
                }
            }
            Token::End => return Some(known.into_iter().flatten().collect()),
        }
    }
}

/// The values of the array that `text` is, each as it stands. An array among them is an error.
pub(super) fn values(text: &str) -> impl Iterator<Item = Result<&str, &'static str>> {
    let mut tokens = Tokens { text, at: 0 };
    tokens.next();
    std::iter::from_fn(move || match tokens.next() {
        Token::Scalar(token) => Some(Ok(token)),
        Token::Open => Some(Err("an array")),
        Token::Close | Token::End => None,
    })
}

/// Whether the text is an array.
pub(super) fn is_array(text: &str) -> bool {
    depth(text) > 0
}

/// How data is to be nested.
struct Nesting<'a> {
    /// What a path begins with.
    root: &'a dyn fmt::Display,
    extents: &'a [u64],
    remedy: Remedy<'a>,
}

/// What is said to data that is nested otherwise.
enum Remedy<'a> {
    FlatOrNested(&'a Shape),
    Alike,
}

fn scan_numbers(
    text: &str,
    datatype: Datatype,
    nesting: &Nesting<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    match datatype {
        Datatype::Bool => scan::<Bool>(text, nesting, out),
        Datatype::Uint8 => scan::<Whole<u8>>(text, nesting, out),
        Datatype::Uint16 => scan::<Whole<u16>>(text, nesting, out),
        Datatype::Uint32 => scan::<Whole<u32>>(text, nesting, out),
        Datatype::Uint64 => scan::<Whole<u64>>(text, nesting, out),
        Datatype::Int8 => scan::<Whole<i8>>(text, nesting, out),
        Datatype::Int16 => scan::<Whole<i16>>(text, nesting, out),
        Datatype::Int32 => scan::<Whole<i32>>(text, nesting, out),
        Datatype::Int64 => scan::<Whole<i64>>(text, nesting, out),
        Datatype::Fp16 => scan::<Fraction<f16>>(text, nesting, out),
        Datatype::Bf16 => scan::<Fraction<bf16>>(text, nesting, out),
        Datatype::Fp32 => scan::<Fraction<f32>>(text, nesting, out),
        Datatype::Fp64 => scan::<Fraction<f64>>(text, nesting, out),
        Datatype::Bytes => scan::<Text>(text, nesting, out),
    }
}

fn scan<E: Element>(text: &str, nesting: &Nesting<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let extents = nesting.extents;
    reserve::<E>(text, extents, out);
    let mut tokens = Tokens { text, at: 0 };
    // How many values each open array has had, the outermost first.
    let mut counts: Vec<u64> = Vec::with_capacity(extents.len());
    loop {
        if counts.len() == extents.len()
            && let Some(last) = counts.last_mut()
        {
            *last += tokens.take_numbers::<E>(out);
        }
        match tokens.next() {
            Token::Open => {
                if let Some(last) = counts.last_mut() {
                    *last += 1;
                }
                if counts.len() == extents.len() {
                    return Err(nesting.disagrees(&counts, 1, "is an array where an element should be"));
                }
                counts.push(0);
            }
            Token::Close => {
                let got = counts.pop().unwrap_or_default();
                let expected = extents.get(counts.len()).copied().unwrap_or_default();
                if got != expected {
                    let what =
                        format!("holds {got} {}, not {expected}", if got == 1 { "value" } else { "values" });
                    return Err(nesting.disagrees(&counts, 1, &what));
                }
                if counts.is_empty() {
                    return Ok(());
                }
            }
            Token::Scalar(_) if counts.len() != extents.len() => {
                return Err(nesting.disagrees(&counts, 0, "is no array where one should be"));
            }
            Token::Scalar(token) => {
                if let Err(reason) = E::push(token, out) {
                    return Err(format!("{}: {reason}", nesting.path(&counts, 0)));
                }
                match counts.last_mut() {
                    Some(last) => *last += 1,
                    None => return Ok(()),
                }
            }
            Token::End => return Err(format!("{}: the array is not closed", nesting.root)),
        }
    }
}

/// Makes room. An element takes two characters at least (a digit and a comma), so the text bounds the bytes.
fn reserve<E: Element>(text: &str, extents: &[u64], out: &mut Vec<u8>) {
    let elements = extents.iter().fold(1, |product: u64, extent| product.saturating_mul(*extent));
    let most = usize::try_from(elements).unwrap_or(usize::MAX).min(text.len() / 2 + 1);
    out.reserve(match E::DATATYPE.size() {
        Some(size) => most.saturating_mul(size),
        None => text.len().min(most.saturating_mul(16)),
    });
}

/// How many arrays the text opens before anything else.
fn depth(text: &str) -> usize {
    text.bytes().filter(|b| !is_blank(*b)).take_while(|b| *b == b'[').take(2).count()
}

impl Nesting<'_> {
    /// The place that `counts` has come to. The innermost count is ahead of the index by `ahead`: 0 where the value at hand
    /// is not counted yet.
    fn path(&self, counts: &[u64], ahead: u64) -> String {
        let mut path = self.root.to_string();
        for (position, count) in counts.iter().enumerate() {
            let ahead = if position + 1 == counts.len() { ahead } else { 1 };
            path.push_str(&format!("[{}]", count.saturating_sub(ahead)));
        }
        path
    }

    #[cold]
    fn disagrees(&self, counts: &[u64], ahead: u64, what: &str) -> String {
        let path = self.path(counts, ahead);
        match self.remedy {
            Remedy::FlatOrNested(shape) => format!(
                "{path} {what}: the data must be nested as the shape {shape}, or be one flat array of its elements"
            ),
            Remedy::Alike => {
                format!("{path} {what}, as in what came before: every row must have the same shape")
            }
        }
    }
}

enum Token<'a> {
    Open,
    Close,
    /// A number, string, word or object as it stands.
    Scalar(&'a str),
    End,
}

/// The values and brackets of JSON text that is known to be well formed, so that commas need no check.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Moves past the numbers that follow with nothing but commas and blanks between them; how many there are.
    fn take_numbers<E: Element>(&mut self, out: &mut Vec<u8>) -> u64 {
        let mut taken = 0;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let between = rest.iter().take_while(|b| **b == b',' || is_blank(**b)).count();
            let rest = rest.get(between..).unwrap_or_default();
            if !rest.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-') {
                return taken;
            }
            let before = out.len();
            match E::take(rest, out) {
                Some(length) if rest.get(length).is_some_and(|b| ends_word(*b)) => {
                    self.at += between + length;
                    taken += 1;
                }
                _ => {
                    out.truncate(before);
                    return taken;
                }
            }
        }
    }

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
                b'{' => {
                    self.end_object(bytes);
                    return self.scalar(start);
                }
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

    /// Moves past the brace that closes the object.
    fn end_object(&mut self, bytes: &[u8]) {
        let mut open = 1_usize;
        while open > 0 {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(stop) = rest.iter().position(|b| matches!(b, b'{' | b'}' | b'"')) else {
                self.at = bytes.len();
                return;
            };
            self.at += stop + 1;
            match rest.get(stop) {
                Some(b'{') => open += 1,
                Some(b'}') => open -= 1,
                _ => self.end_string(bytes),
            }
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
    fn rows_are_appended_as_they_are_nested() {
        let mut out = Vec::new();
        let mut add = |text, extents: &[u64]| {
            append(text, Datatype::Uint8, &format_args!("rows[{}]", 7), extents, &mut out)
                .map(|()| out.clone())
        };
        assert_eq!(add(" 1", &[]), Ok(vec![1]));
        assert_eq!(add("[[2],[3]]", &[2, 1]), Ok(vec![1, 2, 3]));
        let tail = ", as in what came before: every row must have the same shape";
        assert_eq!(add("[2, 3]", &[3]).unwrap_err(), format!("rows[7] holds 2 values, not 3{tail}"));
        assert_eq!(add("2", &[3]).unwrap_err(), format!("rows[7] is no array where one should be{tail}"));
        assert_eq!(
            add("[2]", &[]).unwrap_err(),
            format!("rows[7] is an array where an element should be{tail}")
        );
        assert_eq!(add("[2, -1]", &[2]).unwrap_err(), "rows[7][1]: -1 is out of range for UINT8 (0 to 255)");
    }

    #[test]
    fn nesting_is_told_by_the_first_of_each_depth() {
        let told = |text| extents(text, 3).map(|shape| shape.to_vec());
        assert_eq!(told("1"), Some(vec![]));
        assert_eq!(told("[]"), Some(vec![0]));
        assert_eq!(told("[[1,2],[3]]"), Some(vec![2, 2]));
        assert_eq!(told(r#"[{"b64":"[["},"[",{"a":{"b":"}"}}]"#), Some(vec![3]));
        assert_eq!(told("[[],[1]]"), Some(vec![2, 0]));
        assert_eq!(told("[[[[1]]]]"), None);
    }

    #[test]
    fn a_claimed_shape_reserves_nothing() {
        let out = u8s("[1]", &[1 << 40]);
        assert!(out.unwrap_err().starts_with("data holds 1 value, not 1099511627776"));
        assert!(u8s("[]", &[1 << 62, 4]).unwrap_err().contains("more elements"));
        assert!(u8s(&"[".repeat(1 << 20), &[1 << 20, 1]).is_err());
    }
}
