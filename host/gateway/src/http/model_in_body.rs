//! The model that a JSON body names, where the path does not.
//!
//! Contract: the body is read whole, within a limit, and goes on as it came, compressed or not. A body that names no model, or
//! two, is refused: what was found here is what the pod finds. Cost: the one kind of request that is held in memory here, of which
//! all together have so much (`memory`); what is inflated is gone again before anything else is waited for.

use std::borrow::Cow;
use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use bytesize::ByteSize;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde::Deserialize;
use vespid_types::{Error, ErrorCode};

use crate::body;

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
}

/// The model's name.
///
/// # Errors
/// Where the body is not JSON of an object with a field `model`.
pub(crate) fn find(headers: &HeaderMap, bytes: &Bytes, limit: ByteSize) -> Result<String, Error> {
    let inflated;
    let json: &[u8] = match encoding(headers)? {
        Encoding::Identity => bytes,
        Encoding::Gzip => {
            inflated = inflate(MultiGzDecoder::new(&bytes[..]), limit)?;
            &inflated
        }
        Encoding::Deflate => {
            inflated = inflate(ZlibDecoder::new(&bytes[..]), limit)?;
            &inflated
        }
    };
    let named: Named<'_> = serde_json::from_slice(json).map_err(|error| {
        Error::invalid(format!("request body: {error}: it is to be JSON that names the `model`"))
    })?;
    Ok(named.model.into_owned())
}

enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Error> {
    let named = headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.to_str().unwrap_or("?").trim());
    match named.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") => Ok(Encoding::Identity),
        Some("gzip") => Ok(Encoding::Gzip),
        Some("deflate") => Ok(Encoding::Deflate),
        Some(_) => {
            let message = "header Content-Encoding: use gzip or deflate, or send the body as it is: the gateway reads the model's name in it";
            Err(Error::new(ErrorCode::Unsupported, message))
        }
    }
}

fn inflate(reader: impl Read, limit: ByteSize) -> Result<Vec<u8>, Error> {
    let mut inflated = Vec::new();
    let read = reader.take(limit.as_u64().saturating_add(1)).read_to_end(&mut inflated);
    read.map_err(|error| {
        Error::invalid(format!("the request body is not what header Content-Encoding says: {error}"))
    })?;
    if inflated.len() as u64 > limit.as_u64() {
        return Err(body::too_large("inflated request body", limit));
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMIT: ByteSize = ByteSize::kib(4);

    #[test]
    fn the_name_is_read_and_a_second_one_refused() {
        let find = |json: &str| super::find(&HeaderMap::new(), &Bytes::from(json.to_owned()), LIMIT);
        assert_eq!(find(r#"{"input": ["a", "b"], "model": "embed", "user": null}"#).unwrap(), "embed");
        assert_eq!(find(r#"{"model": "\u0065mbed"}"#).unwrap(), "embed");
        for json in ["{}", "[]", r#"{"model": 1}"#, r#"{"model": "a", "model": "b"}"#, "model=a"] {
            let error = find(json).unwrap_err();
            assert!(error.message().contains("`model`"), "{error}");
        }
    }

    #[test]
    fn a_compressed_body_is_inflated_within_a_limit() {
        let gzip = |text: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text).unwrap();
            Bytes::from(encoder.finish().unwrap())
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(find(&headers, &gzip(br#"{"model": "embed"}"#), LIMIT).unwrap(), "embed");
        let bomb = gzip(&vec![b' '; 100_000]);
        assert_eq!(find(&headers, &bomb, LIMIT).unwrap_err().code(), ErrorCode::TooLarge);
        assert!(find(&headers, &Bytes::from_static(b"{}"), LIMIT).is_err());
        headers.insert(header::CONTENT_ENCODING, "br".parse().unwrap());
        assert_eq!(find(&headers, &bomb, LIMIT).unwrap_err().code(), ErrorCode::Unsupported);
    }
}
