//! What stands in `limits.yaml`.
//!
//! Contract: the file is read and checked once; unknown keys are refused, and each error names the file, the key and what to do. Of
//! several patterns that fit a model the first counts. Left out on purpose: reading it again while the server runs.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use glob::Pattern;
use serde::Deserialize;
use vespid_types::{BoxError, ModelName};

use super::account::Limit;

/// How it is known which tenant a model belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantsBy {
    /// By the patterns `tenants[].models`.
    Patterns,
    /// By what [`Limits::set_tenants`](crate::Limits::set_tenants) says of each model: in a cluster.
    Labels,
}

/// What models and tenants may use: `limits.yaml`, checked.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    pub(super) models: Vec<ModelRule>,
    pub(super) tenants: Vec<TenantRule>,
    pub(super) by: TenantsBy,
}

#[derive(Clone, Debug)]
pub(super) struct ModelRule {
    pub(super) pattern: Pattern,
    pub(super) quotas: Quotas,
}

#[derive(Clone, Debug)]
pub(super) struct TenantRule {
    pub(super) name: String,
    pub(super) models: Vec<Pattern>,
    pub(super) quotas: Quotas,
}

/// How much there is of each; without an end where it is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Quotas {
    /// Calls in flight.
    pub(super) concurrent: Option<NonZero<u32>>,
    pub(super) rate: Option<Rate>,
    pub(super) cpu: Option<Cpus>,
    /// What loaded versions take up.
    pub(super) memory: Option<ByteSize>,
    /// Packages in the store.
    pub(super) stored: Option<ByteSize>,
    /// Versions added in an hour.
    pub(super) uploads: Option<NonZero<u32>>,
}

impl Quotas {
    fn only(self, limits: &[Limit]) -> Self {
        let Self { concurrent, rate, cpu, memory, stored, uploads } = self;
        let is = |limit| limits.contains(&limit);
        Self {
            concurrent: concurrent.filter(|_| is(Limit::Concurrent)),
            rate: rate.filter(|_| is(Limit::Rate)),
            cpu: cpu.filter(|_| is(Limit::Cpu)),
            memory: memory.filter(|_| is(Limit::Memory)),
            stored: stored.filter(|_| is(Limit::Stored)),
            uploads: uploads.filter(|_| is(Limit::Uploads)),
        }
    }
}

/// Calls a second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) burst: NonZero<u32>,
}

/// Processors: seconds of processor time in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cpus(pub(super) f64);

/// Why there are no limits.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The file cannot be read, or is no YAML of this kind.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: BoxError,
    },
    /// A key says what cannot be.
    #[error("{}: {key}: {reason}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    models: Vec<RawModel>,
    #[serde(default)]
    tenants: Vec<RawTenant>,
}

/// The keys that models and tenants have in common: `flatten` would let unknown ones pass.
macro_rules! raw {
    ($name:ident { $($(#[$attribute:meta])* $key:ident: $type:ty),* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($(#[$attribute])* $key: $type,)*
            concurrent: Option<f64>,
            rate: Option<f64>,
            burst: Option<f64>,
            cpu: Option<f64>,
            memory: Option<String>,
            stored: Option<String>,
            uploads: Option<f64>,
        }

        impl $name {
            fn quotas(&self) -> Result<Quotas, Fault> {
                let Self { concurrent, rate, burst, cpu, memory, stored, uploads, .. } = self;
                Ok(Quotas {
                    concurrent: concurrent.map(|number| whole("concurrent", number)).transpose()?,
                    rate: read_rate(*rate, *burst)?,
                    cpu: cpu.map(|number| within("cpu", number, 0.001..=10_000.0).map(Cpus)).transpose()?,
                    memory: memory.as_deref().map(|size| bytes("memory", size)).transpose()?,
                    stored: stored.as_deref().map(|size| bytes("stored", size)).transpose()?,
                    uploads: uploads.map(|number| whole("uploads", number)).transpose()?,
                })
            }
        }
    };
}

raw!(RawModel {
    #[serde(rename = "match")]
    pattern: String
});
raw!(RawTenant {
    name: String,
    #[serde(default)]
    models: Vec<String>
});

/// A key, and what is wrong with it.
type Fault = (&'static str, String);

impl LimitsConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`LimitsError::File`] where it cannot be read or is no YAML of this kind, [`LimitsError::Key`] with the key that is wrong.
    pub fn read(file: &Path, by: TenantsBy) -> Result<Self, LimitsError> {
        let text = std::fs::read_to_string(file).map_err(|error| in_file(file, error))?;
        Self::parse(file, &text, by)
    }

    pub(super) fn parse(file: &Path, text: &str, by: TenantsBy) -> Result<Self, LimitsError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let raw: RawConfig =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| in_file(file, error))?;
        if raw.models.is_empty() && raw.tenants.is_empty() {
            return Err(in_file(file, "it limits nothing: write models or tenants, or leave --limits out"));
        }
        let fault = |place: String, (key, reason): Fault| LimitsError::Key {
            file: file.to_owned(),
            key: format!("{place}.{key}"),
            reason,
        };
        let mut seen = BTreeSet::new();
        let model = |(at, raw)| model(raw, &mut seen).map_err(|error| fault(format!("models[{at}]"), error));
        let models = raw.models.iter().enumerate().map(model).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        let tenant =
            |(at, raw)| tenant(raw, by, &mut seen).map_err(|error| fault(format!("tenants[{at}]"), error));
        let tenants = raw.tenants.iter().enumerate().map(tenant).collect::<Result<_, _>>()?;
        Ok(Self { models, tenants, by })
    }

    /// The same with these limits alone: those that this process holds to. The others are another's, for which the same file is.
    #[must_use]
    pub fn only(mut self, limits: &[Limit]) -> Self {
        let models = self.models.iter_mut().map(|rule| &mut rule.quotas);
        let tenants = self.tenants.iter_mut().map(|rule| &mut rule.quotas);
        models.chain(tenants).for_each(|quotas| *quotas = quotas.only(limits));
        self
    }

    /// What is said of models of this name.
    pub(super) fn model(&self, name: &ModelName) -> Option<Quotas> {
        self.models.iter().find(|rule| rule.pattern.matches(name.as_str())).map(|rule| rule.quotas)
    }

    /// The tenant that patterns say a model belongs to.
    pub(super) fn tenant(&self, name: &ModelName) -> Option<&str> {
        let fits = |rule: &&TenantRule| rule.models.iter().any(|pattern| pattern.matches(name.as_str()));
        self.tenants.iter().find(fits).map(|rule| rule.name.as_str())
    }

    /// Whether anybody's limit says such a thing.
    pub(super) fn any(&self, what: impl Fn(&Quotas) -> bool) -> bool {
        let models = self.models.iter().map(|rule| &rule.quotas);
        models.chain(self.tenants.iter().map(|rule| &rule.quotas)).any(what)
    }
}

fn model<'a>(raw: &'a RawModel, seen: &mut BTreeSet<&'a str>) -> Result<ModelRule, Fault> {
    let pattern = pattern("match", &raw.pattern)?;
    once("match", seen, &raw.pattern)?;
    Ok(ModelRule { pattern, quotas: raw.quotas()? })
}

fn tenant<'a>(raw: &'a RawTenant, by: TenantsBy, seen: &mut BTreeSet<&'a str>) -> Result<TenantRule, Fault> {
    let RawTenant { name, models, .. } = raw;
    if name.is_empty() {
        return Err(("name", "it is empty: name the tenant".to_owned()));
    }
    once("name", seen, name)?;
    if models.is_empty() && by == TenantsBy::Patterns {
        return Err(("models", "it is empty: write patterns of its models, such as acme-*".to_owned()));
    }
    let models = models.iter().map(|text| pattern("models", text)).collect::<Result<_, _>>()?;
    Ok(TenantRule { name: name.clone(), models, quotas: raw.quotas()? })
}

fn in_file(file: &Path, reason: impl Into<BoxError>) -> LimitsError {
    LimitsError::File { file: file.to_owned(), reason: reason.into() }
}

fn once<'a>(key: &'static str, seen: &mut BTreeSet<&'a str>, text: &'a str) -> Result<(), Fault> {
    if seen.insert(text) {
        return Ok(());
    }
    Err((key, format!("'{text}' stands here twice: leave one of them out")))
}

fn pattern(key: &'static str, text: &str) -> Result<Pattern, Fault> {
    match Pattern::new(text) {
        Ok(_) if text.is_empty() => Err((key, "a pattern is empty: use * for all".to_owned())),
        Ok(pattern) => Ok(pattern),
        Err(error) => Err((key, format!("'{text}' is no pattern ({error}): write one such as acme-*"))),
    }
}

fn within(key: &'static str, number: f64, range: std::ops::RangeInclusive<f64>) -> Result<f64, Fault> {
    // NaN is in no range.
    if range.contains(&number) {
        return Ok(number);
    }
    Err((
        key,
        format!(
            "{number} is no limit: use a number from {} to {}, or leave it out",
            range.start(),
            range.end()
        ),
    ))
}

const MOST: f64 = 1_000_000.0;

fn whole(key: &'static str, number: f64) -> Result<NonZero<u32>, Fault> {
    let whole = within(key, number, 1.0..=MOST)?;
    let none = || (key, format!("{number} is no limit: use a whole number"));
    Some(whole)
        .filter(|whole| whole.fract() == 0.0)
        .and_then(|whole| NonZero::new(whole as u32))
        .ok_or_else(none)
}

fn read_rate(rate: Option<f64>, burst: Option<f64>) -> Result<Option<Rate>, Fault> {
    let Some(rate) = rate else {
        return match burst {
            Some(_) => {
                Err(("burst", "it says how many calls of `rate` may come at once: add rate".to_owned()))
            }
            None => Ok(None),
        };
    };
    let per_second = within("rate", rate, 0.001..=MOST)?;
    // What comes in a second may come at once.
    let burst = whole("burst", burst.unwrap_or(per_second.ceil()))?;
    Ok(Some(Rate { per_second, burst }))
}

fn bytes(key: &'static str, text: &str) -> Result<ByteSize, Fault> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err((key, "0 is no limit: use a size such as 1GiB, or leave it out".to_owned())),
        Ok(size) => Ok(size),
        Err(_) => Err((key, format!("'{text}' is no size: write one such as 1GiB"))),
    }
}

#[cfg(test)]
mod tests;
