//! What was done, by whom: the audit.
//!
//! Contract: a line of JSON for each event, in the order of their coming, in the file when [`Audit::flush`] is back. Nothing here takes
//! a header; of what clients choose (ids, names, a request's id), what looks like a token or a key is withheld. A file that is moved
//! away is made anew within a second of the next event, for who turns logs over. Who audits waits while the disk does not keep
//! up; a line that cannot be written is lost, which is logged and counted. Cost: a line and a place in a channel; a thread that writes.

mod writer;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use vespid_types::{Digest, Version};

use self::writer::{Message, Writer};
use crate::config::AuditTarget;
use crate::count::{Count, Counts};
use crate::keys::PREFIX;
use crate::{AccessError, Action, Principal};

/// Lines on their way to the file.
const IN_HAND: usize = 1024;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Allowed,
    /// It was refused: who asks is not known, or may not.
    Denied,
    /// It was allowed, and failed.
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Something that was done, or was to be. There is no field for a header, a token or a key.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Who asked; none where that is not known.
    pub who: Option<&'a Principal>,
    /// From where.
    pub client: Option<IpAddr>,
    /// What was to be done.
    pub action: Action,
    /// With which model; none where it is the server.
    pub model: Option<&'a str>,
    /// Which version of it, where that is known.
    pub version: Option<Version>,
    /// What the version is, where that is known.
    pub digest: Option<Digest>,
    /// What came of it.
    pub outcome: Outcome,
    /// The status of HTTP that was answered; of gRPC the one that goes with its code.
    pub status: u16,
    /// [`Denied::reason`](crate::Denied::reason), or the code of the failure.
    pub reason: Option<&'static str>,
    /// The request's id.
    pub request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    who: Option<Who<'a>>,
    client: Option<IpAddr>,
    action: &'static str,
    model: Option<Cow<'a, str>>,
    version: Option<u64>,
    digest: Option<Digest>,
    outcome: &'static str,
    status: u16,
    reason: Option<&'static str>,
    request_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Who<'a> {
    kind: &'static str,
    id: Cow<'a, str>,
    issuer: Option<&'a str>,
    tenant: Option<Cow<'a, str>>,
}

fn line(event: &Event<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let who = event.who.map(|who| Who {
        kind: who.kind().as_str(),
        id: shown(who.id()),
        issuer: who.issuer(),
        tenant: who.tenant().map(shown),
    });
    let mut line = serde_json::to_vec(&Line {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        who,
        client: event.client,
        action: event.action.as_str(),
        model: event.model.map(shown),
        version: event.version.map(Version::number),
        digest: event.digest,
        outcome: event.outcome.as_str(),
        status: event.status,
        reason: event.reason,
        request_id: event.request_id.map(shown),
    })?;
    line.push(b'\n');
    Ok(line)
}

/// What clients choose has an end.
const LONGEST: usize = 256;

/// What a client chose, unless somebody might come in with it.
fn shown(text: &str) -> Cow<'_, str> {
    // A JWT's header begins with {" in base64.
    if text.contains(PREFIX) || text.contains("eyJ") {
        return Cow::Borrowed("(withheld: it looks like a token or a key)");
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => text.get(..end).map_or(Cow::Borrowed(""), Cow::Borrowed),
        None => Cow::Borrowed(text),
    }
}

/// The way to the audit's file.
pub(crate) struct Audit {
    messages: mpsc::Sender<Message>,
    counts: Arc<Counts>,
}

impl Audit {
    pub(crate) fn open(target: AuditTarget, counts: Arc<Counts>) -> Result<Self, AccessError> {
        let (messages, incoming) = mpsc::channel(IN_HAND);
        let writer = Writer::open(target, Arc::clone(&counts))?;
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(incoming))
            .map_err(|error| AccessError::Internal(format!("no thread for the audit: {error}")))?;
        Ok(Self { messages, counts })
    }

    pub(crate) async fn write(&self, event: &Event<'_>) {
        let line = match line(event) {
            Ok(line) => line,
            Err(error) => return self.lost(&error.to_string()),
        };
        if self.messages.send(Message::Line(line)).await.is_err() {
            self.lost("the thread that writes it has ended");
        }
    }

    fn lost(&self, reason: &str) {
        self.counts.add(Count::AuditLost);
        tracing::error!(reason, "a line of the audit is lost");
    }

    /// Comes back when all that was written before is in the file.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.messages.send(Message::Flush(done)).await.is_ok() {
            // A thread that has ended has nothing in hand.
            let _ = is_done.await;
        }
    }
}

#[cfg(test)]
mod tests;
