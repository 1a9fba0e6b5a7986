//! What a path asks for.
//!
//! Contract: the paths are the host's own. One that is about a model goes to a pod, as it came; what is about all models is answered
//! here; what changes a single pod is refused, and the refusal says what to change in its place.

use std::borrow::Cow;

use axum::http::Method;
use vespid_types::{Error, ErrorCode, ModelName, Version};

use crate::authorize::Action;
use crate::error::Failure;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Answered here.
    Alive,
    Live,
    Ready,
    Server,
    Models,
    /// Of version 1 and OpenAI in one.
    BothModels,
    OpenAiModels,
    Index,
    ModelReady {
        name: String,
        version: Option<u64>,
    },
    Traffic {
        name: String,
    },
    Upload {
        name: ModelName,
        version: Version,
    },
    Remove {
        name: ModelName,
        version: Version,
    },
    /// A pod's that serves the model.
    Model {
        name: String,
        version: Option<u64>,
        action: Action,
    },
    /// The same, of the model that the body names.
    InBody,
    /// Any pod's.
    Any,
}

const GET: &str = "GET,HEAD";
const POST: &str = "POST";

impl Target {
    /// Reads a path.
    ///
    /// # Errors
    /// Where there is nothing, not with that method, or nothing that a gateway does.
    pub(crate) fn read(method: &Method, path: &str) -> Result<Self, Failure> {
        let segments: Vec<Cow<'_, str>> = path.split('/').skip(1).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let get = |target: Self| only(method, GET, target);
        let post = |target: Self| only(method, POST, target);
        match segments.as_slice() {
            [""] => get(Self::Alive),
            ["v2"] | ["v2", ""] => get(Self::Server),
            ["v2", "health", "live"] => get(Self::Live),
            ["v2", "health", "ready"] => get(Self::Ready),
            ["v2", "docs"] | ["v2", "docs", _] => get(Self::Any),
            ["v2", "models"] => get(Self::Models),
            ["v2", "models", "stats"] => Err(refused(STATISTICS)),
            ["v2", "models", name, "versions", version, rest @ ..] => {
                Self::model(method, name, Some(version), rest)
            }
            ["v2", "models", name, rest @ ..] => Self::model(method, name, None, rest),
            ["v2", "repository", "index"] => post(Self::Index),
            ["v2", "repository", "models", name, "load" | "unload"] => Err(refused(&load(name))),
            ["v2", "repository", "models", name, "traffic"] => match *method {
                Method::PUT => Err(refused(&set_traffic(name))),
                _ => only(method, "GET,HEAD,PUT", Self::Traffic { name: model_name(name)?.into() }),
            },
            ["v2", "repository", "models", name, "versions", version] => Self::stored(method, name, version),
            ["v2", "batches", ..] => Err(refused(BATCHES)),
            ["v2", "trace", "setting"] | ["v2", "logging"] => Err(refused(SETTINGS)),
            ["v2", "systemsharedmemory" | "cudasharedmemory", ..] => Err(refused(SHARED_MEMORY)),
            ["v1", "models"] => get(Self::BothModels),
            ["v1", "models", name] => Self::version_one(method, name),
            ["v1", "embeddings"] | ["openai", "v1", "embeddings"] => post(Self::InBody),
            ["openai", "v1", "models"] => get(Self::OpenAiModels),
            ["openai", "v1", "models", name] => get(Self::described(name)?),
            _ => Err(no_such_path()),
        }
    }

    fn described(name: &str) -> Result<Self, Failure> {
        Ok(Self::Model { name: model_name(name)?.into(), version: None, action: Action::Describe })
    }

    fn model(method: &Method, name: &str, version: Option<&str>, rest: &[&str]) -> Result<Self, Failure> {
        let name: String = model_name(name)?.into();
        let version = version.map(parse_version).transpose()?.map(Version::number);
        let to_pod = |action| Self::Model { name: name.clone(), version, action };
        match rest {
            ["ready"] => only(method, GET, Self::ModelReady { name, version }),
            [] | ["config" | "stats" | "docs"] | ["docs", "dataplane.json"] => {
                only(method, GET, to_pod(Action::Describe))
            }
            ["infer" | "generate" | "generate_stream"] => only(method, POST, to_pod(Action::Predict)),
            ["trace", "setting"] if version.is_none() => Err(refused(SETTINGS)),
            _ => Err(no_such_path()),
        }
    }

    fn version_one(method: &Method, segment: &str) -> Result<Self, Failure> {
        let Some((name, verb)) = segment.split_once(':') else {
            return only(method, GET, Self::described(segment)?);
        };
        let name: String = model_name(name)?.into();
        if verb != "predict" {
            let verb: String = verb.chars().take(60).collect();
            return Err(refused(&format!("':{verb}' is not supported: a model takes ':predict'")));
        }
        only(method, POST, Self::Model { name, version: None, action: Action::Predict })
    }

    fn stored(method: &Method, name: &str, version: &str) -> Result<Self, Failure> {
        let (name, version) = (model_name(name)?, parse_version(version)?);
        match *method {
            Method::PUT => Ok(Self::Upload { name, version }),
            Method::DELETE => Ok(Self::Remove { name, version }),
            _ => Err(Failure::method_not_allowed("PUT,DELETE")),
        }
    }

    /// What it would do, and to which model.
    pub(crate) fn subject(&self) -> crate::authorize::Subject<'_> {
        let (action, model, version) = match self {
            Self::Alive | Self::Live | Self::Ready => (Action::Probe, None, None),
            Self::Server | Self::Any => (Action::Describe, None, None),
            // The first show what may be seen; of the last it is not known yet what it is about.
            Self::Models | Self::BothModels | Self::OpenAiModels | Self::Index | Self::InBody => {
                (Action::Identify, None, None)
            }
            Self::ModelReady { name, version } => (Action::Describe, Some(name.as_str()), *version),
            Self::Traffic { name } => (Action::Describe, Some(name.as_str()), None),
            Self::Upload { name, version } => (Action::Upload, Some(name.as_str()), Some(version.number())),
            Self::Remove { name, version } => (Action::Remove, Some(name.as_str()), Some(version.number())),
            Self::Model { name, version, action } => (*action, Some(name.as_str()), *version),
        };
        crate::authorize::Subject { action, model, version }
    }
}

/// Whether errors of a path have OpenAI's shape, as the host has it.
pub(crate) fn is_openai(path: &str) -> bool {
    let of_both = || path.starts_with("/v1/models/") && !path.contains(':');
    path.starts_with("/openai/") || path == "/v1/embeddings" || of_both()
}

fn only(method: &Method, allowed: &'static str, target: Target) -> Result<Target, Failure> {
    if allowed.split(',').any(|allowed| allowed == method.as_str()) {
        return Ok(target);
    }
    Err(Failure::method_not_allowed(allowed))
}

fn model_name(name: &str) -> Result<ModelName, Failure> {
    name.parse().map_err(|error| Error::invalid(format!("{error}")).into())
}

fn parse_version(version: &str) -> Result<Version, Failure> {
    version.parse().map_err(|error| Error::invalid(format!("{error}")).into())
}

fn no_such_path() -> Failure {
    Error::new(ErrorCode::NotFound, "no such path: the API is below /v2, /v1 and /openai/v1").into()
}

fn refused(message: &str) -> Failure {
    Error::new(ErrorCode::Unsupported, message).into()
}

const STATISTICS: &str = "the gateway counts no models: each pod does, at /metrics of its admin port; \
                          /v2/models/{model}/stats answers what one pod has counted";
const BATCHES: &str = "the gateway runs no jobs over files: create a BatchPrediction, or use `vespid batch`";
const SETTINGS: &str = "the gateway has no settings of traces or logs, which are each pod's: set them in spec.pods of the ModelPool";
const SHARED_MEMORY: &str = "shared memory is not supported: send tensors in the body";

fn load(name: &str) -> String {
    let name = clipped(name);
    format!(
        "models are not loaded and unloaded over the gateway: pods load what Models name. Add a version with `vespid push`, or \
         change spec.versions with `kubectl edit model {name}`"
    )
}

fn set_traffic(name: &str) -> String {
    let name = clipped(name);
    format!(
        "traffic is not set over the gateway: set spec.versions[].weight and spec.shadow of the Model with `kubectl edit model {name}`"
    )
}

fn clipped(name: &str) -> String {
    name.chars().take(63).collect()
}

/// A segment without its percent-encoding. What is not text afterwards stays as it is, and is nobody's name.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let digits = || {
            let digits = bytes.as_slice().get(..2)?;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        match digits().filter(|_| byte == b'%') {
            Some(digit) => {
                decoded.push(digit);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(segment), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn read(method: &Method, path: &str) -> Result<Target, (StatusCode, String)> {
        Target::read(method, path).map_err(|failure| {
            let message = failure.error.message().to_owned();
            (failure.respond(false).status(), message)
        })
    }

    fn model(name: &str, version: Option<u64>, action: Action) -> Target {
        Target::Model { name: name.to_owned(), version, action }
    }

    #[test]
    fn models_are_found_in_paths() {
        let (get, post) = (|path| read(&Method::GET, path), |path| read(&Method::POST, path));
        assert_eq!(post("/v2/models/iris/infer"), Ok(model("iris", None, Action::Predict)));
        assert_eq!(post("/v2/models/iris/versions/3/infer"), Ok(model("iris", Some(3), Action::Predict)));
        assert_eq!(post("/v2/models/iris/generate_stream"), Ok(model("iris", None, Action::Predict)));
        assert_eq!(post("/v2/models/versions/infer"), Ok(model("versions", None, Action::Predict)));
        assert_eq!(get("/v2/models/file%2Dtype"), Ok(model("file-type", None, Action::Describe)));
        assert_eq!(get("/v2/models/iris/docs/dataplane.json"), Ok(model("iris", None, Action::Describe)));
        assert_eq!(post("/v1/models/iris:predict"), Ok(model("iris", None, Action::Predict)));
        assert_eq!(post("/v1/models/iris%3Apredict"), Ok(model("iris", None, Action::Predict)));
        assert_eq!(get("/v1/models/iris"), Ok(model("iris", None, Action::Describe)));
        assert_eq!(get("/openai/v1/models/iris"), Ok(model("iris", None, Action::Describe)));
        assert_eq!(post("/openai/v1/embeddings"), Ok(Target::InBody));
        assert_eq!(
            get("/v2/models/iris/ready"),
            Ok(Target::ModelReady { name: "iris".to_owned(), version: None })
        );
        assert_eq!(get("/v2/docs/swagger-ui.css"), Ok(Target::Any));
        assert_eq!(post("/v2/repository/index"), Ok(Target::Index));
        assert_eq!(read(&Method::HEAD, "/v2/health/ready"), Ok(Target::Ready));
    }

    #[test]
    fn what_is_not_a_gateway_s_is_refused_with_what_to_do() {
        for (method, path, status, expected) in [
            (Method::POST, "/v2/repository/models/iris/load", 501, "kubectl edit model iris"),
            (Method::POST, "/v2/repository/models/iris/unload", 501, "vespid push"),
            (Method::PUT, "/v2/repository/models/iris/traffic", 501, "spec.versions[].weight"),
            (Method::POST, "/v2/trace/setting", 501, "spec.pods"),
            (Method::GET, "/v2/models/iris/trace/setting", 501, "spec.pods"),
            (Method::GET, "/v2/batches", 501, "BatchPrediction"),
            (Method::GET, "/v2/models/stats", 501, "/metrics"),
            (Method::POST, "/v2/cudasharedmemory/region/a/register", 501, "shared memory"),
            (Method::POST, "/v1/models/iris:explain", 501, "':explain'"),
            (Method::GET, "/v2/models/iris/infer", 405, "method"),
            (Method::POST, "/v2/repository/models/iris/versions/1", 405, "method"),
            (Method::GET, "/v2/models/..%2Fetc", 400, "not a model name"),
            (Method::POST, "/v2/models/iris/versions/01/infer", 400, "not a version"),
            (Method::GET, "/v3", 404, "no such path"),
            (Method::POST, "/v2/models/iris/unknown", 404, "no such path"),
            (Method::POST, "/v2/models/iris/infer/", 404, "no such path"),
        ] {
            let (refused, message) = read(&method, path).unwrap_err();
            assert_eq!(refused.as_u16(), status, "{path}: {message}");
            assert!(message.contains(expected), "{path}: {message}");
        }
    }

    #[test]
    fn uploads_have_a_version() {
        let (name, version) = ("iris".parse().unwrap(), "2".parse().unwrap());
        let path = "/v2/repository/models/iris/versions/2";
        assert_eq!(read(&Method::PUT, path), Ok(Target::Upload { name, version }));
        assert!(matches!(read(&Method::DELETE, path), Ok(Target::Remove { .. })));
    }
}
