//! An OpenID provider as it is configured.
//!
//! Contract: what it says comes over TLS, or from this machine. Signatures are asymmetric: with a shared secret, whoever can check a
//! token can make one. Of several providers each has a prefix for its users' ids, for two may have an `alice`.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use url::{Host, Url};

use super::raw::RawProvider;
use crate::AccessError;

const LONGEST_SKEW: Duration = Duration::from_secs(300);

/// Those that may be used: each has a public key.
const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// An OpenID provider, checked.
#[derive(Clone, Debug)]
pub(crate) struct ProviderConfig {
    /// As tokens have it, to the letter.
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) clock_skew: Duration,
    /// Where its keys are; what discovery says, where that is not said.
    pub(crate) jwks_url: Option<Url>,
    /// What its users' ids begin with.
    pub(crate) prefix: String,
    pub(crate) claims: ClaimNames,
    /// The certificates that it is checked by, in place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) is_loopback: bool,
}

/// Where in a token it stands who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimNames {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) roles: String,
}

pub(super) fn read_all(
    file: &Path,
    raw: Vec<RawProvider>,
    beside: impl Fn(&Path) -> PathBuf,
) -> Result<Vec<ProviderConfig>, AccessError> {
    let mut providers: Vec<ProviderConfig> = Vec::with_capacity(raw.len());
    for (at, raw) in raw.into_iter().enumerate() {
        let fault =
            |field: &str, reason: String| AccessError::config(file, format!("oidc[{at}].{field}"), reason);
        let provider = read(raw, &beside, fault)?;
        for (other, first) in providers.iter().enumerate() {
            if first.issuer == provider.issuer {
                return Err(fault("issuer", format!("oidc[{other}] has it already: leave one out")));
            }
            let (one, two) = (&first.prefix, &provider.prefix);
            if one.starts_with(two.as_str()) || two.starts_with(one.as_str()) {
                let reason = format!(
                    "with several providers each needs one such as \"corp:\", and none begins as another does; see oidc[{other}]"
                );
                return Err(fault("prefix", reason));
            }
        }
        providers.push(provider);
    }
    Ok(providers)
}

fn read(
    raw: RawProvider,
    beside: impl Fn(&Path) -> PathBuf,
    fault: impl Fn(&str, String) -> AccessError,
) -> Result<ProviderConfig, AccessError> {
    let issuer = url(&raw.issuer).map_err(|reason| fault("issuer", reason))?;
    if issuer.query().is_some() || issuer.fragment().is_some() {
        return Err(fault("issuer", "it has a query or a fragment: write the URL alone".to_owned()));
    }
    let audience = raw.audience.into_vec();
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        let reason = "it is empty: name who tokens are for, or those for others would be taken";
        return Err(fault("audience", reason.to_owned()));
    }
    if raw.clock_skew > LONGEST_SKEW {
        return Err(fault("clock_skew", "use 5m or less".to_owned()));
    }
    let algorithms = match raw.algorithms {
        Some(names) => algorithms(&names).map_err(|reason| fault("algorithms", reason))?,
        None => ASYMMETRIC.to_vec(),
    };
    let jwks_url = raw.jwks_url.as_deref().map(url).transpose();
    let claims = ClaimNames { id: raw.claims.id, tenant: raw.claims.tenant, roles: raw.claims.roles };
    for (name, claim) in [("id", &claims.id), ("tenant", &claims.tenant), ("roles", &claims.roles)] {
        if claim.is_empty() {
            return Err(fault(&format!("claims.{name}"), "it is empty: name a claim".to_owned()));
        }
    }
    Ok(ProviderConfig {
        is_loopback: is_loopback(&issuer),
        issuer: raw.issuer,
        audience,
        algorithms,
        clock_skew: raw.clock_skew,
        jwks_url: jwks_url.map_err(|reason| fault("jwks_url", reason))?,
        prefix: raw.prefix,
        claims,
        ca_file: raw.ca_file.as_deref().map(beside),
    })
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    if names.is_empty() {
        return Err("it is empty: name one, or leave it out".to_owned());
    }
    let algorithm = |name: &String| match Algorithm::from_str(name) {
        Ok(algorithm) if algorithm.family() != AlgorithmFamily::Hmac => Ok(algorithm),
        Ok(_) => {
            Err(format!("'{name}' takes a shared secret, with which whoever checks tokens can make them"))
        }
        Err(_) if name.eq_ignore_ascii_case("none") => Err("'none' is no signature".to_owned()),
        Err(_) => Err(format!("'{name}' is none that is known")),
    };
    let known = ASYMMETRIC.map(|algorithm| format!("{algorithm:?}")).join(", ");
    names.iter().map(algorithm).collect::<Result<_, _>>().map_err(|reason| format!("{reason}: use {known}"))
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is no URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or a password: write the URL alone".to_owned());
    }
    match is_trusted(&url) {
        true => Ok(url),
        false => {
            Err("use https; http is taken on this machine alone (127.0.0.1, [::1], localhost)".to_owned())
        }
    }
}

/// Whether what comes from there can be believed: over TLS, or from this machine.
pub(crate) fn is_trusted(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
