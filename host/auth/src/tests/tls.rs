//! Providers over TLS.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::testing::{PERMIT_ALL, Place, Signer, bearer, now, quick};
use crate::{AccessError, Denied};

const CA: &str = include_str!("../../testdata/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../testdata/server.der");
const KEY: &[u8] = include_bytes!("../../testdata/server.key.der");

/// A server that answers everything with this over TLS; its port.
async fn serve(answer: String) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(CERTIFICATE)],
            PrivateKeyDer::try_from(KEY.to_vec()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust the certificate goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn a_provider_is_checked_by_the_certificates_that_are_named() {
    let signer = Signer::ec("a");
    let body = serde_json::json!({ "keys": [signer.jwk()] }).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let issuer = format!("https://localhost:{}", serve(head + &body).await);
    let claims = serde_json::json!({ "iss": issuer, "aud": "vespid", "sub": "alice", "exp": now() + 60 });
    let place = Place::new(PERMIT_ALL);
    place.write("ca.pem", CA);
    let lines = |more: &str| {
        format!("oidc: [{{ issuer: '{issuer}', audience: vespid, jwks_url: '{issuer}/jwks'{more} }}]")
    };
    let trusting = place.start(&lines(", ca_file: ca.pem"));
    assert_eq!(
        bearer(&trusting, &signer.token(&claims)).await.map(|alice| alice.id().to_owned()),
        Ok("alice".to_owned())
    );
    // By the system's it is nobody's.
    let strict = place.start(&lines(""));
    assert_eq!(bearer(&strict, &signer.token(&claims)).await, Err(Denied::ProviderUnavailable));
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_an_error_at_the_start() {
    let place = Place::new(PERMIT_ALL);
    let lines = "oidc: [{ issuer: 'https://id.example', audience: vespid, ca_file: ca.pem }]";
    let error = || place.try_start(lines, quick()).err().unwrap();
    assert!(matches!(error(), AccessError::File { .. }), "there is none");
    place.write("ca.pem", "nothing");
    assert!(error().to_string().contains("ca.pem: it has no certificate"), "{}", error());
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let signer = Signer::ec("a");
    let provider = crate::testing::Provider::start(&[&signer]).await;
    let head = format!("HTTP/1.1 302 Found\r\nlocation: {}/jwks\r\ncontent-length: 0\r\n\r\n", provider.url);
    let issuer = format!("https://localhost:{}", serve(head).await);
    let claims = serde_json::json!({ "iss": issuer, "aud": "vespid", "sub": "alice", "exp": now() + 60 });
    let place = Place::new(PERMIT_ALL);
    place.write("ca.pem", CA);
    let access = place.start(&format!(
        "oidc: [{{ issuer: '{issuer}', audience: vespid, jwks_url: '{issuer}/jwks', ca_file: ca.pem }}]"
    ));
    assert_eq!(bearer(&access, &signer.token(&claims)).await, Err(Denied::ProviderUnavailable));
    assert_eq!(provider.looks(), 0);
}
