//! What means harm to a server, and the answer that it must get. The tests hold a server to it; the bench `hostile` measures
//! what a neighbour notices of it.

pub mod calls;
pub mod crude;
pub mod graphs;
pub mod greedy;
pub mod handles;
pub mod nn;
pub mod places;
pub mod probes;
pub mod uploads;

use serde_json::{Value, json};

use crate::archive::Archive;
use crate::http::Answer;
use crate::oip::request;
use crate::server::Server;

/// Bytes of an error that a caller gets, whatever was handed to the server.
const MAX_ERROR: usize = 20 << 10;

/// The status and a part of the text that an attack must get.
type Outcome = (u16, &'static str);

/// One attack, and what must come of it.
pub struct Attack {
    /// What it does.
    pub name: String,
    /// The model that it is, or asks.
    pub model: String,
    /// The status that it must get.
    pub status: u16,
    /// A part of the text of the answer.
    pub message: String,
    act: Act,
    package: Box<dyn Fn() -> Archive + Send + Sync>,
}

enum Act {
    /// Uploads the package once and asks it.
    Call { path: &'static str, request: Value },
    /// Uploads the package, and removes it where it is taken.
    Upload,
}

impl Attack {
    /// A call of a model, whose package is uploaded before.
    fn call(
        name: &str,
        model: &str,
        package: impl Fn() -> Archive + Send + Sync + 'static,
        request: Value,
        (status, message): (u16, &str),
    ) -> Self {
        let act = Act::Call { path: "infer", request };
        Self {
            name: name.to_owned(),
            model: model.to_owned(),
            status,
            message: message.to_owned(),
            act,
            package: Box::new(package),
        }
    }

    /// An upload. A status of 201 says that it is taken.
    fn upload(
        name: &str,
        model: &str,
        package: impl Fn() -> Archive + Send + Sync + 'static,
        outcome: (u16, &str),
    ) -> Self {
        Self { act: Act::Upload, ..Self::call(name, model, package, Value::Null, outcome) }
    }

    /// The same call for an answer in pieces.
    fn in_pieces(mut self) -> Self {
        self.act = Act::Call { path: "generate_stream", request: json!({"kind": [0]}) };
        self
    }

    /// The same call with another request.
    fn asking(mut self, asked: Value) -> Self {
        if let Act::Call { request, .. } = &mut self.act {
            *request = asked;
        }
        self
    }

    /// Uploads what is to be asked, unless it is there.
    pub fn prepare(&self, server: &Server) {
        if matches!(self.act, Act::Call { .. }) {
            let answer = server.upload(&self.model, "1", &(self.package)().to_tar());
            assert!([201, 409].contains(&answer.status), "{}: {answer}", self.name);
        }
    }

    /// Does it; what the server answers.
    #[must_use]
    pub fn strike(&self, server: &Server) -> Answer {
        match &self.act {
            Act::Call { path, request } => server.post(&format!("/v2/models/{}/{path}", self.model), request),
            Act::Upload => {
                let answer = server.upload(&self.model, "1", &(self.package)().to_tar());
                if answer.status == 201 {
                    assert_eq!(server.delete(&self.model, "1").status, 204);
                }
                answer
            }
        }
    }

    /// How an answer departs from what it must be, if it does.
    #[must_use]
    pub fn fault(&self, answer: &Answer) -> Option<String> {
        let right = answer.status == self.status
            && if answer.status < 300 {
                String::from_utf8_lossy(&answer.body).contains(&self.message)
            } else {
                let error = answer.error();
                error.contains(&self.message) && error.len() < MAX_ERROR
            };
        (!right).then(|| format!("{}: expected {} '{}': {answer}", self.name, self.status, self.message))
    }
}

/// A question in words to one of the plugins that take them.
fn words(asked: &[&str]) -> Value {
    request("ask", "BYTES", &[asked.len()], asked)
}

/// A name for a model, made of what an attack is called.
fn slug(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}

/// A name, and what makes the attacks.
type Group = (&'static str, fn() -> Vec<Attack>);

/// All attacks that take little time, by what they have in common.
pub const GROUPS: [Group; 8] = [
    ("calls", calls::attacks),
    ("places", places::attacks),
    ("handles", handles::attacks),
    ("greedy", greedy::attacks),
    ("wasi-nn", nn::attacks),
    ("WASI", probes::attacks),
    ("uploads", uploads::attacks),
    ("graphs", graphs::attacks),
];
