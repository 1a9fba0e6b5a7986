//! The HTTP front: routes of the Open Inference Protocol v2 over the serving core.
//!
//! Contract: every failure is a JSON body `{"error": message}` with the status of its [`ErrorCode`]; request bodies are
//! limited before they are read, and may be compressed, as answers may be. A client that goes away ends its call. Every
//! answer has a header `x-request-id`. Cost: an inference body is read into one buffer, of which the tensors are slices.
//! Who may do what is asked in `access`, of every route for clients.

mod access;
pub(crate) mod batches;
pub(crate) mod body;
mod docs;
mod encoding;
mod error;
mod generate;
mod infer;
mod metadata;
mod metrics;
mod observe;
mod openai;
mod repository;
pub(crate) mod request_id;
mod settings;
mod streams;
mod target;
mod v1;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post, put};
use bytesize::ByteSize;
use tokio::sync::watch;
use vespid_auth::{Access, Action};
use vespid_batch::Jobs;
use vespid_serving::{Predictor, Repository, Sources};
use vespid_stream::Streams;
use vespid_telemetry::Telemetry;
use vespid_types::{Error, ErrorCode, ModelName};

use crate::access::Rights;
use body::{drain, read_body};
use error::Failure;

/// What the routes answer from.
#[derive(Clone)]
pub struct Api {
    /// Answers predictions.
    pub predictor: Predictor,
    /// Is told of requests, and tells of them.
    pub telemetry: Telemetry,
    /// Takes packages in.
    pub repository: Repository,
    /// Gets packages from registries, and says whether they may be uploaded.
    pub sources: Sources,
    /// Runs jobs over files, where the server does.
    pub jobs: Option<Jobs>,
    /// The streams of this process, where it is to have some: from when their models are loaded.
    pub streams: Option<Arc<OnceLock<Streams>>>,
    /// Who may do what; everybody everything where nothing is said.
    pub access: Option<Access>,
    /// How large the body of an inference request may be.
    pub max_body: ByteSize,
    /// Turns true when the server is told to end: it is not ready from then on.
    pub stopping: watch::Receiver<bool>,
}

impl Api {
    /// Every model that the caller may read of, ready or not.
    fn model_names(&self, rights: &Rights) -> Vec<ModelName> {
        let mut names: Vec<_> = self.predictor.index().into_iter().map(|entry| entry.name).collect();
        names.dedup();
        names.retain(|name| rights.has(Action::ReadMetadata, name.as_str()));
        names
    }
}

/// The routes that clients use.
pub fn router(api: Api) -> Router {
    let model = |path: &str| format!("/v2/models/{{model}}{path}");
    let version = |path: &str| format!("/v2/models/{{model}}/versions/{{version}}{path}");
    let mut routes = health()
        .route("/v2", get(metadata::server))
        .route("/v2/", get(metadata::server))
        .route("/v2/docs", get(docs::page))
        .route("/v2/docs/dataplane.json", get(docs::document))
        .route("/v2/docs/{asset}", get(docs::asset))
        .route("/v2/models", get(metadata::models))
        .route("/v2/models/stats", get(metadata::all_statistics))
        .route("/v2/batches", get(batches::list).post(batches::create))
        .route("/v2/batches/{batch}", get(batches::get).delete(batches::delete))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .route("/v2/repository/models/{model}/traffic", get(repository::traffic).put(repository::set_traffic))
        .route(
            "/v2/repository/models/{model}/versions/{version}",
            put(repository::upload).delete(repository::remove),
        );
    for kind in ["system", "cuda"] {
        routes = routes.route(&format!("/v2/{kind}sharedmemory/{{*path}}"), any(no_shared_memory));
    }
    for path in [&model, &version] as [&dyn Fn(&str) -> String; 2] {
        routes = routes
            .route(&path(""), get(metadata::model))
            .route(&path("/ready"), get(metadata::model_ready))
            .route(&path("/config"), get(repository::config))
            .route(&path("/stats"), get(metadata::statistics))
            .route(&path("/docs"), get(docs::model_page))
            .route(&path("/docs/dataplane.json"), get(docs::model_document))
            .route(&path("/infer"), post(infer::infer))
            .route(&path("/generate"), post(generate::generate))
            .route(&path("/generate_stream"), post(generate::generate_stream));
    }
    let observe = middleware::from_fn_with_state(api.clone(), observe::observe);
    let access = middleware::from_fn_with_state(api.clone(), access::pass);
    let routes = routes.merge(other_protocols()).merge(settings()).route_layer(access);
    finish(routes, api).layer(observe)
}

/// The settings of traces and of the log.
fn settings() -> Router<Api> {
    Router::new()
        .route("/v2/trace/setting", get(settings::trace).post(settings::change_trace))
        .route(
            "/v2/models/{model}/trace/setting",
            get(settings::model_trace).post(settings::change_model_trace),
        )
        .route("/v2/logging", get(settings::log).post(settings::change_log))
}

/// A client that names memory of the server's machine would be a way into it.
async fn no_shared_memory(body: Body) -> Failure {
    drain(body).await;
    Error::new(ErrorCode::Unsupported, "shared memory is not supported: send tensors in the body").into()
}

/// Version 1 of the protocol, and OpenAI's.
fn other_protocols() -> Router<Api> {
    Router::new()
        .route("/", get(v1::alive))
        .route("/v1/models", get(v1::models))
        .route("/v1/models/{model}", get(v1::model).post(v1::predict).fallback(v1::other_method))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/openai/v1/embeddings", post(openai::embeddings))
        .route("/openai/v1/models", get(openai::models))
        .route("/openai/v1/models/{model}", get(openai::model))
}

/// The routes of the admin port: for probes and what collects metrics, who are not asked who they are, and for who looks after streams.
pub fn admin_router(api: Api) -> Router {
    let access = middleware::from_fn_with_state(api.clone(), access::pass);
    let routes =
        streams::routes().route_layer(access).merge(health()).route("/metrics", get(metrics::metrics));
    finish(routes, api)
}

fn health() -> Router<Api> {
    Router::new()
        .route("/v2/health/live", get(metadata::live))
        .route("/v2/health/ready", get(metadata::ready))
}

fn finish(routes: Router<Api>, api: Api) -> Router {
    routes
        .fallback(no_such_path)
        .method_not_allowed_fallback(async || Failure::method_not_allowed(None))
        .layer(middleware::from_fn(front))
        .with_state(api)
}

/// What every request passes first, and its answer last.
async fn front(mut request: Request, next: Next) -> Response {
    let id = request_id::ensure(request.headers_mut());
    let openai = openai::is_its(request.uri().path());
    let mut response = encoding::run(request, next).await;
    if openai {
        response = openai::reshape(response);
    }
    response.headers_mut().insert(request_id::HEADER, id);
    response
}

/// Paths have no slash at their end; who writes one is sent to where it is missing.
async fn no_such_path(uri: Uri) -> Response {
    let path = uri.path().trim_end_matches('/');
    // Two slashes at the start would name another host.
    let without = uri.path().ends_with('/') && path.len() > 1 && !path.starts_with("//");
    if without {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return Redirect::permanent(&format!("{path}{query}")).into_response();
    }
    Failure::from(Error::new(ErrorCode::NotFound, "no such path: the API is below /v2, /v1 and /openai/v1"))
        .into_response()
}
