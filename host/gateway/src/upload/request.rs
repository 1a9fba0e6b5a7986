//! What an upload asks for: its query, its name and, in place of a package, where one is.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;
use vespid_package::PackageError;
use vespid_package::oci::{Reference, RegistryError};
use vespid_resources::PackageSource;
use vespid_types::{Error, ModelName};

/// What the query of an upload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct How {
    /// How long to wait for a pod.
    pub(super) wait: Option<Duration>,
    /// The pool of a Model that is made.
    pub(super) pool: Option<String>,
    /// The tenant that it belongs to.
    pub(super) tenant: Option<String>,
}

impl How {
    pub(super) fn read(query: Option<&str>, load_timeout: Duration) -> Result<Self, Error> {
        let mut how = Self { wait: Some(load_timeout), pool: None, tenant: None };
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match (&*key, &*value) {
                ("wait", "true") => {}
                ("wait", "false") => how.wait = None,
                ("wait", seconds) => {
                    let seconds = seconds.strip_suffix('s').unwrap_or(seconds).parse().map_err(|_| {
                        Error::invalid("wait: use true, false, or how many seconds, such as 30s")
                    })?;
                    how.wait = Some(Duration::from_secs(seconds).min(load_timeout));
                }
                ("pool", pool) => how.pool = Some(pool.to_owned()),
                (key, _) => {
                    let key: String = key.chars().take(60).collect();
                    return Err(Error::invalid(format!("'{key}': an upload takes wait and pool")));
                }
            }
        }
        Ok(how)
    }
}

/// A resource's name has fewer characters than a model's.
pub(super) fn check_name(name: &ModelName) -> Result<(), Error> {
    let name = name.as_str();
    let fits = name.len() <= 63
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        && name.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model '{name}': in a cluster a model's name has at most 63 small letters, digits, '-' and '.', none of the last two at an end"
    )))
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Where in a registry the package is: by its digest, for a tag may lead somewhere else tomorrow.
pub(super) fn source(body: &[u8]) -> Result<PackageSource, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Source {
        source: String,
    }
    let not_one =
        |error: serde_json::Error| Error::invalid(format!("request body is not a package's source: {error}"));
    let object: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(not_one)?;
    let Source { source } = serde_json::from_value(object.into()).map_err(not_one)?;
    let reference: Reference = source.parse().map_err(|error| Error::invalid(format!("source: {error}")))?;
    if reference.digest().is_none() {
        let unpinned = PackageError::from(RegistryError::Unpinned { reference });
        return Err(Error::from(unpinned).context("source"));
    }
    Ok(PackageSource { oci: Some(reference.to_string()), ..PackageSource::default() })
}
