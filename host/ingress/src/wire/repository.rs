//! Requests to the model repository: its index, and models that are loaded and unloaded.
//!
//! Contract: an empty body asks for nothing in particular. Of a load, `parameters` holds `config`, a configuration as JSON
//! text, and `file:VERSION/PATH`, each a file's content; a parameter that is none of these is refused, as Triton does.
//! Where files come, a configuration must. Cost: a file's base64 is read where it lies in the body, and its content is held
//! once beside it. Left out on purpose: the repository's name, which this server's has not.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;
use vespid_serving::{LoadOptions, PackageFiles, PackagePath};
use vespid_types::{Error, ModelName, Version};

use super::config;
use super::fault;
use super::json::{Fields, Object, Text, read};
use super::metadata::RepositoryIndexRequest;

/// What stands before a file's version and path in the name of a parameter.
const FILE: &str = "file:";

/// A file as clients write it: with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct LoadRequest<'a> {
    #[serde(borrow)]
    parameters: Option<Fields<'a>>,
}

/// Reads the body of a request for the index.
///
/// # Errors
/// Where it is something else.
pub(crate) fn decode_index(body: &[u8]) -> Result<RepositoryIndexRequest, Error> {
    Ok(parse(body, "a request for the index")?.unwrap_or_default())
}

/// A body that is an object; none where it is empty.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<Option<T>, Error> {
    if body.is_empty() {
        return Ok(None);
    }
    read(body, what).map(|Object(parsed)| Some(parsed))
}

/// Reads the body of a request to load the model `name`.
///
/// # Errors
/// What is wrong with it, by the parameter's name.
pub(crate) fn decode_load(name: &ModelName, body: &[u8]) -> Result<LoadOptions, Error> {
    let mut parameters = LoadParameters::default();
    read_load(body, &mut parameters)
        .and_then(|()| parameters.into_options(name))
        .map_err(|error| refused(name, error))
}

/// Triton's clients look for these words.
pub(crate) fn refused(name: &ModelName, error: Error) -> Error {
    Error::new(error.code(), format!("failed to load '{name}', {error}")).with_source(error)
}

fn read_load(body: &[u8], into: &mut LoadParameters) -> Result<(), Error> {
    let request: Option<LoadRequest<'_>> = parse(body, "a request to load a model")?;
    for (name, value) in
        request.and_then(|request| request.parameters).map(|fields| fields.0).unwrap_or_default()
    {
        let text: Text<'_> = serde_json::from_str(value.get()).map_err(|_| not(&name, "a string"))?;
        if name == "config" {
            into.config = Some(text.0.into_owned());
        } else {
            let content = || {
                BASE64.decode(text.0.as_bytes()).map_err(|error| not(&name, format_args!("base64: {error}")))
            };
            into.file(&name, || Ok(content()?.into()))?;
        }
    }
    Ok(())
}

fn not(name: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("parameters: '{}' is not {what}", fault::name(name)))
}

/// The parameters of a load, from whatever protocol.
#[derive(Default)]
pub(crate) struct LoadParameters {
    /// The configuration as JSON text.
    pub(crate) config: Option<String>,
    files: BTreeMap<Version, PackageFiles>,
}

impl LoadParameters {
    /// Takes the parameter `name`, which is a file.
    ///
    /// # Errors
    /// Where its name is not a file's, or what `content` says.
    pub(crate) fn file(
        &mut self,
        name: &str,
        content: impl FnOnce() -> Result<Bytes, Error>,
    ) -> Result<(), Error> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("parameters: '{}': {why}", fault::name(name)))
        };
        let Some(path) = name.strip_prefix(FILE) else {
            return Err(wrong(&"it is not known: a load takes config, and file:VERSION/PATH"));
        };
        let Some((version, path)) = path.split_once('/') else {
            return Err(wrong(&"a file is named file:VERSION/PATH"));
        };
        let version = version.parse::<Version>().map_err(|error| wrong(&error))?;
        let path = path.parse::<PackagePath>().map_err(|error| wrong(&error))?;
        self.files.entry(version).or_default().insert(path, content()?);
        Ok(())
    }

    /// How the model `name` is to be loaded.
    ///
    /// # Errors
    /// What is wrong with the configuration, or that files came without one.
    pub(crate) fn into_options(self, name: &ModelName) -> Result<LoadOptions, Error> {
        let Self { config, files } = self;
        let Some(config) = config else {
            return if files.is_empty() {
                Ok(LoadOptions::default())
            } else {
                let message =
                    "parameters: files come in place of the package: give config too, if only as {}";
                Err(Error::invalid(message))
            };
        };
        let (overrides, agreement) = config::read(name, &config)?;
        Ok(LoadOptions { overrides: Some(overrides), files, agreement: Some(agreement) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceRequest<'a> {
    #[serde(borrow)]
    source: Text<'a>,
}

/// Reads the body of an upload that names where the package is in place of bringing it.
///
/// # Errors
/// Where it is something else.
pub(crate) fn decode_source(body: &[u8]) -> Result<String, Error> {
    let Object(SourceRequest { source }) = read(body, "a package's source")?;
    Ok(source.0.into_owned())
}

#[derive(Deserialize)]
struct UnloadRequest {
    #[serde(rename = "parameters")]
    _parameters: Option<Object<UnloadParameters>>,
}

#[derive(Deserialize)]
struct UnloadParameters {
    #[serde(rename = "unload_dependents")]
    _unload_dependents: Option<bool>,
}

/// Reads the body of a request to unload a model. `unload_dependents` has nothing to act on: no model here is loaded along
/// with another.
///
/// # Errors
/// Where it is something else.
pub(crate) fn check_unload(body: &[u8]) -> Result<(), Error> {
    parse::<UnloadRequest>(body, "a request to unload a model").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_text(body: &str) -> Result<LoadOptions, String> {
        decode_load(&"m".parse().unwrap(), body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn files_come_by_version() {
        for body in ["", "{}", r#"{"parameters": {}}"#, r#"{"parameters": null}"#] {
            let options = decode_text(body).unwrap();
            assert!(options.overrides.is_none() && options.files.is_empty());
        }
        // With an escape, and without padding.
        let body =
            r#"{"parameters": {"config": "{}", "file:1/a/model.onnx": "AAEC", "file:20/p.wasm": "\/w"}}"#;
        let options = decode_text(body).unwrap();
        assert!(options.overrides.is_some());
        let files: Vec<_> = options
            .files
            .iter()
            .flat_map(|(version, files)| {
                files
                    .iter()
                    .map(move |(path, content)| (version.to_string(), path.to_string(), content.to_vec()))
            })
            .collect();
        let expected = [("1", "a/model.onnx", vec![0, 1, 2]), ("20", "p.wasm", vec![0xff])];
        assert_eq!(files, expected.map(|(version, path, content)| (version.into(), path.into(), content)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, expected) in [
            ("[]", "request body is not a request to load a model"),
            (r#"{"parameters": {"x": "AA=="}}"#, "'x': it is not known: a load takes config"),
            (r#"{"parameters": {"config": {}}}"#, "'config' is not a string"),
            (r#"{"parameters": {"file:1/a": "?"}}"#, "'file:1/a' is not base64"),
            (r#"{"parameters": {"file:a": ""}}"#, "'file:a': a file is named file:VERSION/PATH"),
            (r#"{"parameters": {"file:x/a": ""}}"#, "'file:x/a': 'x' is not a version"),
            (r#"{"parameters": {"file:1/../a": ""}}"#, "'../a' is not a plain relative path"),
            (r#"{"parameters": {"file:1/a": ""}}"#, "give config too"),
            (r#"{"parameters": {"config": "{"}}"#, "config is not JSON"),
        ] {
            let error = decode_text(body).err().unwrap();
            assert!(error.starts_with("failed to load 'm', ") && error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn parameters_are_limited_in_number() {
        let entries: Vec<String> = (0..2000).map(|number| format!(r#""file:1/{number}": """#)).collect();
        let error = decode_text(&format!(r#"{{"parameters": {{{}}}}}"#, entries.join(","))).err().unwrap();
        assert!(error.contains("more than 1024 entries"), "{error}");
    }

    #[test]
    fn the_index_may_be_of_what_is_ready() {
        for (body, ready) in [("", false), ("{}", false), (r#"{"ready": true}"#, true)] {
            assert_eq!(decode_index(body.as_bytes()).unwrap().ready, ready);
        }
        for body in ["[true]", r#"{"ready": 1}"#] {
            assert!(
                decode_index(body.as_bytes())
                    .unwrap_err()
                    .to_string()
                    .contains("is not a request for the index")
            );
        }
    }

    #[test]
    fn a_source_is_one_text() {
        assert_eq!(decode_source(br#"{"source": "oci:\/\/r/a"}"#).unwrap(), "oci://r/a");
        for (body, expected) in [
            ("{}", "source"),
            (r#"{"source": 1}"#, "source"),
            (r#"{"source": "a", "tag": "b"}"#, "tag"),
            ("oci://r/a", "is not valid JSON"),
            ("[]", "is not a package's source"),
        ] {
            let error = decode_source(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn unloads_have_one_parameter() {
        for body in ["", "{}", r#"{"parameters": {"unload_dependents": true}}"#] {
            check_unload(body.as_bytes()).unwrap();
        }
        let error = check_unload(br#"{"parameters": {"unload_dependents": 1}}"#).unwrap_err();
        assert!(error.to_string().contains("unload_dependents"), "{error}");
    }
}
