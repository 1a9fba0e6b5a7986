//! The job, as `vespid batch` reads it.

use std::collections::BTreeMap;

use serde::Serialize;
use vespid_resources::{BatchInput, BatchOutput, BatchPrediction, BatchPredictionSpec};

use crate::OperatorError;
use crate::package::Package;

#[derive(Serialize)]
struct Job<'a> {
    model: &'a str,
    version: String,
    input: Input<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    inputs: &'a BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    outputs: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    binary: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<Keep<'a>>,
    output: Output<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_errors: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_per_call: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batched: Option<bool>,
}

#[derive(Serialize)]
struct Input<'a> {
    url: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'a str>,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    types: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Output<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'a str>,
}

/// Columns or fields that are kept: a list, or the word for none.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Keep<'a> {
    None(&'static str),
    These(&'a [String]),
}

impl<'a> Keep<'a> {
    pub(crate) fn of(keep: &'a [String]) -> Self {
        if keep.is_empty() { Self::None("none") } else { Self::These(keep) }
    }
}

/// The job as YAML: a `job.yaml` of `vespid batch`.
///
/// # Errors
/// [`OperatorError::Render`], where it cannot be written.
pub fn job_yaml(batch: &BatchPrediction, package: &Package) -> Result<String, OperatorError> {
    let BatchPredictionSpec {
        input,
        inputs,
        outputs,
        binary,
        keep,
        output,
        max_errors,
        rows_per_call,
        batched,
        ..
    } = &batch.spec;
    let BatchInput { urls, format, filter, types } = input;
    let BatchOutput { url, format: written } = output;
    let job = Job {
        model: &package.model,
        version: package.version.to_string(),
        input: Input { url: urls, format: format.as_deref(), filter: filter.as_deref(), types },
        inputs,
        outputs,
        binary,
        keep: keep.as_deref().map(Keep::of),
        output: Output { url, format: written.as_deref() },
        max_errors: max_errors.as_deref(),
        rows_per_call: *rows_per_call,
        batched: *batched,
    };
    serde_saphyr::to_string(&job)
        .map_err(|error| OperatorError::Render { file: "job.yaml", reason: error.to_string() })
}
