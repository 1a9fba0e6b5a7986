//! Who may do what: where the host asks, over HTTP as over gRPC.
//!
//! Contract: every request but a probe is identified at the door, and what it asks is permitted before a model is looked up, so that
//! who may not learns nothing of whether there is a model. Lists show what the caller may read of. A model's tenant and labels are what
//! `access.yaml` says. Each denial and each change is a line of the audit, also where the client left meanwhile. A host without a
//! configuration lets everybody do everything, which the command line has to ask for where others reach it. Cost: what `vespid_auth`
//! says. Left out on purpose: what plugins ask other plugins, which grants permit, and what the admin port tells of metrics and health.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};
use tokio::runtime::Handle;
use vespid_auth::{Access, Action, Asker, Denied, Done, Principal, Resource};
use vespid_types::{Digest, Error, ModelName, ModelRef, Version};

use crate::Api;

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose<'a> {
    /// What it would do.
    pub(crate) action: Action,
    /// The model, by whatever name the request has; none where it is the server.
    pub(crate) model: Option<&'a str>,
    /// The version, where it names one.
    pub(crate) version: Option<Version>,
}

impl<'a> Purpose<'a> {
    pub(crate) const fn server(action: Action) -> Self {
        Self { action, model: None, version: None }
    }

    pub(crate) const fn model(action: Action, model: &'a str) -> Self {
        Self { action, model: Some(model), version: None }
    }

    fn done(&self, status: u16) -> Done {
        Done::new(self.action, self.model, self.version, status)
    }
}

/// What whoever sent a request may do. A clone shares it.
#[derive(Clone)]
pub(crate) struct Rights(Option<Arc<Known>>);

struct Known {
    access: Access,
    asker: Asker,
    who: Principal,
}

impl Rights {
    /// Those of a request with these headers. `purpose` is what the audit says of one that is denied.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, or `UNAVAILABLE` where it cannot be found out now who it is.
    pub(crate) async fn of(
        api: &Api,
        headers: &HeaderMap,
        extensions: &Extensions,
        purpose: &Purpose<'_>,
    ) -> Result<Self, Error> {
        let Some(access) = &api.access else { return Ok(Self(None)) };
        let identified = access.identify(headers, extensions).await;
        let client = extensions.get().map(|&ConnectInfo(client): &ConnectInfo<SocketAddr>| client);
        let id = headers.get(&crate::http::request_id::HEADER).and_then(|id| id.to_str().ok());
        let asker = Asker::new(identified.as_ref().ok().cloned(), client, id);
        match identified {
            Ok(who) => Ok(Self(Some(Arc::new(Known { access: access.clone(), asker, who })))),
            Err(denied) => {
                access.tell(asker, purpose.done(0).denied(&denied)).await;
                Err(denied.into())
            }
        }
    }

    /// Those that the door left with a request.
    ///
    /// # Errors
    /// `INTERNAL` where it left none: nobody is let in by the way.
    pub(crate) fn left_in(api: &Api, extensions: &Extensions) -> Result<Self, Error> {
        match (&api.access, extensions.get::<Self>()) {
            (None, _) => Ok(Self(None)),
            (Some(_), Some(rights)) => Ok(rights.clone()),
            (Some(_), None) => Err(Error::internal("nobody saw who sent the request")),
        }
    }

    /// Sees whether this may be done.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, in the same words whether there is such a model or not.
    pub(crate) async fn permit(&self, purpose: &Purpose<'_>) -> Result<(), Error> {
        let Some(known) = &self.0 else { return Ok(()) };
        match known.ask(purpose) {
            Ok(()) => Ok(()),
            Err(denied) => {
                known.access.tell(known.asker.clone(), purpose.done(0).denied(&denied)).await;
                Err(denied.into())
            }
        }
    }

    /// Whether something may be done, of which the caller learns only what it gets to see.
    pub(crate) fn has(&self, action: Action, model: &str) -> bool {
        self.0.as_ref().is_none_or(|known| known.ask(&Purpose::model(action, model)).is_ok())
    }

    /// Begins something that was permitted and that the audit is to tell of; with success it has `status`.
    pub(crate) fn begin(&self, purpose: &Purpose<'_>, status: u16) -> Change {
        Change(self.0.as_ref().map(|known| (Arc::clone(known), purpose.done(status))))
    }

    /// Sees whether something may be done, does it, and has the audit tell of it.
    ///
    /// # Errors
    /// As [`Rights::permit`]; those of `work`.
    pub(crate) async fn change<T>(
        &self,
        purpose: &Purpose<'_>,
        status: u16,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.permit(purpose).await?;
        let change = self.begin(purpose, status);
        let result = work.await;
        change.end(result.as_ref().err(), None).await;
        result
    }
}

impl Known {
    fn ask(&self, purpose: &Purpose<'_>) -> Result<(), Denied> {
        let resource = purpose.model.map(|name| Resource::model(name, self.access.model_of(name)));
        self.access.authorize(&self.who, purpose.action, &resource.unwrap_or(Resource::Server))
    }
}

/// Something that is being done. Where it is dropped, the client has left, and nobody knows what comes of it.
pub(crate) struct Change(Option<(Arc<Known>, Done)>);

impl Change {
    /// Tells what came of it. `digest` is what the version is, where that is known.
    pub(crate) async fn end(mut self, failed: Option<&Error>, digest: Option<Digest>) {
        let Some((known, done)) = self.0.take() else { return };
        let done = done.with_digest(digest);
        let done = match failed {
            None => done,
            Some(error) => done.failed(error),
        };
        known.access.tell(known.asker.clone(), done).await;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some((known, done)) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { known.access.tell(known.asker.clone(), done.left()).await });
        }
    }
}

impl Api {
    /// What a version is, where it is loaded.
    pub(crate) fn digest(&self, name: &ModelName, version: Version) -> Option<Digest> {
        let model = ModelRef { name: name.clone(), version: Some(version) };
        Some(self.predictor.model(&model).ok()?.digest())
    }
}
