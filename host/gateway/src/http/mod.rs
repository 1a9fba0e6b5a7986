//! The HTTP front: finds the model of a request, and hands it on to a pod as it came.
//!
//! Contract: bodies go through frame by frame, either way, and nothing of them is kept but what a retry needs; a client that leaves
//! ends the pod's call. Failures of the gateway have the host's shape. Every answer has a header `x-request-id`. Cost: for each
//! request a look at the table, a copy of its headers, and a task's wake-ups. Left out on purpose: compression, which is between the
//! client and the pod; upgrades of a connection.

pub(crate) mod model_in_body;
pub(crate) mod target;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Json, Router};
use bytesize::ByteSize;
use hyper::body::Body as _;
use serde_json::{Value, json};
use vespid_auth::Asker;
use vespid_types::Error;

use crate::answer::{Answer, Counted};
use crate::authorize::{Action, Subject, done};
use crate::body::{self, Limited};
use crate::dispatch::{Call, Destination};
use crate::error::Failure;
use crate::gateway::Shared;
use crate::index::Readiness;
use crate::patience::Watched;
use crate::pods::Protocol;
use crate::replay::Source;
use crate::upstream::Head;
use crate::{headers, index, upload};
use target::{Target, is_openai};

/// More than a request for the index takes.
const MAX_INDEX: ByteSize = ByteSize::kib(64);

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(front).with_state(shared)
}

/// What every request passes.
async fn front(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let id = headers::ensure_id(request.headers_mut());
    let openai = is_openai(request.uri().path());
    let mut response = match shared.enter(Protocol::Http) {
        Ok(counted) => shared.take(request, counted).await,
        Err(busy) => {
            body::drain(request.into_body()).await;
            Failure::from(busy).respond(openai)
        }
    };
    response.headers_mut().insert(headers::REQUEST_ID, id);
    response
}

impl Shared {
    async fn take(self: &Arc<Self>, request: Request, mut counted: Counted) -> Response {
        let openai = is_openai(request.uri().path());
        if let Some(moved) = without_slash(request.uri()) {
            return own(moved, counted);
        }
        let (parts, body) = request.into_parts();
        let target = Target::read(&parts.method, parts.uri.path());
        let admitted = match target {
            Ok(target) => match self.admit(&parts, &target.subject()).await {
                Ok(asker) => Ok((target, asker)),
                Err(denied) => Err(denied.into()),
            },
            Err(failure) => Err(failure),
        };
        let answered = match admitted {
            Ok((target, asker)) => self.answer(target, asker, parts, body, &mut counted).await,
            Err(failure) => {
                body::drain(body).await;
                Err(failure)
            }
        };
        match answered {
            Ok(Reply::Own(response)) => own(response, counted),
            Ok(Reply::Pod { answered, source }) => {
                counted.of_pool(&answered.pool);
                let (parts, body) = answered.response.into_parts();
                let answer =
                    Answer::of_pod(body, counted, parts.status, &parts.headers, source, answered.taken);
                let watched = Watched::new(answer, Protocol::Http, self.options.pause);
                Response::from_parts(parts, Body::new(watched))
            }
            Err(failure) => own(failure.respond(openai), counted),
        }
    }

    async fn answer(
        self: &Arc<Self>,
        target: Target,
        asker: Asker,
        parts: Parts,
        body: Body,
        counted: &mut Counted,
    ) -> Result<Reply, Failure> {
        let response = match target {
            Target::Model { name, version, action } => {
                let destination = Destination::Model { name, version };
                return self.forward(destination, action, parts, body, 0, counted).await;
            }
            Target::Any => {
                return self.forward(Destination::Any, Action::Describe, parts, body, 0, counted).await;
            }
            Target::InBody => return self.forward_by_body(parts, body, counted).await,
            Target::Upload { name, version } => upload::put(self, &parts, asker, body, name, version).await?,
            Target::Remove { name, version } => {
                let removed = self.uploads.remove(&name, version).await;
                let (action, status) = (Action::Remove, StatusCode::NO_CONTENT.as_u16());
                self.tell(asker, done(action, (&name, version), None, &removed, status)).await;
                removed?;
                StatusCode::NO_CONTENT.into_response()
            }
            Target::Index => {
                let body = body::read(body, MAX_INDEX).await?;
                let table = self.visible(&parts).await?;
                Json(index::index(&table, wants_ready(&body)?)).into_response()
            }
            Target::Alive => Json(json!({"status": "alive"})).into_response(),
            Target::Live => Json(json!({"live": true})).into_response(),
            Target::Ready => self.readiness(),
            Target::Server => {
                let (name, version) = (index::NAME, index::VERSION);
                Json(json!({"name": name, "version": version, "extensions": index::EXTENSIONS}))
                    .into_response()
            }
            Target::Models => {
                let table = self.visible(&parts).await?;
                Json(json!({"models": table.model_names()})).into_response()
            }
            Target::BothModels => {
                let table = self.visible(&parts).await?;
                let mut list = index::openai(&table);
                if let Value::Object(list) = &mut list {
                    list.insert("models".to_owned(), json!(table.model_names()));
                }
                Json(list).into_response()
            }
            Target::OpenAiModels => Json(index::openai(&*self.visible(&parts).await?)).into_response(),
            Target::ModelReady { name, version } => {
                let readiness = index::readiness(&self.routes.load(), &name, version)?;
                match readiness {
                    Readiness::Ready => Json(json!({"name": name, "ready": true})).into_response(),
                    Readiness::Not(why) => return Err(index::not_ready(&name, &why).into()),
                    Readiness::Unsaid => {
                        let destination = Destination::Model { name, version };
                        return self.forward(destination, Action::Describe, parts, body, 0, counted).await;
                    }
                }
            }
            Target::Traffic { name } => Json(index::traffic(&self.routes.load(), &name)?).into_response(),
        };
        Ok(Reply::Own(response))
    }

    /// As the host answers probes.
    pub(crate) fn readiness(&self) -> Response {
        let ready = self.is_ready();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(json!({"live": true, "ready": ready}))).into_response()
    }

    /// Of a model that the body names.
    async fn forward_by_body(
        &self,
        parts: Parts,
        body: Body,
        counted: &mut Counted,
    ) -> Result<Reply, Failure> {
        let limit = ByteSize(self.options.name_within.as_u64().min(self.options.max_body.as_u64()));
        let bytes = body::read_into(&self.names, body, limit).await?;
        let name = model_in_body::find(&parts.headers, &bytes, limit)?;
        // What is asked is known only now.
        self.admit(&parts, &Subject { action: Action::Predict, model: Some(&name), version: None }).await?;
        let destination = Destination::Model { name, version: None };
        let held = bytes.len();
        self.forward(destination, Action::Predict, parts, Body::from(bytes), held, counted).await
    }

    /// `held` bytes of the body are in memory anyhow.
    async fn forward(
        &self,
        destination: Destination,
        action: Action,
        mut parts: Parts,
        body: Body,
        held: usize,
        counted: &mut Counted,
    ) -> Result<Reply, Failure> {
        if let Err(error) = self.look_ahead(&destination, action, &body, counted) {
            body::drain(body).await;
            return Err(error.into());
        }
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(client)| *client);
        if self.access.is_some() {
            headers::end_credentials(&mut parts.headers);
        }
        headers::to_pod(&mut parts, client, false);
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let body = Body::new(Limited::new(body, self.options.max_body, self.options.pause));
        let source = Source::new(body, self.retry_buffer().max(held));
        let call = Call {
            protocol: Protocol::Http,
            destination,
            key: headers::key(&parts.headers),
            head: Head { method: parts.method, path, headers: parts.headers },
            source,
            draw: 0,
        };
        let call = Call { draw: draw(call.key.as_deref()), ..call };
        let answered = self.dispatch(&call).await?;
        Ok(Reply::Pod { answered, source: call.source })
    }

    /// What is seen before a pod hears of it. What a limit admits is admitted last, so that nothing else refuses what it has counted.
    fn look_ahead(
        &self,
        destination: &Destination,
        action: Action,
        body: &Body,
        counted: &mut Counted,
    ) -> Result<(), Error> {
        if body.size_hint().lower() > self.options.max_body.as_u64() {
            return Err(body::too_large("request body", self.options.max_body));
        }
        if let Destination::Model { name, version } = destination {
            let table = self.routes.load();
            let route = table.route(name)?;
            counted.of_pool(&route.pool.name);
            version.map(|version| route.version(version)).transpose()?;
            if action == Action::Predict {
                counted.limited(route.admit()?);
            }
        }
        Ok(())
    }
}

/// What a request is answered with.
enum Reply {
    Own(Response),
    Pod { answered: crate::dispatch::Answered, source: Source },
}

/// What decides about the version of a call: chance, or its key.
pub(crate) fn draw(key: Option<&str>) -> u64 {
    match key {
        Some(key) => vespid_resources::Placement::of(key).score("version"),
        None => fastrand::u64(..),
    }
}

/// An answer of the gateway's own.
pub(crate) fn own(response: Response, counted: Counted) -> Response {
    let (parts, body) = response.into_parts();
    let answer = Answer::own(body, counted, parts.status, &parts.headers);
    Response::from_parts(parts, Body::new(answer))
}

/// Whether the index is to be of what is ready alone.
fn wants_ready(body: &[u8]) -> Result<bool, Error> {
    #[derive(Default, serde::Deserialize)]
    struct Asked {
        #[serde(default)]
        ready: bool,
    }
    if body.is_empty() {
        return Ok(false);
    }
    let not_one = |error: serde_json::Error| {
        Error::invalid(format!("request body is not a request for the index: {error}"))
    };
    let asked: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(not_one)?;
    let Asked { ready } = serde_json::from_value(asked.into()).map_err(not_one)?;
    Ok(ready)
}

/// Paths have no slash at their end; who writes one is sent to where it is missing, as the host does.
fn without_slash(uri: &Uri) -> Option<Response> {
    let path = uri.path();
    // Two slashes at the start would name another host.
    if !path.ends_with('/') || path.starts_with("//") || matches!(path, "/" | "/v2/") {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let place = format!("{}{query}", path.trim_end_matches('/'));
    let mut response = Redirect::permanent(&place).into_response();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    Some(response)
}
