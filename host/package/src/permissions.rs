//! What a server lets its models reach: the file of `--grants`, and what of a manifest's `[grants]` it allows.
//!
//! Contract: the file is read and validated once, unknown keys are refused, and each error names its key. Values of the
//! server's environment and secrets are read then and at no other time. A secret stands in none of the errors, wherever the
//! file has it. Without a file calls of other models and the package's own folder are allowed, for they reach nothing that is
//! not served anyway; hosts, the environment and secrets are not. In a cluster each model has [its own](ModelGrants) besides,
//! which may change while the server runs; what either allows is allowed then, and nothing else. Left out on purpose: reading
//! the file again while the server runs.

mod own;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use glob::Pattern;
use vespid_types::{HttpHost, ModelName, Secret};

pub use self::own::ModelGrants;
use self::own::Own;
use crate::{Manifest, PackageError, PackagePath};

/// What models may reach. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// The rules of the file, where there is one.
    file: Option<Arc<[Rule]>>,
    /// What models are allowed each by itself, where they are.
    own: Option<Arc<Own>>,
}

/// One `[[allow]]`: what the models that it is about may reach.
#[derive(Clone, Debug, Default)]
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

/// Where it is said what a model may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedBy {
    /// Nowhere: there is no file of `--grants`.
    Nothing,
    /// The file of `--grants`.
    File,
    /// The model's own resource in a cluster.
    Resource,
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
        Ok(Self { file: Some(rules.into()), own: None })
    }

    /// The same, and each model may have its own besides: what neither allows is not allowed.
    #[must_use]
    pub fn with_own(self) -> Self {
        Self { own: Some(Arc::default()), ..self }
    }

    /// Says what a model may reach from its next load on; nothing of its own where `grants` is none.
    ///
    /// # Errors
    /// [`PackageError::Grants`], which names the field; the model then has nothing of its own.
    pub fn set(&self, name: &ModelName, grants: Option<&ModelGrants>) -> Result<(), PackageError> {
        let Some(own) = &self.own else { return Ok(()) };
        own.set(name, grants).map_err(|reason| PackageError::Grants { name: name.clone(), reason })
    }

    fn allowed_by(&self) -> AllowedBy {
        match (&self.own, &self.file) {
            (Some(_), _) => AllowedBy::Resource,
            (None, Some(_)) => AllowedBy::File,
            (None, None) => AllowedBy::Nothing,
        }
    }

    /// What the model of this manifest gets.
    ///
    /// # Errors
    /// [`PackageError::NotAllowed`], which lists each thing that it asks for in vain; [`PackageError::Secret`] where one that
    /// is allowed is not there.
    pub fn grant(&self, manifest: &Manifest) -> Result<Granted, PackageError> {
        let rules = self.file.as_deref().unwrap_or_default();
        let about = |rule: &&Rule| matches(&rule.to, &manifest.name);
        let own = self.own.as_ref().map(|own| own.rule(manifest)).transpose()?.flatten();
        // What is particular stands before what is general.
        let rules: Vec<&Rule> = own.iter().chain(rules.iter().filter(about)).collect();
        let by = self.allowed_by();
        let mut granting = Granting { by, rules, missing: Vec::new() };
        let granted = granting.grant(manifest);
        if granting.missing.is_empty() {
            return Ok(granted);
        }
        Err(PackageError::NotAllowed {
            name: manifest.name.clone(),
            version: manifest.version,
            missing: granting.missing,
            by,
        })
    }
}

fn matches(patterns: &[Pattern], name: &ModelName) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name.as_str()))
}

struct Granting<'a> {
    by: AllowedBy,
    /// The rules that are about the model.
    rules: Vec<&'a Rule>,
    missing: Vec<NotAllowed>,
}

impl Granting<'_> {
    fn grant(&mut self, manifest: &Manifest) -> Granted {
        let asked = &manifest.grants;
        let mut granted = Granted::default();
        for model in &asked.models {
            if self.is_free() || self.rules.iter().any(|rule| matches(&rule.models, model)) {
                granted.models.insert(model.clone());
            } else {
                self.miss("models", model, |place| format!("models{place}[\"{model}\"]"));
            }
        }
        for host in &asked.http {
            if self.rules.iter().flat_map(|rule| &rule.http).any(|allowed| allowed.covers(host)) {
                granted.http.push(host.clone());
            } else {
                self.miss("http", host, |place| format!("http{place}[\"{host}\"]"));
            }
        }
        for name in &asked.env {
            // The first rule that has it: what is particular stands before what is general.
            match self.rules.iter().find_map(|rule| rule.env.get(name)) {
                Some(value) => granted.env.extend([(name.clone(), value.clone())]),
                None => self.miss("env", name, |place| format!("env{place}{{ {name}{place}\"VALUE\" }}")),
            }
        }
        for name in &asked.secrets {
            match self.rules.iter().find_map(|rule| rule.secrets.get(name)) {
                Some(secret) => granted.secrets.extend([(name.clone(), secret.clone())]),
                None if self.by == AllowedBy::Resource => self.miss("secrets", name, |place| {
                    format!("secrets{place}{{ \"{name}\"{place}{{ secret{place}SECRET, key{place}KEY }} }}")
                }),
                None => self.miss("secrets", name, |place| {
                    format!("secrets{place}{{ \"{name}\"{place}{{ file{place}\"PATH\" }} }}")
                }),
            }
        }
        if let Some(folder) = &asked.folder {
            if self.is_free() || self.rules.iter().any(|rule| rule.folder) {
                granted.folder = Some(folder.clone());
            } else {
                self.miss("folder", folder, |place| format!("folder{place}true"));
            }
        }
        granted
    }

    /// Whether what reaches nothing that is not served anyway is allowed to all.
    fn is_free(&self) -> bool {
        self.by == AllowedBy::Nothing
    }

    /// `remedy` is told what stands between a key and its value: a file is TOML, a resource YAML.
    fn miss(&mut self, key: &'static str, value: &impl ToString, remedy: impl FnOnce(&str) -> String) {
        let between = if self.by == AllowedBy::Resource { ": " } else { " = " };
        self.missing.push(NotAllowed { key, value: value.to_string(), remedy: remedy(between) });
    }
}

#[cfg(test)]
mod tests;
