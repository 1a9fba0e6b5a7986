//! The text of refusals.
//!
//! Contract: a message names the field as a path and never repeats more than a line of what the caller sent. Cost: a
//! request of the wrong form is read a second time, to find the path; a request of the right form pays nothing.
//! Left out on purpose: more than the first fault.

use std::fmt;

use serde::Deserialize;
use serde_json::error::Category;
use vespid_types::Error;

use super::json::InferRequest;

/// Text of the caller's, at most `0` characters of it.
pub(crate) struct Clipped<'a>(pub(crate) &'a str, pub(crate) usize);

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(self.1) {
            Some((end, _)) => write!(f, "{}...", self.0.get(..end).unwrap_or_default()),
            None => f.write_str(self.0),
        }
    }
}

/// A name of the caller's, short enough for a message.
pub(crate) fn name(name: &str) -> Clipped<'_> {
    Clipped(name, 60)
}

/// Where an input stands, such as `inputs[0] 'INPUT0'`.
pub(crate) struct InputAt<'a>(pub(crate) usize, pub(crate) &'a str);

impl fmt::Display for InputAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inputs[{}] '{}'", self.0, name(self.1))
    }
}

const BINARY_FOLLOWS: &str = " (where binary tensors follow the JSON, give the JSON's length in the header Inference-Header-Content-Length)";

/// The refusal of a body that is not UTF-8. `length` is what the header says of the JSON, where there is one.
pub(super) fn not_utf8(error: std::str::Utf8Error, length: Option<usize>) -> Error {
    let remedy = if length.is_none() { BINARY_FOLLOWS } else { "" };
    Error::invalid(format!(
        "request body is not valid JSON: byte {} is not UTF-8{remedy}",
        error.valid_up_to()
    ))
}

/// The refusal of a body that is not JSON, or not that of an inference request.
pub(super) fn not_a_request(json: &str, length: Option<usize>, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let text = Clipped(&text, 300);
    match (error.classify(), length) {
        (Category::Data, _) => {
            let path = path_of_fault::<InferRequest<'_>>(json);
            Error::invalid(format!("request body is not an inference request: {path}{text}"))
        }
        (Category::Eof, Some(length)) => Error::invalid(format!(
            "request body is not valid JSON: {text} (the header Inference-Header-Content-Length ends it after {length} \
             bytes)"
        )),
        _ => {
            let hint = hint(json, length, error);
            Error::invalid(format!("request body is not valid JSON: {text}{hint}"))
        }
    }
}

/// The refusal of a body that is not JSON, or not a `T`, which is `what`.
pub(super) fn not_a<'a, T: Deserialize<'a>>(json: &'a str, what: &str, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let text = Clipped(&text, 300);
    Error::invalid(match error.classify() {
        Category::Data => format!("request body is not {what}: {}{text}", path_of_fault::<T>(json)),
        _ => format!("request body is not valid JSON: {text}"),
    })
}

fn path_of_fault<'a, T: Deserialize<'a>>(json: &'a str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) if error.path().iter().len() > 0 => {
            let path = error.path().to_string();
            format!("{}: ", Clipped(&path, 120))
        }
        _ => String::new(),
    }
}

/// What clients get wrong most: numbers that JSON does not have, and a header left out.
fn hint(json: &str, length: Option<usize>, error: &serde_json::Error) -> &'static str {
    let line = json.lines().nth(error.line().saturating_sub(1)).unwrap_or_default().as_bytes();
    let from = error.column().saturating_sub(3);
    let near = line.get(from..line.len().min(from + 12)).unwrap_or_default();
    let holds = |word: &[u8]| near.windows(word.len()).any(|window| window == word);
    if holds(b"NaN") {
        " (NaN is not JSON: send NaN in a binary tensor)"
    } else if holds(b"Inf") {
        " (Infinity is not JSON: send it in a binary tensor)"
    } else if length.is_none() && error.to_string().starts_with("trailing") {
        BINARY_FOLLOWS
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(Clipped("äöü", 2).to_string(), "äö...");
        assert_eq!(Clipped("äö", 2).to_string(), "äö");
    }
}
