//! Requests over `wasi:http`.

use crate::http::{Request, Response, Url};
use crate::http_bindings::wasi::http::outgoing_handler;
use crate::http_bindings::wasi::http::types::{
    ErrorCode, Fields, HeaderError, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
    http_error_code,
};
use crate::http_bindings::wasi::io::streams::StreamError;
use crate::{Error, Result};

/// What one write may hold.
const WRITE: usize = 4096;
const READ: u64 = 64 << 10;

pub(crate) fn send(request: Request) -> Result<Response> {
    let Request { method, url, mut headers, body } = request;
    let url = Url::parse(&url)?;
    if let Some(body) = &body {
        headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
    }
    let outgoing = OutgoingRequest::new(Fields::from_list(&headers)?);
    let wrong = |what: &str| Error::internal(format!("the {what} is not one"));
    outgoing.set_method(&self::method(method)).map_err(|()| wrong("method"))?;
    let scheme = if url.secure { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| wrong("scheme"))?;
    outgoing.set_authority(Some(url.authority)).map_err(|()| wrong("URL's host"))?;
    outgoing.set_path_with_query(Some(&url.path)).map_err(|()| wrong("URL's path"))?;
    let content =
        body.map(|body| Ok::<_, Error>((outgoing.body().map_err(|()| wrong("body"))?, body))).transpose()?;
    let answer = outgoing_handler::handle(outgoing, None)?;
    // Read while the request is under way. Where that ends early, the answer says why.
    let written = content.map_or(Ok(()), |(content, body)| write(content, &body));
    answer.subscribe().block();
    let answer =
        answer.get().and_then(std::result::Result::ok).ok_or_else(|| Error::internal("no answer came"))??;
    let response = read(&answer)?;
    // One that came before the body was taken is an answer all the same.
    if response.status < 400 { written.map(|()| response) } else { Ok(response) }
}

fn method(method: String) -> Method {
    match method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(method),
    }
}

fn write(content: OutgoingBody, body: &[u8]) -> Result<()> {
    let stream = content.write().map_err(|()| Error::internal("the body was begun before"))?;
    for piece in body.chunks(WRITE) {
        stream.blocking_write_and_flush(piece)?;
    }
    drop(stream);
    Ok(OutgoingBody::finish(content, None)?)
}

fn read(answer: &IncomingResponse) -> Result<Response> {
    let headers = answer.headers().entries();
    let content = answer.consume().map_err(|()| Error::internal("the answer was read before"))?;
    let stream = content.stream().map_err(|()| Error::internal("the answer was read before"))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ) {
            Ok(piece) => body.extend_from_slice(&piece),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Response { status: answer.status(), headers, body })
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed => Self::unavailable("the connection was closed"),
            StreamError::LastOperationFailed(error) => match http_error_code(&error) {
                Some(code) => code.into(),
                None => Self::unavailable(error.to_debug_string()),
            },
        }
    }
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        Self::internal(match error {
            HeaderError::InvalidSyntax => "a header has a name or a value that is none",
            HeaderError::Forbidden => "a header is one that the server writes itself",
            HeaderError::Immutable => "the headers cannot be changed any more",
        })
    }
}

impl From<ErrorCode> for Error {
    fn from(error: ErrorCode) -> Self {
        match error {
            ErrorCode::HttpRequestDenied => Self::internal(
                "the host is not granted: list it as `http` under [grants] in model.toml, with its scheme and port",
            ),
            ErrorCode::HttpRequestUriInvalid => Self::internal("the URL names no host that could be granted"),
            ErrorCode::ConnectionLimitReached => Self::internal("too many requests are open at once"),
            ErrorCode::DnsTimeout | ErrorCode::DnsError(_) => {
                Self::unavailable("the host's name is not found")
            }
            ErrorCode::ConnectionRefused => Self::unavailable("the host refuses the connection"),
            ErrorCode::ConnectionTimeout | ErrorCode::ConnectionReadTimeout => {
                Self::unavailable("the host does not answer in time")
            }
            ErrorCode::TlsCertificateError => Self::unavailable("the host's certificate is not trusted"),
            ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
                Self::unavailable("the host ended the connection")
            }
            other => Self::unavailable(format!("{other:?}")),
        }
    }
}
