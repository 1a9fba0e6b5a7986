//! Packages that a server gives over HTTP, as tars.
//!
//! Contract: what comes goes into a file, and is limited while it comes; who asks checks what is in it. What a server says it
//! does not have is told from what may pass. Cost: a client for each. Left out on purpose: going on where a connection was
//! cut, and credentials.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::TryStreamExt;
use reqwest::{Response, StatusCode};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::PackageError;

/// How long an answer, or its next piece, is waited for.
const PAUSE: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How much of a refusal is told.
const SHOWN: usize = 300;

/// Fetches a tar into a file.
///
/// # Errors
/// [`PackageError::Download`], [`PackageError::TooLarge`], or what the file system says.
pub async fn download(url: &Url, to: &Path, limit: ByteSize) -> Result<(), PackageError> {
    let failed = |error: reqwest::Error| refused(url, innermost(&error.without_url()), true);
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(PAUSE);
    let client = client.build().map_err(failed)?;
    let answer = client.get(url.clone()).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(said(url, answer).await);
    }
    if answer.content_length().is_some_and(|length| length > limit.as_u64()) {
        return Err(PackageError::TooLarge { limit });
    }
    let mut file = File::create(to).await.map_err(PackageError::io("create", to))?;
    let mut left = limit.as_u64();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.try_next().await.map_err(failed)? {
        left = left.checked_sub(piece.len() as u64).ok_or(PackageError::TooLarge { limit })?;
        file.write_all(&piece).await.map_err(PackageError::io("write", to))?;
    }
    file.flush().await.map_err(PackageError::io("write", to))
}

async fn said(url: &Url, answer: Response) -> PackageError {
    let status = answer.status();
    let passes = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let text = answer.text().await.unwrap_or_default();
    let text: String = text.trim().chars().take(SHOWN).collect();
    let reason = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
    refused(url, reason, passes)
}

fn refused(url: &Url, reason: String, passes: bool) -> PackageError {
    let mut shown = url.clone();
    // These may be secrets. They cannot be set on a URL without a host, which has none.
    let _ = (shown.set_password(None), shown.set_username(""));
    shown.set_query(None);
    PackageError::Download { url: shown.into(), reason, passes }
}

/// What is at the bottom of it: above that stands the request, which the message names already.
fn innermost(error: &reqwest::Error) -> String {
    let mut bottom: &dyn std::error::Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of asking a server that answers this.
    async fn answered(answer: &str, limit: ByteSize) -> Result<Vec<u8>, PackageError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Another test may have done so.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://me:secret@{}/packages/m/1?digest=d", listener.local_addr().unwrap());
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("package.tar");
        let url = url.parse().unwrap();
        let (downloaded, ()) = tokio::join!(download(&url, &file, limit), serving);
        downloaded.map(|()| std::fs::read(file).unwrap())
    }

    #[tokio::test]
    async fn what_comes_is_written_and_limited() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole";
        assert_eq!(answered(whole, ByteSize(5)).await.unwrap(), b"whole");
        assert!(matches!(answered(whole, ByteSize(4)).await, Err(PackageError::TooLarge { .. })));
        let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
        assert!(matches!(answered(chunks, ByteSize(4)).await, Err(PackageError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn what_may_pass_is_told_from_what_is_not_there_and_no_secret_shown() {
        for (answer, expected, passing) in [
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone", "404 Not Found: none", false),
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nwhole", "cannot be fetched", true),
        ] {
            let error = answered(answer, ByteSize::mib(1)).await.unwrap_err();
            assert!(matches!(error, PackageError::Download { passes, .. } if passes == passing), "{error}");
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains("/packages/m/1"), "{text}");
            assert!(!text.contains("secret") && !text.contains("digest"), "{text}");
        }
    }
}
