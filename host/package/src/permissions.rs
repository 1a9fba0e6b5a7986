//! What a server lets its models reach: the file of `--grants`, and what of a manifest's `[grants]` it allows.
//!
//! Contract: the file is read and validated once, unknown keys are refused, and each error names its key. Values of the
//! server's environment and secrets are read then and at no other time. A secret stands in none of the errors, wherever the
//! file has it. Without a file calls of other models and the package's own folder are allowed, for they reach nothing that is
//! not served anyway; hosts, the environment and secrets are not. Left out on purpose: reading the file again while the
//! server runs.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use glob::Pattern;
use vespid_types::{HttpHost, ModelName, Secret};

use crate::{Manifest, PackageError, PackagePath};

/// What models may reach. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Permissions(Option<Arc<[Rule]>>);

/// One `[[allow]]`: what the models that it is about may reach.
#[derive(Debug)]
struct Rule {
    to: Vec<Pattern>,
    models: Vec<Pattern>,
    http: Vec<HttpHost>,
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    folder: bool,
}

/// What a model gets: all that its manifest asks for.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    /// Other models that it may call.
    pub models: BTreeSet<ModelName>,
    /// Hosts that it may ask over HTTP.
    pub http: Vec<HttpHost>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its secrets.
    pub secrets: BTreeMap<String, Secret>,
    /// The folder of its package that it may read.
    pub folder: Option<PackagePath>,
}

/// One thing that a manifest asks for and nothing allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed {
    /// Its key under `[grants]`.
    pub key: &'static str,
    /// What is asked for.
    pub value: String,
    /// What would allow it, as it stands in a rule.
    pub remedy: String,
}

impl Permissions {
    /// Reads the file of `--grants`, and what it names.
    ///
    /// # Errors
    /// [`PackageError::Permissions`], which names the key.
    pub fn read(file: &Path) -> Result<Self, PackageError> {
        let rules = read::rules(file, &|name| std::env::var(name).ok());
        let rules = rules.map_err(|reason| PackageError::Permissions { file: file.to_owned(), reason })?;
        Ok(Self(Some(rules.into())))
    }

    /// What the model of this manifest gets.
    ///
    /// # Errors
    /// [`PackageError::NotAllowed`], which lists each thing that it asks for in vain.
    pub fn grant(&self, manifest: &Manifest) -> Result<Granted, PackageError> {
        let rules = self.0.as_deref().unwrap_or_default();
        let about = |rule: &&Rule| matches(&rule.to, &manifest.name);
        let rules: Vec<&Rule> = rules.iter().filter(about).collect();
        let mut granting = Granting { configured: self.0.is_some(), rules, missing: Vec::new() };
        let granted = granting.grant(manifest);
        if granting.missing.is_empty() {
            return Ok(granted);
        }
        Err(PackageError::NotAllowed {
            name: manifest.name.clone(),
            version: manifest.version,
            missing: granting.missing,
            configured: self.0.is_some(),
        })
    }
}

fn matches(patterns: &[Pattern], name: &ModelName) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name.as_str()))
}

struct Granting<'a> {
    /// Whether there is a file.
    configured: bool,
    /// The rules that are about the model.
    rules: Vec<&'a Rule>,
    missing: Vec<NotAllowed>,
}

impl Granting<'_> {
    fn grant(&mut self, manifest: &Manifest) -> Granted {
        let asked = &manifest.grants;
        let mut granted = Granted::default();
        for model in &asked.models {
            if !self.configured || self.rules.iter().any(|rule| matches(&rule.models, model)) {
                granted.models.insert(model.clone());
            } else {
                self.miss("models", model, format!("models = [\"{model}\"]"));
            }
        }
        for host in &asked.http {
            if self.rules.iter().flat_map(|rule| &rule.http).any(|allowed| allowed.covers(host)) {
                granted.http.push(host.clone());
            } else {
                self.miss("http", host, format!("http = [\"{host}\"]"));
            }
        }
        for name in &asked.env {
            // The first rule that has it: what is particular stands before what is general.
            match self.rules.iter().find_map(|rule| rule.env.get(name)) {
                Some(value) => granted.env.extend([(name.clone(), value.clone())]),
                None => self.miss("env", name, format!("env = {{ {name} = \"VALUE\" }}")),
            }
        }
        for name in &asked.secrets {
            match self.rules.iter().find_map(|rule| rule.secrets.get(name)) {
                Some(secret) => granted.secrets.extend([(name.clone(), secret.clone())]),
                None => {
                    let remedy = format!("secrets = {{ \"{name}\" = {{ file = \"PATH\" }} }}");
                    self.miss("secrets", name, remedy);
                }
            }
        }
        if let Some(folder) = &asked.folder {
            if !self.configured || self.rules.iter().any(|rule| rule.folder) {
                granted.folder = Some(folder.clone());
            } else {
                self.miss("folder", folder, "folder = true".to_owned());
            }
        }
        granted
    }

    fn miss(&mut self, key: &'static str, value: &impl ToString, remedy: String) {
        self.missing.push(NotAllowed { key, value: value.to_string(), remedy });
    }
}

#[cfg(test)]
mod tests;
