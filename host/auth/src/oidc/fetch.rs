//! How a provider's keys are fetched.
//!
//! Contract: over TLS, or from this machine; no redirect is followed, for it might lead anywhere; an answer has 1 MiB and its time. What
//! discovery says of the keys' place is believed where it names the very issuer that is configured.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::Timing;
use crate::AccessError;
use crate::config::{ProviderConfig, is_trusted};

const USER_AGENT: &str = concat!("vespid/", env!("CARGO_PKG_VERSION"));
const LARGEST: usize = 1024 * 1024;

/// Fetches a provider's keys.
pub(super) struct Fetcher {
    http: reqwest::Client,
    issuer: String,
    jwks_url: Option<Url>,
    is_loopback: bool,
}

/// The keys as they came.
pub(super) struct Fetched {
    pub(super) keys: Vec<Value>,
    /// How long the provider says that they stay so.
    pub(super) max_age: Option<Duration>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

impl Fetcher {
    pub(super) fn new(config: &ProviderConfig, timing: &Timing) -> Result<Self, AccessError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // The binary has done so; whoever came first in the meantime did it as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timing.connect)
            .timeout(timing.answer);
        if config.is_loopback {
            http = http.no_proxy();
        }
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file).map_err(|error| AccessError::file(file, error))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| {
                AccessError::file(file, format!("no certificates in PEM: {}", chain(&error)))
            })?;
            if certificates.is_empty() {
                return Err(AccessError::file(file, "it has no certificate in PEM"));
            }
            http = http.tls_certs_only(certificates);
        }
        let http = http.build().map_err(|error| {
            AccessError::Internal(format!("no client for provider '{}': {}", config.issuer, chain(&error)))
        })?;
        let (issuer, jwks_url) = (config.issuer.clone(), config.jwks_url.clone());
        Ok(Self { http, issuer, jwks_url, is_loopback: config.is_loopback })
    }

    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let (Jwks { keys }, max_age) = self.get(&url).await?;
        Ok(Fetched { keys, max_age })
    }

    async fn discover(&self) -> Result<Url, String> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| format!("{url}: {error}"))?;
        let (found, _): (Discovery, _) = self.get(&url).await?;
        if found.issuer != self.issuer {
            let other = found.issuer.chars().take(256).collect::<String>();
            return Err(format!("{url} is of issuer '{other}', and not of '{}'", self.issuer));
        }
        let keys = Url::parse(&found.jwks_uri).map_err(|error| format!("{url}: jwks_uri: {error}"))?;
        match is_trusted(&keys) && (keys.scheme() == "https" || self.is_loopback) {
            true => Ok(keys),
            false => Err(format!("{url}: jwks_uri: '{keys}' is not https")),
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<(T, Option<Duration>), String> {
        let failed = |error: reqwest::Error| format!("{url}: {}", chain(&error.without_url()));
        let request = self.http.get(url.clone()).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!(
                    "{url}: it answers {status}: name the place itself in issuer or jwks_url"
                ));
            }
            status => return Err(format!("{url}: it answers {status}")),
        }
        let max_age = max_age(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(format!("{url}: the answer is larger than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        let value = serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))?;
        Ok((value, max_age))
    }
}

/// An error with its causes: reqwest's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get(CACHE_CONTROL)?.to_str().ok()?;
    let seconds = directives.split(',').find_map(|directive| match directive.trim().split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("max-age") => value.trim_matches('"').parse().ok(),
        _ => None,
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_provider_may_say_how_long_its_keys_stay() {
        let age = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            max_age(&HeaderMap::from_iter([(CACHE_CONTROL, value)]))
        };
        assert_eq!(age("public, max-age=300, must-revalidate"), Some(Duration::from_secs(300)));
        assert_eq!(age("Max-Age=\"5\""), Some(Duration::from_secs(5)));
        assert_eq!((age("no-store"), age("max-age=x")), (None, None));
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
