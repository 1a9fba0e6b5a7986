//! What models are allowed each by itself, as their resources in a cluster say.
//!
//! Contract: what is said is checked when it is set, and counts from the model's next load on. Of a secret only the place is
//! kept: it is read when a model that asks for it is loaded, for whoever puts it there may do so later. Cost: reading the
//! secrets at each load.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use vespid_types::ModelName;

use super::Rule;
use super::read::{patterns, secret_file};
use crate::grants::{self, is_secret, is_variable};
use crate::{Manifest, PackageError};

/// What one model may reach, of what its package asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelGrants {
    /// Other models that it may call: names, in which `*` and `?` stand for others.
    pub models: Vec<String>,
    /// Hosts that it may ask over HTTP.
    pub http: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// The files that hold its secrets, by their names.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Whether it may read the folder of its package that it asks for.
    pub folder: bool,
}

/// What each model was said to be allowed.
#[derive(Debug, Default)]
pub(super) struct Own(RwLock<BTreeMap<ModelName, Arc<Said>>>);

#[derive(Debug)]
struct Said {
    /// Without the secrets.
    rule: Rule,
    secrets: BTreeMap<String, PathBuf>,
}

impl Own {
    pub(super) fn set(&self, name: &ModelName, grants: Option<&ModelGrants>) -> Result<(), String> {
        let said = grants.map(Said::of).transpose();
        // Nothing panics under the lock, so that a poisoned one is as good as any.
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match said {
            Ok(Some(said)) => {
                own.insert(name.clone(), Arc::new(said));
                Ok(())
            }
            nothing => {
                own.remove(name);
                nothing.map(drop)
            }
        }
    }

    /// What the model of this manifest is allowed, with those of its secrets that it asks for.
    pub(super) fn rule(&self, manifest: &Manifest) -> Result<Option<Rule>, PackageError> {
        let said = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&manifest.name).cloned();
        let Some(said) = said else { return Ok(None) };
        let mut rule = said.rule.clone();
        let asked = said.secrets.iter().filter(|(name, _)| manifest.grants.secrets.contains(*name));
        for (name, file) in asked {
            let secret = secret_file(file).map_err(|reason| PackageError::Secret {
                model: manifest.name.clone(),
                secret: name.clone(),
                reason,
            })?;
            rule.secrets.insert(name.clone(), secret);
        }
        Ok(Some(rule))
    }
}

impl Said {
    fn of(grants: &ModelGrants) -> Result<Self, String> {
        let ModelGrants { models, http, env, secrets, folder } = grants;
        for (name, value) in env {
            if !is_variable(name) {
                return Err(format!("env '{name}': {}", grants::VARIABLE));
            }
            if value.contains('\0') {
                return Err(format!("env '{name}': a value holds no zero byte"));
            }
        }
        if let Some(name) = secrets.keys().find(|name| !is_secret(name)) {
            return Err(format!("secrets '{name}': {}", grants::SECRET));
        }
        let host = |host: &String| host.parse().map_err(|error| format!("http '{host}': {error}"));
        let rule = Rule {
            to: Vec::new(),
            models: patterns("models", models)?,
            http: http.iter().map(host).collect::<Result<_, _>>()?,
            env: env.clone(),
            secrets: BTreeMap::new(),
            folder: *folder,
        };
        Ok(Self { rule, secrets: secrets.clone() })
    }
}
