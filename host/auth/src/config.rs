//! What stands in `access.yaml`.
//!
//! Contract: the file is read and checked once, unknown keys are refused, and each error names the file, the key and what to do. Paths
//! are relative to the file. What lets nobody in, and what would let in whom nobody checks, is refused. No error quotes the file.
//! Left out on purpose: reading this file again; the files that it names are (`reload`).

mod provider;
mod raw;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glob::Pattern;
use serde::de::DeserializeOwned;

pub(crate) use self::provider::{ProviderConfig, is_trusted};
use self::raw::{RawAccess, RawAudit, RawCertificate, RawModel};
use crate::models::ModelRule;
use crate::{AccessError, CertificateName, Identity, Kind, Principal};

/// Who is let in and what decides what they may: `access.yaml`, checked.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) api_keys: Option<PathBuf>,
    pub(crate) certificates: HashMap<String, Principal>,
    pub(crate) models: Vec<ModelRule>,
    pub(crate) policies: PathBuf,
    pub(crate) anonymous: bool,
    pub(crate) audit: Option<AuditTarget>,
}

/// Where the audit is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditTarget {
    File(PathBuf),
    Stdout,
}

impl AccessConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AccessError::File`] where it cannot be read or is no YAML of this kind, [`AccessError::Config`] with the key that is wrong.
    pub fn read(file: &Path) -> Result<Self, AccessError> {
        let text = std::fs::read_to_string(file).map_err(|error| AccessError::file(file, error))?;
        Self::parse(file, &text)
    }

    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, AccessError> {
        let raw: RawAccess = yaml(file, text)?;
        if raw.oidc.is_empty() && raw.api_keys.is_none() && raw.certificates.is_empty() && !raw.anonymous {
            let reason = "it lets nobody in: set one or more of oidc, api_keys, certificates and anonymous";
            return Err(AccessError::file(file, reason));
        }
        let Some(policies) = raw.policies else {
            let reason = "it is missing: name a .cedar file or a folder of them, for without policies nothing is permitted";
            return Err(AccessError::config(file, "policies", reason));
        };
        let beside = |path: &Path| file.parent().unwrap_or(Path::new("")).join(path);
        Ok(Self {
            providers: provider::read_all(file, raw.oidc, beside)?,
            api_keys: raw.api_keys.as_deref().map(beside),
            certificates: certificates(file, raw.certificates)?,
            models: models(file, raw.models)?,
            policies: beside(&policies),
            anonymous: raw.anonymous,
            audit: raw.audit.map(|audit| target(file, audit, beside)).transpose()?,
        })
    }
}

/// Reads YAML. The error says where, and does not quote the file, which may have what nobody is to see.
pub(crate) fn yaml<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, AccessError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| AccessError::file(file, error))
}

fn certificates(file: &Path, raw: Vec<RawCertificate>) -> Result<HashMap<String, Principal>, AccessError> {
    let mut certificates = HashMap::with_capacity(raw.len());
    for (at, RawCertificate { name, tenant, roles }) in raw.into_iter().enumerate() {
        let fault = |reason: &str| AccessError::config(file, format!("certificates[{at}].name"), reason);
        CertificateName::new(&name).map_err(|error| fault(&error.to_string()))?;
        let id = name.clone();
        let principal = Principal::new(Identity { kind: Kind::Certificate, id, issuer: None, tenant, roles });
        if certificates.insert(name, principal).is_some() {
            return Err(fault("it stands here twice: leave one of them out"));
        }
    }
    Ok(certificates)
}

fn models(file: &Path, raw: Vec<RawModel>) -> Result<Vec<ModelRule>, AccessError> {
    let rule = |(at, RawModel { pattern, tenant, labels })| match Pattern::new(&pattern) {
        Ok(pattern) if !pattern.as_str().is_empty() => Ok(ModelRule { pattern, tenant, labels }),
        Ok(_) => Err(AccessError::config(file, format!("models[{at}].match"), "it is empty: use * for all")),
        Err(error) => {
            let reason = format!("it is no pattern ({error}): write one such as acme-*");
            Err(AccessError::config(file, format!("models[{at}].match"), reason))
        }
    };
    raw.into_iter().enumerate().map(rule).collect()
}

fn target(
    file: &Path,
    audit: RawAudit,
    beside: impl Fn(&Path) -> PathBuf,
) -> Result<AuditTarget, AccessError> {
    match audit {
        RawAudit { file: Some(path), stdout: false } => Ok(AuditTarget::File(beside(&path))),
        RawAudit { file: None, stdout: true } => Ok(AuditTarget::Stdout),
        _ => Err(AccessError::config(file, "audit", "say one of file: PATH and stdout: true")),
    }
}

#[cfg(test)]
mod tests;
