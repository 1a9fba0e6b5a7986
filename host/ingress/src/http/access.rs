//! What a path asks for, and whether it may be.
//!
//! Contract: [`pass`] stands around every route for clients. A path that [`asked`] does not know is an administrator's alone, so that a
//! new route is closed until it is said here whose it is. What a body says first (the model of an embedding, of a job) is asked by
//! the handler, of the [`Rights`] that are left with the request.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vespid_auth::Action;
use vespid_types::{Error, Version};

use super::error::{Failed, Failure};
use super::{Api, drain};
use crate::access::{Purpose, Rights};

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Whether the server is up: balancers ask it, who show no credentials.
    Probe,
    /// Something that the handler knows: it shows what may be seen, or reads the body first.
    Later,
    /// Something of the server.
    Server(Action),
    /// Something of the model in the path.
    Model(Action),
}

/// `path` is the route's.
fn asked(method: &Method, path: &str) -> Asked {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let unless_read = |action| if reads { Action::ReadMetadata } else { action };
    match path {
        "/" | "/v2/health/live" | "/v2/health/ready" => Asked::Probe,
        "/v2/models" | "/v2/models/stats" | "/v1/models" | "/openai/v1/models" | "/v2/repository/index" => {
            Asked::Later
        }
        "/v1/embeddings" | "/openai/v1/embeddings" | "/v2/batches" | "/v2/batches/{batch}" => Asked::Later,
        "/v2/streams"
        | "/v2/streams/{stream}"
        | "/v2/streams/{stream}/lag"
        | "/v2/streams/{stream}/pause"
        | "/v2/streams/{stream}/resume" => Asked::Later,
        "/v2" | "/v2/" | "/v2/docs" | "/v2/docs/dataplane.json" | "/v2/docs/{asset}" => {
            Asked::Server(Action::ReadMetadata)
        }
        // They are refused, to everybody in the same words.
        "/v2/systemsharedmemory/{*path}" | "/v2/cudasharedmemory/{*path}" => {
            Asked::Server(Action::ReadMetadata)
        }
        "/v2/trace/setting" | "/v2/logging" => Asked::Server(unless_read(Action::Admin)),
        "/v2/models/{model}/trace/setting" | "/v2/repository/models/{model}/traffic" => {
            Asked::Model(unless_read(Action::Admin))
        }
        "/v2/repository/models/{model}/load" | "/v2/repository/models/{model}/unload" => {
            Asked::Model(Action::Admin)
        }
        "/v2/repository/models/{model}/versions/{version}" => match *method {
            Method::DELETE => Asked::Model(Action::Delete),
            _ => Asked::Model(Action::Upload),
        },
        "/v1/models/{model}" => Asked::Model(unless_read(Action::Predict)),
        "/openai/v1/models/{model}" => Asked::Model(Action::ReadMetadata),
        path => of_model(path).map_or(Asked::Server(Action::Admin), Asked::Model),
    }
}

/// What stands below a model, or a version of it.
fn of_model(path: &str) -> Option<Action> {
    let path = path.strip_prefix("/v2/models/{model}")?;
    match path.strip_prefix("/versions/{version}").unwrap_or(path) {
        "/infer" | "/generate" | "/generate_stream" => Some(Action::Predict),
        "" | "/ready" | "/config" | "/stats" | "/docs" | "/docs/dataplane.json" => Some(Action::ReadMetadata),
        _ => None,
    }
}

/// Whether the audit tells of it where it is permitted, too.
const fn is_change(action: Action) -> bool {
    match action {
        Action::Predict | Action::ReadMetadata => false,
        Action::Upload | Action::Delete | Action::RunBatch | Action::ManageStream | Action::Admin => true,
    }
}

/// Lets on who may, and leaves their rights with the request.
pub(super) async fn pass(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.access.is_none() {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let asked = asked(&parts.method, path);
    let Named { model, version } = named(&mut parts, &api).await;
    let action = match asked {
        Asked::Probe => return next.run(Request::from_parts(parts, body)).await,
        Asked::Later => Action::ReadMetadata,
        Asked::Server(action) | Asked::Model(action) => action,
    };
    let purpose = Purpose { action, model: model.as_deref(), version };
    let admitted = async {
        let rights = Rights::of(&api, &parts.headers, &parts.extensions, &purpose).await?;
        if asked != Asked::Later {
            rights.permit(&purpose).await?;
        }
        Ok::<_, Error>(rights)
    };
    let rights = match admitted.await {
        Ok(rights) => rights,
        Err(denied) => {
            drain(body).await;
            return Failure::from(denied).into_response();
        }
    };
    parts.extensions.insert(rights.clone());
    let request = Request::from_parts(parts, body);
    if asked == Asked::Later || !is_change(action) {
        return next.run(request).await;
    }
    // What is removed is not there afterwards, and what is added was not there before.
    let digest = || api.digest(&model.as_deref()?.parse().ok()?, version?);
    let before = digest();
    let change = rights.begin(&purpose, success(action));
    let response = next.run(request).await;
    let failed = response.extensions().get().map(|Failed { error, .. }| error);
    change.end(failed, before.or_else(digest)).await;
    response
}

/// The status that the handlers answer with where all went well.
const fn success(action: Action) -> u16 {
    match action {
        Action::Upload => 201,
        Action::Delete => 204,
        _ => 200,
    }
}

/// What a path names, as it stands there.
struct Named {
    model: Option<String>,
    version: Option<Version>,
}

async fn named(parts: &mut Parts, api: &Api) -> Named {
    let Ok(params) = RawPathParams::from_request_parts(parts, api).await else {
        return Named { model: None, version: None };
    };
    let find = |key: &str| params.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
    // In version 1 of the protocol a verb may follow the name.
    let model = find("model").map(|name| name.split_once(':').map_or(name, |(name, _)| name).to_owned());
    Named { model, version: find("version").and_then(|version| version.parse().ok()) }
}

impl FromRequestParts<Api> for Rights {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        Ok(Self::left_in(api, &parts.extensions)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_says_what_it_asks() {
        for (method, path, expected) in [
            (Method::GET, "/v2/health/ready", Asked::Probe),
            (Method::GET, "/v1/models", Asked::Later),
            (Method::POST, "/v1/models/{model}", Asked::Model(Action::Predict)),
            (Method::GET, "/v1/models/{model}", Asked::Model(Action::ReadMetadata)),
            (Method::POST, "/v2/models/{model}/versions/{version}/infer", Asked::Model(Action::Predict)),
            (Method::GET, "/v2/models/{model}/versions/{version}", Asked::Model(Action::ReadMetadata)),
            (Method::PUT, "/v2/repository/models/{model}/versions/{version}", Asked::Model(Action::Upload)),
            (
                Method::DELETE,
                "/v2/repository/models/{model}/versions/{version}",
                Asked::Model(Action::Delete),
            ),
            (Method::PUT, "/v2/repository/models/{model}/traffic", Asked::Model(Action::Admin)),
            (Method::GET, "/v2/logging", Asked::Server(Action::ReadMetadata)),
            (Method::POST, "/v2/logging", Asked::Server(Action::Admin)),
            (Method::POST, "/v2/models/{model}/trace/setting", Asked::Model(Action::Admin)),
            // Nobody has said whose these are.
            (Method::GET, "/v2/models/{model}/secrets", Asked::Server(Action::Admin)),
            (Method::GET, "", Asked::Server(Action::Admin)),
        ] {
            assert_eq!(asked(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn every_path_of_the_description_says_what_it_asks() {
        let described = super::super::docs::paths();
        assert!(described.len() > 20, "{described:?}");
        for path in described {
            // The verb is in the same segment, which is one to the router.
            let path = path.trim_end_matches(":predict");
            assert_ne!(asked(&Method::GET, path), Asked::Server(Action::Admin), "{path}");
        }
    }
}
