//! What is done with every call before a service sees it, and with its answer.
//!
//! Contract: who calls has shown who they are, and their rights are among the request's extensions. `grpc-timeout` becomes a
//! [`Deadline`] there, counted from here on, so that the time of reading the message counts too. An answer is compressed as
//! its request was: what a client could read, most of them say, is no wish for it. Cost: a few headers, and what `vespid_auth`
//! says.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytesize::ByteSize;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use tonic::{Code, Status};
use tower_http::timeout::{TimeoutBody, TimeoutError};
use vespid_types::{BoxError, Deadline, Error, ErrorCode};

use super::access;
use super::observe::Call;
use super::status::status;
use super::until_stopping;
use crate::Api;
use crate::http::body::PAUSE;

pub(super) async fn pass(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if request.version() != Version::HTTP_2 {
        let message = "this port takes gRPC alone, over HTTP/2; REST is at the port of --http\n";
        return (StatusCode::HTTP_VERSION_NOT_SUPPORTED, message).into_response();
    }
    let call = Call::begin(api.clone(), &mut request);
    match timeout(request.headers()) {
        Ok(Some(timeout)) => {
            request.extensions_mut().insert(Deadline::after(timeout));
        }
        Ok(None) => {}
        Err(error) => return call.answer(status(&error).into_http()),
    }
    if let Err(denied) = access::identify(&api, &mut request).await {
        return call.answer(status(&denied).into_http());
    }
    answer_as_asked(request.headers_mut());
    // Its stream is open for as long as the client likes, which would keep the server from ending.
    if request.uri().path().starts_with("/grpc.reflection.") {
        let api = api.clone();
        let stopping = async move { until_stopping(&api).await };
        request =
            request.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(stopping))));
    } else if request.uri().path() != STREAM {
        request = request.map(|body| paced(body, PAUSE));
    }
    let mut response = next.run(request).await;
    name_limit(response.headers_mut(), api.max_body);
    call.answer(response)
}

/// The call that may pause between its messages.
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// A message of which something comes again and again.
fn paced(body: Body, pause: Duration) -> Body {
    Body::new(TimeoutBody::new(pause, body).map_err(move |error| -> BoxError {
        if !error.is::<TimeoutError>() {
            return error;
        }
        let message = format!("nothing of the message came for {} s", pause.as_secs());
        Box::new(status(&Error::new(ErrorCode::DeadlineExceeded, message)))
    }))
}

/// The time that the caller gives the call: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let read = || {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let count = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(count * 3600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    };
    let refusal = || Error::invalid("grpc-timeout: expected up to eight digits and one of H, M, S, m, u, n");
    read().map(Some).ok_or_else(refusal)
}

/// Of the encodings that the client can read, leaves that of its request.
fn answer_as_asked(headers: &mut HeaderMap) {
    let readable = headers.remove("grpc-accept-encoding");
    let readable = readable.as_ref().and_then(|readable| readable.to_str().ok()).unwrap_or_default();
    let asked = headers
        .get("grpc-encoding")
        .filter(|asked| readable.split(',').any(|encoding| encoding.trim().as_bytes() == asked.as_bytes()));
    if let Some(asked) = asked.cloned() {
        headers.insert("grpc-accept-encoding", asked);
    }
}

/// The transport's refusal of a message that is too large, as every other such refusal.
fn name_limit(headers: &mut HeaderMap, limit: ByteSize) {
    let out_of_range = HeaderValue::from(Code::OutOfRange as i32);
    if headers.get("grpc-status") == Some(&out_of_range) {
        let (refusal, ()) = too_large(limit).into_http().into_parts();
        headers.extend(refusal.headers);
    }
}

/// The refusal of a message that is too large.
pub(super) fn too_large(limit: ByteSize) -> Status {
    let message = format!("the message is larger than the limit of {limit}");
    status(&Error::new(ErrorCode::TooLarge, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        let read = |value: &'static str| {
            timeout(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
        for (value, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("99999999M", Duration::from_secs(99_999_999 * 60)),
            ("0S", Duration::ZERO),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("100n", Duration::from_nanos(100)),
        ] {
            assert_eq!(read(value).unwrap(), Some(expected), "{value}");
        }
        for value in ["", "S", "1", "123456789S", "1s", "-1S", "+1S", "1.5S", "1 S", "S1"] {
            assert!(read(value).unwrap_err().message().starts_with("grpc-timeout:"), "{value}");
        }
    }

    #[tokio::test]
    async fn a_message_that_stops_half_way_is_given_up() {
        let begins = futures_util::stream::iter([Ok::<_, Status>(vec![0_u8, 0])]);
        let stops = Body::from_stream(begins.chain(futures_util::stream::pending()));
        let error = paced(stops, Duration::from_millis(20)).collect().await.unwrap_err();
        let status = Status::from_error(Box::new(error));
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let whole = paced(Body::from("whole"), Duration::from_secs(60)).collect().await.unwrap();
        assert_eq!(whole.to_bytes(), "whole");
    }

    #[test]
    fn answers_are_compressed_as_their_requests_were() {
        let asked = |encoding: Option<&'static str>, readable: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-accept-encoding", HeaderValue::from_static(readable));
            if let Some(encoding) = encoding {
                headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
            }
            answer_as_asked(&mut headers);
            headers.get("grpc-accept-encoding").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(asked(None, "identity, deflate, gzip"), None);
        assert_eq!(asked(Some("gzip"), "identity, deflate, gzip"), Some("gzip".to_owned()));
        assert_eq!(asked(Some("gzip"), "identity"), None);
    }
}
