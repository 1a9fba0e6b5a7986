//! Who may do what: where the gateway asks, over HTTP as over gRPC.
//!
//! Contract: every request but a probe passes [`Shared::admit`] when the gateway knows what it is about, and before a model is looked
//! up or a pod or the store hears of it, so that who may not learns nothing of whether there is a model. A gRPC stream names one model
//! (`grpc`), and what was admitted holds for all of its messages, for as long as the caller's token or key is good. Lists show what the
//! caller may read of. A model's tenant is the label [`names::TENANT_LABEL`] of its `Model`; one that is not there yet is to be of its uploader's. Each denial and each change of
//! a model is a line of the audit, also where the client has left. Credentials end here: a pod does not see them. Without a
//! configuration everybody may do everything, which the command line has to ask for. Cost: what `vespid_auth` says.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use vespid_auth::{Access, Action as Asked, Asker, Denied, Done, ModelFacts, Principal, Resource};
use vespid_resources::{Model, names};
use vespid_types::{Error, ModelName, Version};

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
            return Ok(asker(parts, None));
        };
        let who = match identify(access, parts).await {
            Ok(who) => who,
            Err(denied) => return Err(self.refuse(asker(parts, None), subject, denied).await),
        };
        let Some(action) = subject.action.asked() else { return Ok(asker(parts, Some(who))) };
        let allowed = self
            .routes
            .load()
            .with(subject.model, &who, action, |resource| access.authorize(&who, action, resource));
        let asker = asker(parts, Some(who));
        match allowed {
            Ok(()) => Ok(asker),
            Err(denied) => Err(self.refuse(asker, subject, denied).await),
        }
    }

    async fn refuse(&self, asker: Asker, subject: &Subject<'_>, denied: Denied) -> Error {
        let action = subject.action.asked().unwrap_or(Asked::ReadMetadata);
        let version = subject.version.and_then(|version| version.to_string().parse().ok());
        self.tell(asker, Done::new(action, subject.model, version, 0).denied(&denied)).await;
        denied.into()
    }

    /// Sees whether a Model that is there now may be changed by whoever was admitted to upload to it: it may have come since.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub(crate) fn admit_change(&self, asker: &Asker, model: &Model) -> Result<(), Error> {
        let (Some(access), Some(who)) = (&self.access, asker.who()) else { return Ok(()) };
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
        if let Some(access) = &self.access {
            access.tell(asker, done).await;
        }
    }
}

/// What came of an upload or a removal. `digest` is what the version is, where that is known, and `status` that of success.
pub(crate) fn done<T>(
    action: Action,
    (model, version): (&ModelName, Version),
    digest: Option<&str>,
    result: &Result<T, Error>,
    status: u16,
) -> Done {
    let action = action.asked().unwrap_or(Asked::Admin);
    let digest = digest.and_then(|digest| digest.parse().ok());
    let done = Done::new(action, Some(model.as_str()), Some(version), status).with_digest(digest);
    match result {
        Ok(_) => done,
        Err(error) => done.failed(error),
    }
}

fn asker(parts: &Parts, who: Option<Principal>) -> Asker {
    let client = parts.extensions.get().map(|&ConnectInfo(client): &ConnectInfo<SocketAddr>| client);
    let id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    Asker::new(who, client, id)
}

async fn identify(access: &Access, parts: &Parts) -> Result<Principal, Denied> {
    access.identify(&parts.headers, &parts.extensions).await
}

fn facts(model: &Model) -> ModelFacts<'_> {
    let none = ModelFacts::default();
    let Some(labels) = &model.metadata.labels else { return none };
    ModelFacts { tenant: tenant(model), labels }
}

/// Whose a model is.
pub(crate) fn tenant(model: &Model) -> Option<&str> {
    model.metadata.labels.as_ref()?.get(names::TENANT_LABEL).map(String::as_str)
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
