//! Requests about jobs over files.
//!
//! Contract: the body is the job, as a job file has it, and beside it `metadata`, texts that are the client's own.

use serde::Serialize;
use vespid_batch::{Batch, BatchId, JobSpec, Told};
use vespid_types::{Error, ErrorCode};

use super::fault::{Clipped, name};

/// Characters of what is said of a job that is refused.
const LONGEST: usize = 500;

/// Jobs of one page where the client does not say.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// A page of jobs, as OpenAI writes a list.
#[derive(Serialize)]
pub(crate) struct Batches {
    object: &'static str,
    data: Vec<Batch>,
    first_id: Option<BatchId>,
    last_id: Option<BatchId>,
    has_more: bool,
}

impl Batches {
    pub(crate) fn new(data: Vec<Batch>, has_more: bool) -> Self {
        let id = |batch: Option<&Batch>| batch.map(|batch| batch.id.clone());
        let (first_id, last_id) = (id(data.first()), id(data.last()));
        Self { object: "list", data, first_id, last_id, has_more }
    }
}

/// Which jobs are listed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

/// Reads the query of a list.
///
/// # Errors
/// `INVALID_ARGUMENT` with the parameter.
pub(crate) fn page(query: &str) -> Result<Page, Error> {
    let mut page = Page { after: None, limit: DEFAULT_LIMIT };
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "after" => page.after = Some(value.into_owned()),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                page.limit = limit.ok_or_else(|| Error::invalid(format!("limit: use 1 to {MAX_LIMIT}")))?;
            }
            other => {
                return Err(Error::invalid(format!(
                    "'{}' is no parameter of this list: it takes after and limit",
                    name(other)
                )));
            }
        }
    }
    Ok(page)
}

/// Reads a job and what the client says beside it.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field.
pub(crate) fn decode(body: &[u8]) -> Result<(JobSpec, Told), Error> {
    let expected = "expected a JSON object with model, input and output";
    let wrong = |what: String| clipped(ErrorCode::InvalidArgument, &what);
    let not_json = |error: serde_json::Error| wrong(format!("request body: {error}; {expected}"));
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(not_json)?;
    let metadata = fields.remove("metadata").map(serde_json::from_value::<Option<_>>).transpose();
    let metadata = metadata.map_err(|error| wrong(format!("metadata: {error}")))?.flatten();
    let job = serde_json::to_vec(&fields).map_err(not_json)?;
    let job = JobSpec::from_json(&job)
        .map_err(Error::from)
        .map_err(|error| clipped(error.code(), error.message()))?;
    Ok((job, Told { metadata: metadata.unwrap_or_default() }))
}

/// Fields and texts of the client's may be of any length.
fn clipped(code: ErrorCode, message: &str) -> Error {
    Error::new(code, Clipped(message, LONGEST).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_with_what_is_beside_it() {
        let body = br#"{"model":"iris","input":{"url":"a.csv"},"output":{"url":"out"},"metadata":{"team":"a"},"rows_per_call":8.0}"#;
        let (job, told) = decode(body).unwrap();
        assert_eq!((job.model.as_str(), job.rows_per_call), ("iris", Some(8)));
        assert_eq!(told.metadata.get("team").map(String::as_str), Some("a"));
        for (body, expected) in [
            ("[]", "expected a JSON object"),
            (r#"{"input":{"url":"a"},"output":{"url":"b"}}"#, "missing field `model`"),
            (
                r#"{"model":"m","input":{"url":1},"output":{"url":"b"}}"#,
                "input.url: expected a text or a list",
            ),
            (r#"{"model":"m","input":{"url":[]},"output":{"url":"b"}}"#, "input.url: it is empty"),
            (r#"{"model":"m","input":{"url":"a"},"output":{"url":"b"},"metadata":{"a":1}}"#, "metadata: "),
            (
                r#"{"model":"m","input":{"url":"a"},"output":{"url":"b"},"max_error":1}"#,
                "unknown field `max_error`",
            ),
        ] {
            let error = decode(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
        let long = format!(r#"{{"{}":1}}"#, "f".repeat(10_000));
        assert!(decode(long.as_bytes()).unwrap_err().message().len() <= LONGEST + 3);
    }

    #[test]
    fn a_page_is_read() {
        assert_eq!(page("").unwrap(), Page { after: None, limit: 20 });
        assert_eq!(page("limit=2&after=x").unwrap(), Page { after: Some("x".to_owned()), limit: 2 });
        for query in ["limit=0", "limit=101", "limit=x", "order=asc"] {
            assert!(page(query).is_err(), "{query}");
        }
    }
}
