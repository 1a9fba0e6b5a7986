//! Reads the file of `--grants`.
//!
//! Contract: what is wrong is told by its key and line, and never by quoting the file: a secret that somebody wrote into it
//! by mistake must not go on into a log. So the values under `secrets` and `env` are taken apart by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use glob::Pattern;
use serde::Deserialize;
use toml::Value;
use vespid_types::{HttpHost, Secret};

use super::Rule;
use crate::grants::{self, is_secret, is_variable};

/// How a variable of the server's environment is read.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const MAX_FILE: u64 = 1 << 20;
const MAX_SECRET: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    allow: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    to: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    http: Vec<HttpHost>,
    env: Option<Value>,
    secrets: Option<Value>,
    #[serde(default)]
    folder: bool,
}

pub(super) fn rules(file: &Path, environment: Environment<'_>) -> Result<Vec<Rule>, String> {
    let text = read(file, MAX_FILE)?;
    let raw: Raw = toml::from_str(&text).map_err(|error| located(&text, &error))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let reader = Reader { folder, environment };
    let numbered = raw.allow.into_iter().zip(1..);
    let rule =
        |(rule, number)| reader.rule(rule).map_err(|reason| format!("[[allow]] number {number}: {reason}"));
    numbered.map(rule).collect()
}

/// What is wrong and in which line, without the line itself.
fn located(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn read(file: &Path, limit: u64) -> Result<String, String> {
    let failed = |error| format!("{} cannot be read: {error}", file.display());
    if fs::metadata(file).map_err(failed)?.len() > limit {
        return Err(format!("{} is larger than {limit} bytes", file.display()));
    }
    let bytes = fs::read(file).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", file.display()))
}

const VALUE: &str = "use a text, or { env = \"NAME\" } for a variable of the server's environment";
const SECRET: &str = "use { file = \"PATH\" } or { env = \"NAME\" }: a secret does not stand in this file";

struct Reader<'a> {
    /// What the paths in the file begin from.
    folder: &'a Path,
    environment: Environment<'a>,
}

impl Reader<'_> {
    fn rule(&self, raw: RawRule) -> Result<Rule, String> {
        let RawRule { to, models, http, env, secrets, folder } = raw;
        if to.is_empty() {
            return Err(
                "to: name the models that the rule is about, such as [\"iris\", \"team-*\"]".to_owned()
            );
        }
        Ok(Rule {
            to: patterns("to", &to)?,
            models: patterns("models", &models)?,
            http,
            env: each("env", env, |name, value| self.value(name, value))?,
            secrets: each("secrets", secrets, |name, value| self.secret(name, &value))?,
            folder,
        })
    }

    fn value(&self, name: &str, value: Value) -> Result<String, String> {
        if !is_variable(name) {
            return Err(grants::VARIABLE.to_owned());
        }
        let value = match value {
            Value::String(text) => text,
            other => match source(&other) {
                Some(("env", variable)) => self.variable(variable)?,
                _ => return Err(VALUE.to_owned()),
            },
        };
        if value.contains('\0') {
            return Err("a value holds no zero byte".to_owned());
        }
        Ok(value)
    }

    fn secret(&self, name: &str, value: &Value) -> Result<Secret, String> {
        if !is_secret(name) {
            return Err(grants::SECRET.to_owned());
        }
        match source(value) {
            Some(("file", file)) => secret_file(&self.folder.join(PathBuf::from(file))),
            Some(("env", variable)) => stripped(&self.variable(variable)?),
            _ => Err(SECRET.to_owned()),
        }
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        (self.environment)(name)
            .ok_or_else(|| format!("the server's environment has no variable {name}, or not as UTF-8 text"))
    }
}

/// The secret that a file holds.
pub(super) fn secret_file(file: &Path) -> Result<Secret, String> {
    stripped(&read(file, MAX_SECRET)?)
}

/// Editors end a file with a line's end, which belongs to no secret.
fn stripped(text: &str) -> Result<Secret, String> {
    let secret = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if secret.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(secret)) }
}

/// Where a value comes from, of a table with this one key.
fn source(value: &Value) -> Option<(&str, &str)> {
    let table = value.as_table()?;
    let mut entries = table.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => Some((key, value.as_str()?)),
        _ => None,
    }
}

pub(super) fn patterns(key: &str, texts: &[String]) -> Result<Vec<Pattern>, String> {
    let pattern = |text: &String| {
        Pattern::new(text).map_err(|error| format!("{key}: '{text}' is no pattern of names: {error}"))
    };
    texts.iter().map(pattern).collect()
}

/// Reads each entry of a table, and says of which one something is wrong.
fn each<T>(
    key: &str,
    table: Option<Value>,
    read: impl Fn(&str, Value) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    match table {
        None => Ok(BTreeMap::new()),
        Some(Value::Table(entries)) => entries
            .into_iter()
            .map(|(name, value)| {
                let read = read(&name, value).map_err(|reason| format!("{key}.{name}: {reason}"))?;
                Ok((name, read))
            })
            .collect(),
        Some(_) => Err(format!("{key}: use a table, such as {key} = {{ NAME = ... }}")),
    }
}
