//! One token.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::claims;
use crate::config::ProviderConfig;
use crate::{Denied, Principal};

/// What a token says of itself, which nobody has checked: it decides whose keys are looked at, and nothing else.
pub(super) struct Unverified {
    algorithm: String,
    pub(super) key_id: String,
    pub(super) issuer: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
}

impl Unverified {
    pub(super) fn read(token: &str) -> Result<Self, Denied> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Denied::Malformed("a token has three parts: header, claims and signature"));
        };
        let header: Header = part(header).ok_or(Denied::Malformed("the token's header is not readable"))?;
        let payload: Payload =
            part(payload).ok_or(Denied::Malformed("the token's claims are not readable"))?;
        let issuer = payload.iss.ok_or(Denied::WrongIssuer)?;
        Ok(Self { algorithm: header.alg, key_id: header.kid.ok_or(Denied::UnknownKey)?, issuer })
    }

    /// Its algorithm, where the provider is allowed it.
    pub(super) fn algorithm(&self, config: &ProviderConfig) -> Result<Algorithm, Denied> {
        let algorithm: Algorithm = self.algorithm.parse().map_err(|_| Denied::AlgorithmNotAllowed)?;
        match config.algorithms.contains(&algorithm) {
            true => Ok(algorithm),
            false => Err(Denied::AlgorithmNotAllowed),
        }
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Whose it is: checks signature, issuer, audience and time.
pub(super) fn verify(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
    config: &ProviderConfig,
) -> Result<Principal, Denied> {
    let mut validation = Validation::new(algorithm);
    validation.leeway = config.clock_skew.as_secs();
    validation.validate_nbf = true;
    validation.set_audience(&config.audience);
    validation.set_issuer(&[&config.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let data =
        decode::<Map<String, Value>>(token, key, &validation).map_err(|error| denied(error.into_kind()))?;
    let expires = data.claims.get("exp").and_then(Value::as_u64);
    // It is good to the end of that second.
    let until = expires.map(|expires| expires.saturating_add(validation.leeway).saturating_add(1));
    let until = until.and_then(|until| UNIX_EPOCH.checked_add(Duration::from_secs(until)));
    claims::principal(&data.claims, config, until)
}

fn denied(kind: ErrorKind) -> Denied {
    match kind {
        ErrorKind::ExpiredSignature => Denied::Expired,
        ErrorKind::ImmatureSignature => Denied::NotYetValid,
        ErrorKind::InvalidIssuer => Denied::WrongIssuer,
        ErrorKind::InvalidAudience => Denied::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Denied::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => {
            Denied::Malformed("the token has no time at which it expires (exp)")
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Denied::AlgorithmNotAllowed,
        ErrorKind::InvalidSignature => Denied::BadSignature,
        _ => Denied::Malformed("the token is not readable"),
    }
}
