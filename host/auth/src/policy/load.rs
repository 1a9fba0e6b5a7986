//! Policies as they are read.
//!
//! Contract: each policy of each file fits the schema, or none is taken; what is wrong is said with file and line, all of it at once. A
//! policy is called by its `@id("...")`, else by its file and its number in it, from 1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use crate::{AccessError, PolicyFault};

const EXTENSION: &str = "cedar";

/// A file that was read.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

impl Document {
    pub(crate) fn read(file: &Path) -> Result<Self, AccessError> {
        let text = std::fs::read_to_string(file).map_err(|error| AccessError::file(file, error))?;
        Ok(Self { file: file.to_owned(), text })
    }
}

/// The file, or those in the folder that end in `.cedar`, in the order of their names.
pub(crate) fn read(place: &Path) -> Result<Vec<Document>, AccessError> {
    if !place.is_dir() {
        return Ok(vec![Document::read(place)?]);
    }
    let failed = |error| AccessError::file(place, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(AccessError::file(place, "the folder has no file that ends in .cedar"));
    }
    files.sort_unstable();
    files.iter().map(|file| Document::read(file)).collect()
}

/// The policies of all files.
pub(super) fn parse(documents: &[Document], schema: &Schema) -> Result<PolicySet, AccessError> {
    let validator = Validator::new(schema.clone());
    let mut all = PolicySet::new();
    let mut faults = Vec::new();
    for document in documents {
        match named(document) {
            Ok(set) => {
                check(document, &set, &validator, &mut faults);
                for policy in set.policies() {
                    if all.add(policy.clone()).is_err() {
                        let reason = format!("another policy has the id '{}' as well", policy.id());
                        faults.push(fault(document, None, reason));
                    }
                }
            }
            Err(found) => faults.extend(found),
        }
    }
    match faults.is_empty() {
        true => Ok(all),
        false => Err(AccessError::Policies(faults)),
    }
}

/// The policies of a file by their ids.
fn named(document: &Document) -> Result<PolicySet, Vec<PolicyFault>> {
    let parsed = PolicySet::from_str(&document.text)
        .map_err(|errors| errors.iter().map(|error| diagnosed(document, error)).collect::<Vec<_>>())?;
    if parsed.num_of_templates() > 0 {
        let reason =
            "it has a template (?principal or ?resource): write policies, for nothing fills it in here";
        return Err(vec![fault(document, None, reason.to_owned())]);
    }
    let file = document.file.file_name().unwrap_or_default().to_string_lossy();
    // The parser calls them policy0, policy1 and so on.
    let by_number: BTreeMap<usize, _> = parsed
        .policies()
        .filter_map(|policy| {
            let number: &str = policy.id().as_ref();
            Some((number.strip_prefix("policy")?.parse().ok()?, policy))
        })
        .collect();
    let mut set = PolicySet::new();
    let mut faults = Vec::new();
    for (number, policy) in by_number {
        let own = policy.annotation("id").filter(|id| !id.is_empty()).map(str::to_owned);
        let id = own.unwrap_or_else(|| format!("{file}:{}", number + 1));
        if set.add(policy.new_id(PolicyId::new(&id))).is_err() {
            faults.push(fault(document, None, format!("another policy has the id '{id}' as well")));
        }
    }
    if faults.is_empty() { Ok(set) } else { Err(faults) }
}

fn check(document: &Document, set: &PolicySet, validator: &Validator, faults: &mut Vec<PolicyFault>) {
    let result = validator.validate(set, ValidationMode::Strict);
    faults.extend(result.validation_errors().map(|error| diagnosed(document, error)));
    for warning in result.validation_warnings() {
        tracing::warn!("{}", diagnosed(document, warning));
    }
}

fn diagnosed(document: &Document, error: &(dyn Diagnostic + '_)) -> PolicyFault {
    let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let line = offset.map(|offset| {
        let before = document.text.bytes().take(offset);
        before.filter(|byte| *byte == b'\n').count() + 1
    });
    let reason = match error.help() {
        Some(help) => format!("{error} ({help})"),
        None => error.to_string(),
    };
    fault(document, line, reason)
}

fn fault(document: &Document, line: Option<usize>, reason: String) -> PolicyFault {
    PolicyFault { file: document.file.clone(), line, reason }
}
