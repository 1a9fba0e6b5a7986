//! The version that a header names, for requests that name none themselves.
//!
//! Contract: a gateway that shares out requests between versions says so in [`MODEL_VERSION`], over HTTP and as metadata of
//! gRPC. A version that the path or the body names comes before it. The request itself remains one that names no version: it
//! stays with the version that keeps its sequence, and may be copied to a shadow. Cost: a look at the headers. Left out on
//! purpose: another version in the place of one that is not there.

use axum::http::HeaderMap;
use vespid_types::header::MODEL_VERSION;
use vespid_types::{Error, ModelRef, Result, Version};

/// The model that is to answer a request for `target`.
pub(crate) fn chosen(target: &ModelRef, headers: &HeaderMap) -> Result<ModelRef> {
    let version = match target.version {
        Some(version) => Some(version),
        None => named(headers)?,
    };
    Ok(ModelRef { name: target.name.clone(), version })
}

fn named(headers: &HeaderMap) -> Result<Option<Version>> {
    let mut values = headers.get_all(MODEL_VERSION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid(format!(
            "header {MODEL_VERSION}: it is there more than once: name one version"
        )));
    }
    let text = value.to_str().unwrap_or_default();
    let version = text.parse().map_err(|error| Error::invalid(format!("header {MODEL_VERSION}: {error}")))?;
    Ok(Some(version))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(version: Option<&str>, headers: &[&'static [u8]]) -> Result<Option<String>> {
        let version = version.map(|version| version.parse().unwrap());
        let target = ModelRef { name: "iris".parse().unwrap(), version };
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(MODEL_VERSION, HeaderValue::from_bytes(value).unwrap());
        }
        chosen(&target, &map).map(|chosen| chosen.version.map(|version| version.to_string()))
    }

    #[test]
    fn a_header_names_the_version_where_nothing_else_does() {
        assert_eq!(of(None, &[]).unwrap(), None);
        assert_eq!(of(None, &[b"2"]).unwrap().unwrap(), "2");
        assert_eq!(of(Some("1"), &[b"2"]).unwrap().unwrap(), "1");
    }

    #[test]
    fn what_is_no_version_is_refused_by_the_header_s_name() {
        for values in [&[b"two" as &[u8]] as &[&[u8]], &[b""], &[b"\xff"], &[b"0"], &[b"1", b"2"]] {
            let error = of(None, values).unwrap_err();
            assert!(error.message().starts_with("header vespid-model-version: "), "{error}");
        }
    }
}
