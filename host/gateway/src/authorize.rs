//! Who may do what: where the gateway asks, over HTTP as over gRPC.
//!
//! Contract: every request but a probe passes [`Shared::admit`] when the gateway knows what it is about, and before a model is looked
//! up or a pod or the store hears of it, so that who may not learns nothing of whether there is a model. A gRPC stream names one model
//! (`grpc`), and what was admitted holds for all of its messages. Lists show what the caller may read of. A model's tenant is the
//! label [`names::TENANT_LABEL`] of its `Model`; one that is not there yet is to be of its uploader's. Each denial and each change of
//! a model is a line of the audit, also where the client has left. Credentials end here: a pod does not see them. Without a
//! configuration everybody may do everything, which the command line has to ask for. Cost: what `vespid_auth` says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use vespid_auth::{
    Access, Action as Asked, Credentials, Denied, Event, ModelFacts, Outcome, Principal, Resource,
};
use vespid_resources::{Model, names};
use vespid_types::{Digest, Error, Version};

use crate::gateway::Shared;
use crate::headers::REQUEST_ID;
use crate::table::Table;

/// What a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// See whether the gateway is up, as balancers do, who show no credentials.
    Probe,
    /// Ask a model.
    Predict,
    /// Read what a model, or the server, says of itself.
    Describe,
    /// What everybody may who is known: list the models, as far as they may be read of, or say in the body what is meant.
    Identify,
    /// Add a version of a model.
    Upload,
    /// Remove one.
    Remove,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// What it would do.
    pub(crate) action: Action,
    /// The model; none where it is about none in particular.
    pub(crate) model: Option<&'a str>,
    /// The version; none where it names none.
    pub(crate) version: Option<u64>,
}

/// Who asks; nobody in particular where nobody has to say.
pub(crate) type Who = Option<Principal>;

/// What the audit says of a request besides what came of it.
#[derive(Clone)]
pub(crate) struct Asker {
    who: Who,
    client: Option<IpAddr>,
    request_id: Option<String>,
}

impl Asker {
    fn of(parts: &Parts, who: Who) -> Self {
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        Self {
            who,
            client: client.map(|ConnectInfo(client)| client.ip().to_canonical()),
            request_id: id.map(str::to_owned),
        }
    }

    /// The tenant of what is made for them.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.who.as_ref()?.tenant()
    }
}

impl Action {
    /// What the policies call it.
    const fn asked(self) -> Option<Asked> {
        match self {
            Self::Probe | Self::Identify => None,
            Self::Predict => Some(Asked::Predict),
            Self::Describe => Some(Asked::ReadMetadata),
            Self::Upload => Some(Asked::Upload),
            Self::Remove => Some(Asked::Delete),
        }
    }
}

impl Shared {
    /// Sees whether a request may be. Says who asks.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `PERMISSION_DENIED`, or `UNAVAILABLE` where that cannot be found out now.
    pub(crate) async fn admit(&self, parts: &Parts, subject: &Subject<'_>) -> Result<Asker, Error> {
        let Some(access) = self.access.as_ref().filter(|_| subject.action != Action::Probe) else {
            return Ok(Asker::of(parts, None));
        };
        let who = match identify(access, parts).await {
            Ok(who) => who,
            Err(denied) => return Err(self.refuse(Asker::of(parts, None), subject, denied).await),
        };
        let Some(action) = subject.action.asked() else { return Ok(Asker::of(parts, Some(who))) };
        let allowed = self
            .routes
            .load()
            .with(subject.model, &who, action, |resource| access.authorize(&who, action, resource));
        let asker = Asker::of(parts, Some(who));
        match allowed {
            Ok(()) => Ok(asker),
            Err(denied) => Err(self.refuse(asker, subject, denied).await),
        }
    }

    async fn refuse(&self, asker: Asker, subject: &Subject<'_>, denied: Denied) -> Error {
        let done = Done {
            action: subject.action.asked().unwrap_or(Asked::ReadMetadata),
            model: subject.model.map(str::to_owned),
            version: subject.version.and_then(|version| version.to_string().parse().ok()),
            digest: None,
            outcome: Outcome::Denied,
            status: denied.code().http_status(),
            reason: Some(denied.reason()),
        };
        self.tell(asker, done).await;
        denied.into()
    }

    /// Sees whether a Model that is there now may be changed by whoever was admitted to upload to it: it may have come since.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub(crate) fn admit_change(&self, asker: &Asker, model: &Model) -> Result<(), Error> {
        let (Some(access), Some(who)) = (&self.access, &asker.who) else { return Ok(()) };
        let name = model.metadata.name.as_deref().unwrap_or_default();
        Ok(access.authorize(who, Asked::Upload, &Resource::model(name, facts(model)))?)
    }

    /// The table with those models alone that the caller may read of.
    ///
    /// # Errors
    /// As [`Shared::admit`].
    pub(crate) async fn visible(&self, parts: &Parts) -> Result<Arc<Table>, Error> {
        let Some(access) = &self.access else { return Ok(Arc::clone(&self.routes.load())) };
        let who = identify(access, parts).await?;
        let table = self.routes.load();
        let is_visible = |name: &str| {
            let look = |resource: &Resource<'_>| access.authorize(&who, Asked::ReadMetadata, resource);
            table.with(Some(name), &who, Asked::ReadMetadata, look).is_ok()
        };
        Ok(Arc::new(table.only(is_visible)))
    }

    /// Writes into the audit what came of a change.
    pub(crate) async fn tell(&self, asker: Asker, done: Done) {
        let Some(access) = self.access.clone() else { return };
        // The line is written where the client leaves meanwhile.
        let written = tokio::spawn(async move {
            let event = Event {
                who: asker.who.as_ref(),
                client: asker.client,
                action: done.action,
                model: done.model.as_deref(),
                version: done.version,
                digest: done.digest,
                outcome: done.outcome,
                status: done.status,
                reason: done.reason,
                request_id: asker.request_id.as_deref(),
            };
            access.audit(event).await;
        });
        let _ = written.await;
    }
}

/// What was done to a model, or was to be.
pub(crate) struct Done {
    action: Asked,
    model: Option<String>,
    version: Option<Version>,
    digest: Option<Digest>,
    outcome: Outcome,
    status: u16,
    reason: Option<&'static str>,
}

impl Done {
    /// What came of an upload or a removal. `digest` is what the version is, where that is known, and `status` that of success.
    pub(crate) fn of<T>(
        action: Action,
        model: &str,
        version: Version,
        digest: Option<&str>,
        result: &Result<T, Error>,
        status: u16,
    ) -> Self {
        let error = result.as_ref().err();
        Self {
            action: action.asked().unwrap_or(Asked::Admin),
            model: Some(model.to_owned()),
            version: Some(version),
            digest: digest.and_then(|digest| digest.parse().ok()),
            outcome: if error.is_none() { Outcome::Allowed } else { Outcome::Failed },
            status: error.map_or(status, |error| error.code().http_status()),
            reason: error.map(|error| error.code().as_str()),
        }
    }
}

async fn identify(access: &Access, parts: &Parts) -> Result<Principal, Denied> {
    access.authenticate(Credentials::from_headers(&parts.headers, None)?).await
}

fn facts(model: &Model) -> ModelFacts<'_> {
    let none = ModelFacts::default();
    let Some(labels) = &model.metadata.labels else { return none };
    ModelFacts { tenant: labels.get(names::TENANT_LABEL).map(String::as_str), labels }
}

impl Table {
    /// What `ask` says of a model, or of the server.
    fn with<T>(
        &self,
        model: Option<&str>,
        who: &Principal,
        action: Asked,
        ask: impl FnOnce(&Resource<'_>) -> T,
    ) -> T {
        let Some(name) = model else { return ask(&Resource::Server) };
        let facts = match self.routes.get(name) {
            Some(route) => facts(&route.model),
            None if action == Asked::Upload => ModelFacts { tenant: who.tenant(), ..ModelFacts::default() },
            None => ModelFacts::default(),
        };
        ask(&Resource::model(name, facts))
    }
}
