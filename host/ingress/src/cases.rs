//! Recorded cases: a request, and what a model is to answer it with, in one JSON file of a package.
//!
//! Contract: [`Case`] reads `{"request": ..., "response": ..., "tolerance": ...}`, whose request and response are written as
//! the Open Inference Protocol has them in JSON, or `"error": {"code": ..., "contains": ...}` in place of the response. An
//! input may have `"files": [...]` in place of `data`, which lie beside the case. Each refusal names the field. Cost: as a
//! request's and an answer's; files are read when the request is asked for. Left out on purpose: running a case, and answers
//! in pieces.

mod compare;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use vespid_serving::PackagePath;
use vespid_types::{
    Datatype, Error, ErrorCode, ModelRef, NamedTensor, Parameters, Request, Response, Signature,
    encode_elements,
};

pub use compare::Difference;

use crate::wire::cases::{self as wire, Answer};
use crate::wire::{OutputFormat, decode, encode};

/// The folder of a package that holds its cases, one `NAME.json` each.
pub const FOLDER: &str = "cases";

/// How far a floating-point value may be off where the case does not say.
const TOLERANCE: f64 = 1e-5;

/// A case, read and not yet run.
#[derive(Debug)]
pub struct Case {
    request: String,
    expected: Expected,
    tolerance: Option<f64>,
}

/// What is to come of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// These outputs and no others, and these parameters among the response's.
    Response {
        /// The outputs.
        outputs: Vec<NamedTensor>,
        /// The parameters.
        parameters: Parameters,
    },
    /// A failure of that kind, whose text holds `contains`.
    Error {
        /// The kind.
        code: ErrorCode,
        /// A part of the message.
        contains: String,
    },
    /// Nothing has been recorded yet.
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    error: Option<RawError>,
    tolerance: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawError {
    code: String,
    #[serde(default)]
    contains: String,
}

/// The request of the case in `file`, for `target`.
///
/// # Errors
/// As [`Case::parse`] and [`Case::request`], and where the file cannot be read.
pub fn request(file: &Path, target: ModelRef) -> Result<Request, Error> {
    let text = fs::read(file).map_err(|error| Error::invalid(format!("it cannot be read: {error}")))?;
    Case::parse(&text)?.request(target, file.parent().unwrap_or(file))
}

impl Case {
    /// Reads the text of a case.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field and the remedy.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(text)
            .map_err(|error| Error::invalid(format!("byte {} is not UTF-8", error.valid_up_to())))?;
        let raw: RawCase<'_> = serde_json::from_str(text).map_err(|error| {
            Error::invalid(format!(
                "not a case, which is {{\"request\": ..., \"response\": ...}} or {{\"request\": ..., \"error\": ...}}: {error}"
            ))
        })?;
        if raw.tolerance.is_some_and(|tolerance| !tolerance.is_finite() || tolerance < 0.0) {
            return Err(Error::invalid("tolerance: expected a number, 0 or more"));
        }
        let expected = match (raw.response, raw.error) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("both 'response' and 'error' are given: leave one out"));
            }
            (Some(response), None) => {
                let Answer { outputs, parameters } =
                    wire::answer(response.get()).map_err(|error| error.context("response"))?;
                Expected::Response { outputs, parameters }
            }
            (None, Some(error)) => Expected::Error { code: code(&error.code)?, contains: error.contains },
            (None, None) => Expected::Unknown,
        };
        Ok(Self { request: raw.request.get().to_owned(), expected, tolerance: raw.tolerance })
    }

    /// What is to come of the request.
    #[must_use]
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// How far a floating-point value may be off: so much, and so much of the expected value.
    #[must_use]
    pub fn tolerance(&self) -> f64 {
        self.tolerance.unwrap_or(TOLERANCE)
    }

    /// The request for `target`. The files that it names are looked for in `folder`, that of the case.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field and the remedy, as for a request that comes over the network, and where a file
    /// cannot be read.
    pub fn request(&self, target: ModelRef, folder: &Path) -> Result<Request, Error> {
        let named = |error: Error| error.context("request");
        let (body, binary) =
            wire::without_files(&self.request, |file, datatype| read(folder, file, datatype))
                .map_err(named)?;
        let length = body.len().to_string();
        let body = [body.into_bytes(), binary].concat();
        // A signature is needed for bodies without JSON alone.
        let (request, _) =
            decode(body.into(), Some(&length), target, &Signature::default()).map_err(named)?;
        Ok(request)
    }

    /// The files that the request names, as paths in `folder`, that of the case.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the request cannot be read, or a file's name is not one.
    pub fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut files = Vec::new();
        wire::without_files(&self.request, |file, _| {
            files.push(place(folder, file)?);
            Ok(Vec::new())
        })?;
        Ok(files)
    }

    /// How an answer departs from what is expected; empty where it does not.
    #[must_use]
    pub fn check(&self, answer: &Result<Response, Error>) -> Vec<Difference> {
        compare::check(&self.expected, answer, self.tolerance())
    }

    /// The case's text with `answer` in the place of what was expected. The request stays as it is written.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the answer has a value that JSON cannot hold.
    pub fn record(&self, answer: &Result<Response, Error>) -> Result<String, Error> {
        let mut text = format!("{{\n  \"request\": {},\n  ", self.request.trim());
        match answer {
            Ok(response) => {
                let body = encode(response, &OutputFormat::json())?;
                text.push_str(&format!("\"response\": {}", wire::recorded(&body.head)?));
            }
            Err(error) => {
                let message = serde_json::Value::from(error.message());
                text.push_str(&format!(
                    "\"error\": {{\"code\": \"{}\", \"contains\": {message}}}",
                    error.code()
                ));
            }
        }
        if let Some(tolerance) = self.tolerance {
            text.push_str(&format!(",\n  \"tolerance\": {}", serde_json::Value::from(tolerance)));
        }
        text.push_str("\n}\n");
        Ok(text)
    }
}

/// The bytes that a file brings to its tensor: of BYTES an element, of other datatypes raw data.
fn read(folder: &Path, file: &str, datatype: Datatype) -> Result<Vec<u8>, Error> {
    let path = place(folder, file)?;
    let content = fs::read(&path)
        .map_err(|error| Error::invalid(format!("{} cannot be read: {error}", path.display())))?;
    match datatype {
        Datatype::Bytes => encode_elements(&[content])
            .map(Into::into)
            .map_err(|error| Error::invalid(format!("{}: {error}", path.display()))),
        _ => Ok(content),
    }
}

fn place(folder: &Path, file: &str) -> Result<PathBuf, Error> {
    let file: PackagePath = file.parse().map_err(|error| Error::invalid(format!("{error}")))?;
    Ok(folder.join(file))
}

fn code(name: &str) -> Result<ErrorCode, Error> {
    ErrorCode::ALL.into_iter().find(|code| code.as_str() == name).ok_or_else(|| {
        let codes = ErrorCode::ALL.map(ErrorCode::as_str).join(", ");
        Error::invalid(format!("error.code: '{name}' is none of {codes}"))
    })
}

#[cfg(test)]
mod tests;
