//! What is counted and logged of each call.
//!
//! Contract: a call is counted when its status is sent: with the head of an answer that has nothing else, or at the end.
//! One that its client leaves is not. Cost: a look at each frame of an answer.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use http_body_util::BodyExt;
use tonic::Code;
use vespid_telemetry::{Exchange, Subject, Telemetry};

use crate::Api;
use crate::observe::GRPC;

/// Where a method leaves what its call is about, among its request's extensions, where each call is logged.
#[derive(Clone, Default)]
pub(super) struct About(pub(super) Arc<OnceLock<Subject>>);

/// A call that goes on.
pub(super) struct Call {
    api: Api,
    began: Instant,
    /// Where it is to be logged: the method, and what it is about.
    logged: Option<(String, About)>,
}

impl Call {
    pub(super) fn begin(api: Api, request: &mut Request) -> Self {
        let logged = Telemetry::logs_exchanges().then(|| {
            let about = About::default();
            request.extensions_mut().insert(about.clone());
            (request.uri().path().to_owned(), about)
        });
        Self { api, began: Instant::now(), logged }
    }

    /// Counts and logs it when its status is sent.
    pub(super) fn answer(self, response: Response) -> Response {
        if let Some(code) = code(response.headers()) {
            self.ended(code);
            return response;
        }
        let mut call = Some(self);
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                if let Some(code) = frame.trailers_ref().and_then(code)
                    && let Some(call) = call.take()
                {
                    call.ended(code);
                }
                frame
            }))
        })
    }

    fn ended(self, code: Code) {
        let code = match code {
            Code::Ok => Cow::Borrowed("OK"),
            code => Cow::Owned(format!("{code:?}")),
        };
        self.api.telemetry.answered(&Exchange {
            protocol: &GRPC,
            what: self.logged.as_ref().map_or("", |(method, _)| method),
            code: &code,
            began: self.began,
            subject: self.logged.as_ref().and_then(|(_, about)| about.0.get()),
            request_id: None,
        });
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}
