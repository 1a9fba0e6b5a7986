//! TLS of the ports for clients, and the certificates that clients show.
//!
//! Contract: certificate, key and the clients' authorities are read at the start, where they must be good, and looked at again every
//! [`EVERY`]: what has changed holds for connections from then on, and what cannot be used changes nothing and is logged. The name of
//! a client's certificate is left with each request of its connection, for `vespid_auth`. TLS 1.2 and 1.3, HTTP/2 by ALPN. Cost: a
//! handshake, and a look at a certificate, for each connection. Left out on purpose: revocation lists; who is not to be let in any
//! more is taken out of `access.yaml`, and certificates are short-lived.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use clap::Args;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tower_layer::Layer;
use vespid_auth::CertificateName;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// How often the files are looked at again.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// The certificate that clients see, and those up to its authority's: PEM. With it the ports for clients speak TLS alone
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its private key: PEM, not encrypted
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The authorities of clients' certificates: PEM. Each client must show one, or with --access may show one in place of
    /// a token or a key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_client_ca: Option<PathBuf>,
}

/// What connections are secured by. A clone shares it.
#[derive(Clone)]
pub(crate) struct Tls(RustlsConfig);

/// Where it comes from.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    /// Whether each client must show a certificate.
    is_required: bool,
}

/// What stands in the files.
#[derive(PartialEq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsArgs {
    /// Whether clients show certificates.
    pub(crate) const fn asks_clients(&self) -> bool {
        self.tls_client_ca.is_some()
    }

    /// What the files say; nothing where there are none. A client's certificate `is_required` where nothing else says who it is. Within
    /// a runtime.
    pub(crate) fn open(&self, is_required: bool) -> anyhow::Result<Option<Tls>> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else { return Ok(None) };
        let client_ca = self.tls_client_ca.clone();
        let files = Files { certificate: certificate.clone(), key: key.clone(), client_ca, is_required };
        let contents = files.read()?;
        let config = RustlsConfig::from_config(files.config(&contents)?);
        tokio::spawn(files.follow(contents, config.clone()));
        Ok(Some(Tls(config)))
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<Contents> {
        let read = |option: &str, path: &Path| {
            std::fs::read(path).with_context(|| format!("{option} {}", path.display()))
        };
        Ok(Contents {
            certificate: read("--tls-certificate", &self.certificate)?,
            key: read("--tls-key", &self.key)?,
            client_ca: self.client_ca.as_ref().map(|path| read("--tls-client-ca", path)).transpose()?,
        })
    }

    fn config(&self, contents: &Contents) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&contents.certificate)
            .with_context(|| format!("--tls-certificate {}", self.certificate.display()))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .with_context(|| format!("--tls-key {} has no private key in PEM", self.key.display()))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS")?;
        let builder = match &contents.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let verifier = self.verifier(authorities, provider).context("--tls-client-ca")?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .context("--tls-certificate and --tls-key do not go together")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        authorities: &[u8],
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn rustls::server::danger::ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities)? {
            roots.add(authority)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if self.is_required { builder } else { builder.allow_unauthenticated() };
        Ok(builder.build()?)
    }

    async fn follow(self, mut known: Contents, config: RustlsConfig) {
        let mut failed = None;
        loop {
            tokio::time::sleep(EVERY).await;
            // A few small files: they are read without a thread of their own.
            let read = self.read().and_then(|contents| {
                let changed = contents != known;
                let fresh = changed.then(|| self.config(&contents)).transpose()?;
                Ok(fresh.map(|fresh| (contents, fresh)))
            });
            match read {
                Ok(None) => failed = None,
                Ok(Some((contents, fresh))) => {
                    config.reload_from_config(fresh);
                    (known, failed) = (contents, None);
                    tracing::info!("the TLS certificate was read again");
                }
                // Said once, not every time: the two files are not written in one instant either.
                Err(error) => {
                    let error = format!("{error:#}");
                    if failed.as_ref() != Some(&error) {
                        tracing::warn!("the TLS certificate that was there before stays in use: {error}");
                    }
                    failed = Some(error);
                }
            }
        }
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(!found.is_empty(), "there is no certificate in PEM");
    Ok(found)
}

impl Tls {
    pub(crate) fn acceptor(self, inner: NoDelayAcceptor) -> Acceptor {
        Acceptor(RustlsAcceptor::new(self.0).acceptor(inner))
    }
}

/// Accepts connections over TLS, and leaves with their requests whose certificate it is.
#[derive(Clone)]
pub(crate) struct Acceptor(RustlsAcceptor<NoDelayAcceptor>);

type Stream<S> = <RustlsAcceptor<NoDelayAcceptor> as Accept<TcpStream, S>>::Stream;
type Service<S> =
    AddExtension<<RustlsAcceptor<NoDelayAcceptor> as Accept<TcpStream, S>>::Service, Option<CertificateName>>;

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Stream<S>;
    type Service = Service<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Stream<S>, Service<S>)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepting = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            let (_, connection) = stream.get_ref();
            let shown = connection.peer_certificates().and_then(<[_]>::first);
            let name = shown.and_then(name);
            Ok((stream, Extension(name).layer(service)))
        })
    }
}

/// The first name of kind URI, else of kind DNS, else the common name; none where it has none that can be one.
fn name(certificate: &CertificateDer<'_>) -> Option<CertificateName> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let certificate = certificate.tbs_certificate();
    let alternatives = certificate.get_extension::<SubjectAltName>().ok()?;
    let alternatives = alternatives.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
    let uri = alternatives.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        _ => None,
    });
    let dns = || {
        alternatives.iter().find_map(|name| match name {
            GeneralName::DnsName(dns) => Some(dns.to_string()),
            _ => None,
        })
    };
    let common = || Some(certificate.subject().common_name().ok()??.value().into_owned());
    CertificateName::new(&uri.or_else(dns).or_else(common)?).ok()
}
