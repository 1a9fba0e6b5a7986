//! The gRPC front: any call over HTTP/2, led by the model that its first message names.
//!
//! Contract: of a call as much is read as says which model it is for; then it goes to a pod as it came, both ways, message by
//! message, with its deadline (`grpc-timeout`) and compression between client and pod. What is about the server as a whole is
//! answered here. A failure is a status, in the answer's headers or its trailers. A stream is for one model, and may be idle between
//! two messages, for which there are so many streams at most; when the gateway ends, streams end between two messages, and so they
//! do before a message that a limit refuses. Cost: as of the HTTP front, and what `scan` takes.

pub(crate) mod local;
pub(crate) mod message;
pub(crate) mod scan;
pub(crate) mod scanned;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, StatusCode, Version as HttpVersion};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use vespid_types::{Error, ErrorCode, ModelName, Version};

use self::local::{Flag, IndexRequest, NameAndVersion, SERVICE};
use self::message::Named;
use self::scan::{Encoding, Scan};
use self::scanned::{Limits, Scanned};
use crate::answer::{Answer, Counted, shutting_down};
use crate::authorize::{Action, Subject};
use crate::dispatch::{Answered, Call, Destination};
use crate::error::grpc_failed;
use crate::gateway::Shared;
use crate::headers;
use crate::http::{self, draw};
use crate::patience::Watched;
use crate::pods::Protocol;
use crate::replay::Source;
use crate::upstream::Head;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(front).with_state(shared)
}

/// A method, by what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Live,
    Ready,
    Server,
    /// A pod's only where none has said anything.
    ModelReady,
    Index,
    Check,
    Watch,
    /// A pod's; a stream of messages where it is one.
    Model {
        action: Action,
        streams: bool,
    },
    /// Any pod's.
    Reflection,
    Refused(&'static str),
}

const LOAD: &str = "models are not loaded and unloaded over the gateway: pods load what Models name. Add a version with \
                    `vespid push`, or change spec.versions of the Model";
const SETTINGS: &str = "the gateway has no settings of traces or logs, which are each pod's: set them in spec.pods of the ModelPool";
const SHARED_MEMORY: &str = "shared memory is not supported: send tensors in the message";

/// What the server says of itself.
const SERVER: Subject<'static> = Subject { action: Action::Describe, model: None, version: None };

impl Method {
    fn read(path: &str) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        match (service, method) {
            (SERVICE, "ServerLive") => Self::Live,
            (SERVICE, "ServerReady") => Self::Ready,
            (SERVICE, "ServerMetadata") => Self::Server,
            (SERVICE, "ModelReady") => Self::ModelReady,
            (SERVICE, "RepositoryIndex") => Self::Index,
            (SERVICE, "ModelMetadata" | "ModelConfig" | "ModelStatistics") => {
                Self::Model { action: Action::Describe, streams: false }
            }
            (SERVICE, "ModelInfer") => Self::Model { action: Action::Predict, streams: false },
            (SERVICE, "ModelStreamInfer") => Self::Model { action: Action::Predict, streams: true },
            (SERVICE, "RepositoryModelLoad" | "RepositoryModelUnload") => Self::Refused(LOAD),
            (SERVICE, "TraceSetting" | "LogSettings") => Self::Refused(SETTINGS),
            (SERVICE, method) if method.contains("SharedMemory") => Self::Refused(SHARED_MEMORY),
            ("grpc.health.v1.Health", "Check") => Self::Check,
            ("grpc.health.v1.Health", "Watch") => Self::Watch,
            (service, _) if service.starts_with("grpc.reflection.") => Self::Reflection,
            _ => {
                Self::Refused("there is no such method: the gateway has those of the Open Inference Protocol")
            }
        }
    }

    /// Whether it may last as long as its client likes.
    fn is_stream(self) -> bool {
        matches!(self, Self::Model { streams: true, .. } | Self::Reflection | Self::Watch)
    }

    /// What it would do, where it is about no model, or about one that is told of without it.
    fn subject(self) -> Option<Subject<'static>> {
        let action = match self {
            Self::Live | Self::Ready | Self::Check | Self::Watch => Action::Probe,
            Self::Index => Action::Identify,
            Self::Model { .. } | Self::ModelReady => return None,
            Self::Server | Self::Reflection | Self::Refused(_) => Action::Describe,
        };
        Some(Subject { action, model: None, version: None })
    }
}

async fn front(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    if request.version() != HttpVersion::HTTP_2 {
        let message = "this port takes gRPC alone, over HTTP/2; REST is at the port of --http\n";
        return (StatusCode::HTTP_VERSION_NOT_SUPPORTED, message).into_response();
    }
    let id = headers::ensure_id(request.headers_mut());
    let mut response = match shared.enter(Protocol::Grpc) {
        Ok(counted) => answer(shared, request, counted).await,
        Err(busy) => grpc_failed(&busy),
    };
    response.headers_mut().insert(headers::REQUEST_ID, id);
    response
}

async fn answer(shared: Arc<Shared>, request: Request, mut counted: Counted) -> Response {
    let method = Method::read(request.uri().path());
    if method.is_stream()
        && let Err(busy) = shared.enter_stream(&mut counted)
    {
        return http::own(grpc_failed(&busy), counted);
    }
    let (parts, body) = request.into_parts();
    let own = match method {
        Method::Model { .. } | Method::ModelReady => {
            match shared.begin(&parts, body, method, &mut counted).await {
                Ok(Begun::ForPod(destination, source)) => {
                    return shared.grpc_forward(destination, method, parts, source, counted).await;
                }
                Ok(Begun::Answered(flag)) => Ok(local::answer(&flag)),
                Err(error) => Err(error),
            }
        }
        Method::Reflection => match shared.admit(&parts, &SERVER).await {
            Err(denied) => Err(denied),
            Ok(_) => {
                let scanned =
                    Scanned::unread(body, shared.options.pause).until(shared.stopping.clone(), None);
                let source = shared.source(scanned);
                return shared.grpc_forward(Destination::Any, method, parts, source, counted).await;
            }
        },
        method => own(&shared, method, &parts, body).await,
    };
    http::own(own.unwrap_or_else(|error| grpc_failed(&error)), counted)
}

/// What the gateway answers by itself.
async fn own(shared: &Arc<Shared>, method: Method, parts: &Parts, body: Body) -> Result<Response, Error> {
    if let Some(subject) = method.subject() {
        shared.admit(parts, &subject).await?;
    }
    let encoding = encoding(&parts.headers)?;
    Ok(match method {
        Method::Live => local::answer(&Flag { is: true }),
        Method::Ready => local::answer(&Flag { is: shared.is_ready() }),
        Method::Server => local::answer(&local::server()),
        Method::Index => {
            let asked: IndexRequest = local::read(body, encoding).await?;
            local::answer(&local::index(&*shared.visible(parts).await?, &asked)?)
        }
        Method::Check => {
            let NameAndVersion { name, .. } = local::read(body, encoding).await?;
            shared.admit_health(parts, &name).await?;
            local::answer(&shared.grpc_health(&name)?)
        }
        Method::Watch => {
            let NameAndVersion { name, .. } = local::read(body, encoding).await?;
            shared.admit_health(parts, &name).await?;
            Arc::clone(shared).grpc_watch(name)
        }
        Method::Refused(why) => return Err(Error::new(ErrorCode::Unsupported, why)),
        Method::Model { .. } | Method::ModelReady | Method::Reflection => {
            return Err(Error::internal("a pod's method"));
        }
    })
}

/// What the beginning of a call about a model has told.
enum Begun {
    ForPod(Destination, Source),
    Answered(Flag),
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Error> {
    Encoding::of(headers.get("grpc-encoding").map(|encoding| encoding.to_str().unwrap_or("?")))
}

/// The version that a message names, where it does.
fn version(text: &str) -> Result<Option<u64>, Error> {
    let named = Some(text).filter(|text| !text.is_empty());
    let version = named.map(str::parse::<Version>).transpose();
    Ok(version.map_err(|error| Error::invalid(format!("{error}")))?.map(Version::number))
}

impl Shared {
    /// Whether somebody may know of a model's health: of the server's everybody may.
    async fn admit_health(&self, parts: &Parts, service: &str) -> Result<(), Error> {
        let Some(model) = local::model_of(service) else { return Ok(()) };
        self.admit(parts, &Subject { action: Action::Describe, model: Some(model), version: None })
            .await
            .map(drop)
    }

    /// Reads which model a call is for, and sees whether it may be.
    async fn begin(
        &self,
        parts: &Parts,
        body: Body,
        method: Method,
        counted: &mut Counted,
    ) -> Result<Begun, Error> {
        let (action, streams) = match method {
            Method::Model { action, streams } => (action, streams),
            _ => (Action::Describe, false),
        };
        let scan = Scan::new(encoding(&parts.headers)?, self.options.max_body);
        let (within, pause) = (self.options.grpc_name_within, self.options.pause);
        let reading = Scanned::begin(body, scan, Limits { within, memory: &self.names, pause });
        let (named, scanned) = if streams {
            // It may begin as late as it likes.
            let mut stopping = self.stopping.clone();
            tokio::select! {
                begun = reading => begun?,
                _ = stopping.wait_for(|stopping| *stopping) => return Err(shutting_down()),
            }
        } else {
            timeout(pause, reading).await.map_err(|_| {
                let message = format!("the model's name did not come within {} seconds", pause.as_secs());
                Error::new(ErrorCode::DeadlineExceeded, message)
            })??
        };
        let Named { name, version: text } = named;
        let name =
            name.parse::<ModelName>().map_err(|error| Error::invalid(format!("model_name: {error}")))?;
        let version = version(&text)?;
        let asker = self.admit(parts, &Subject { action, model: Some(name.as_str()), version }).await?;
        if method == Method::ModelReady
            && let Some(flag) = self.grpc_model_ready(name.as_str(), version)?
        {
            return Ok(Begun::Answered(flag));
        }
        let table = self.routes.load();
        let route = table.route(name.as_str())?;
        counted.of_pool(&route.pool.name);
        if action == Action::Predict {
            counted.limited(route.admit()?);
        }
        let scanned = if streams {
            scanned.until(self.stopping.clone(), route.limited.clone()).while_current(asker.who())
        } else {
            scanned
        };
        Ok(Begun::ForPod(Destination::Model { name: name.into(), version }, self.source(scanned)))
    }

    fn source(&self, scanned: Scanned) -> Source {
        let ended_here = scanned.ended_here();
        Source::ending(Body::new(scanned), self.retry_buffer(), ended_here)
    }

    async fn grpc_forward(
        &self,
        destination: Destination,
        method: Method,
        mut parts: Parts,
        source: Source,
        mut counted: Counted,
    ) -> Response {
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(client)| *client);
        if self.access.is_some() {
            headers::end_credentials(&mut parts.headers);
        }
        headers::to_pod(&mut parts, client, true);
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let key = headers::key(&parts.headers);
        let call = Call {
            protocol: Protocol::Grpc,
            destination,
            draw: draw(key.as_deref()),
            key,
            head: Head { method: parts.method, path, headers: parts.headers },
            source,
        };
        match self.dispatch(&call).await {
            Ok(Answered { response, taken, pool }) => {
                counted.of_pool(&pool);
                let (parts, body) = response.into_parts();
                let answer = Answer::of_pod(body, counted, parts.status, &parts.headers, call.source, taken);
                let body = if method.is_stream() {
                    Body::new(answer)
                } else {
                    Body::new(Watched::new(answer, Protocol::Grpc, self.options.pause))
                };
                Response::from_parts(parts, body)
            }
            Err(error) => http::own(grpc_failed(&error), counted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_a_pod_s_the_gateway_s_or_refused() {
        let read = |method: &str| Method::read(&format!("/{SERVICE}/{method}"));
        assert_eq!(read("ModelInfer"), Method::Model { action: Action::Predict, streams: false });
        assert_eq!(read("ModelStreamInfer"), Method::Model { action: Action::Predict, streams: true });
        assert_eq!(read("ServerLive"), Method::Live);
        assert_eq!(read("RepositoryModelLoad"), Method::Refused(LOAD));
        assert_eq!(read("CudaSharedMemoryRegister"), Method::Refused(SHARED_MEMORY));
        assert_eq!(Method::read("/grpc.health.v1.Health/Watch"), Method::Watch);
        assert_eq!(
            Method::read("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
            Method::Reflection
        );
        assert!(matches!(Method::read("/other.Service/Method"), Method::Refused(_)));
    }

    #[test]
    fn versions_may_be_left_out() {
        assert_eq!(version("").unwrap(), None);
        assert_eq!(version("7").unwrap(), Some(7));
        assert!(version("07").is_err());
    }
}
