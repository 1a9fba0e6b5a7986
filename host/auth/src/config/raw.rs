//! `access.yaml` as it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccess {
    #[serde(default)]
    pub(super) oidc: Vec<RawProvider>,
    pub(super) api_keys: Option<PathBuf>,
    #[serde(default)]
    pub(super) certificates: Vec<RawCertificate>,
    #[serde(default)]
    pub(super) models: Vec<RawModel>,
    pub(super) policies: Option<PathBuf>,
    #[serde(default)]
    pub(super) anonymous: bool,
    pub(super) audit: Option<RawAudit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    pub(super) issuer: String,
    pub(super) audience: OneOrMore,
    pub(super) algorithms: Option<Vec<String>>,
    #[serde(default = "default_skew", with = "humantime_serde")]
    pub(super) clock_skew: Duration,
    pub(super) jwks_url: Option<String>,
    #[serde(default)]
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) claims: RawClaims,
    pub(super) ca_file: Option<PathBuf>,
}

fn default_skew() -> Duration {
    Duration::from_secs(60)
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClaims {
    pub(super) id: String,
    pub(super) tenant: String,
    pub(super) roles: String,
}

impl Default for RawClaims {
    fn default() -> Self {
        Self { id: "sub".to_owned(), tenant: "tenant".to_owned(), roles: "roles".to_owned() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    pub(super) name: String,
    pub(super) tenant: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    #[serde(rename = "match")]
    pub(super) pattern: String,
    pub(super) tenant: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    pub(super) file: Option<PathBuf>,
    #[serde(default)]
    pub(super) stdout: bool,
}
