//! A request from the door to the audit: who sent it, and what came of what they asked.
//!
//! Contract: [`Access::identify`] reads the credentials among a request's headers; what came of it goes to [`Access::tell`], which
//! writes the line also where the client leaves meanwhile. Cost: a task for each line.

use std::net::{IpAddr, SocketAddr};

use http::{Extensions, HeaderMap};
use vespid_types::{Digest, Error, Version};

use crate::{Access, Action, CertificateName, Credentials, Denied, Event, Outcome, Principal};

/// Who sent a request, as the audit tells of them.
#[derive(Clone, Debug)]
pub struct Asker {
    who: Option<Principal>,
    client: Option<IpAddr>,
    request_id: Option<String>,
}

impl Asker {
    /// Whoever sent it: `who` where that is known, from which address, with which request id.
    #[must_use]
    pub fn new(who: Option<Principal>, client: Option<SocketAddr>, request_id: Option<&str>) -> Self {
        let client = client.map(|client| client.ip().to_canonical());
        Self { who, client, request_id: request_id.map(str::to_owned) }
    }

    /// Who it is, where that is known.
    #[must_use]
    pub const fn who(&self) -> Option<&Principal> {
        self.who.as_ref()
    }

    /// The tenant of what is made for them.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.who.as_ref()?.tenant()
    }
}

/// What was done, or was to be.
#[derive(Clone, Debug)]
pub struct Done {
    action: Action,
    model: Option<String>,
    version: Option<Version>,
    digest: Option<Digest>,
    outcome: Outcome,
    status: u16,
    reason: Option<&'static str>,
}

impl Done {
    /// Something that was allowed, and succeeded with `status`. `model` is none where it was the server.
    #[must_use]
    pub fn new(action: Action, model: Option<&str>, version: Option<Version>, status: u16) -> Self {
        let model = model.map(str::to_owned);
        Self { action, model, version, digest: None, outcome: Outcome::Allowed, status, reason: None }
    }

    /// The same that failed so.
    #[must_use]
    pub fn failed(self, error: &Error) -> Self {
        let code = error.code();
        Self { outcome: Outcome::Failed, status: code.http_status(), reason: Some(code.as_str()), ..self }
    }

    /// The same whose client left before it was known what comes of it.
    #[must_use]
    pub fn left(self) -> Self {
        // What nginx says of it: there is no status that anybody saw.
        Self { outcome: Outcome::Failed, status: 499, reason: Some("client_left"), ..self }
    }

    /// The same that was denied.
    #[must_use]
    pub fn denied(self, denied: &Denied) -> Self {
        let (status, reason) = (denied.code().http_status(), Some(denied.reason()));
        Self { outcome: Outcome::Denied, status, reason, ..self }
    }

    /// The same with what the version is, where that is known.
    #[must_use]
    pub fn with_digest(self, digest: Option<Digest>) -> Self {
        Self { digest, ..self }
    }
}

impl Access {
    /// Who sent a request with these headers. Among its `extensions` the listener left `Option<CertificateName>`, where connections
    /// may have one.
    ///
    /// # Errors
    /// [`Denied`], where that is not known.
    pub async fn identify(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Principal, Denied> {
        let certificate = extensions.get::<Option<CertificateName>>().and_then(Option::as_ref);
        self.authenticate(Credentials::from_headers(headers, certificate)?).await
    }

    /// Writes into the audit what came of a request. The line is written where the caller goes away, too. Within a runtime.
    pub async fn tell(&self, asker: Asker, done: Done) {
        let access = self.clone();
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
