//! What this pod is to serve, of what the cluster says.
//!
//! Contract: pure. A `Model` of the pool is served with all of its versions; it is loaded before it is asked where this pod is
//! among the first of [`rank`], as many as the model has replicas. Cost: a hash for each model and pod. Left out on purpose: what
//! is served now, and how to get from there to here (`state`).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::Path;

use vespid_package::{ModelGrants, Shadow, Traffic};
use vespid_resources::{Grants, Model, ModelSpec, ModelStatus, ModelVersion, PackageSource, names, rank};
use vespid_types::{Digest, ModelName, Version};

/// Every model that this pod serves.
pub(super) type Plan = BTreeMap<ModelName, Wanted>;

/// What is wanted of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// Where each version comes from.
    pub(super) versions: BTreeMap<Version, Source>,
    /// Whether it is loaded before it is asked.
    pub(super) eager: bool,
    /// How requests that name no version are led.
    pub(super) traffic: Traffic,
    /// What it may reach, or what is wrong with what is said of that.
    pub(super) grants: Result<ModelGrants, String>,
    /// Whose it is, for limits.
    pub(super) tenant: Option<String>,
    /// Another one when somebody has changed the model.
    pub(super) generation: Option<i64>,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) package: PackageSource,
    /// What it is, where that is known: somebody has read it before.
    pub(super) digest: Option<Digest>,
}

/// Who this pod is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) pool: String,
    pub(super) pod: String,
}

/// What `me` is to serve.
pub(super) fn plan<'a>(
    models: impl IntoIterator<Item = &'a Model>,
    pods: &BTreeSet<String>,
    me: &Identity,
    secrets: &Path,
) -> Plan {
    let ours = models.into_iter().filter(|model| model.spec.pool == me.pool);
    // One that is being deleted is gone to whoever deleted it.
    let ours = ours.filter(|model| model.metadata.deletion_timestamp.is_none());
    let wanted = |model: &Model| {
        let name: ModelName = model.metadata.name.as_deref()?.parse().ok()?;
        let generation = model.metadata.generation;
        let ModelSpec { versions, shadow, replicas, grants, .. } = &model.spec;
        let status = model.status.as_ref();
        let wanted = Wanted {
            versions: versions.iter().filter_map(|version| source(version, status)).collect(),
            eager: is_among(usize::try_from(*replicas).unwrap_or_default(), name.as_str(), pods, &me.pod),
            traffic: traffic(versions, shadow.as_ref()),
            grants: granted(grants.as_ref(), secrets),
            tenant: model
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(names::TENANT_LABEL).cloned()),
            generation,
        };
        Some((name, wanted))
    };
    ours.filter_map(wanted).collect()
}

fn is_among(first: usize, model: &str, pods: &BTreeSet<String>, me: &str) -> bool {
    // This pod is there, whether or not others see it yet.
    let others = pods.iter().map(String::as_str).filter(|pod| *pod != me);
    rank(model, others.chain([me])).into_iter().take(first).any(|pod| pod == me)
}

fn number(version: i64) -> Option<Version> {
    version.to_string().parse().ok()
}

fn source(version: &ModelVersion, status: Option<&ModelStatus>) -> Option<(Version, Source)> {
    let ModelVersion { version: asked, package, .. } = version;
    let digest = match &package.upload {
        Some(digest) => Some(digest.as_str()),
        None => status.and_then(|status| read_before(status, *asked)),
    };
    let digest = digest.and_then(|digest| digest.parse().ok());
    Some((number(*asked)?, Source { package: package.clone(), digest }))
}

/// The digest that a version had when it was first read. As long as nobody has collected what pods say, the first pod's counts.
fn read_before(status: &ModelStatus, asked: i64) -> Option<&str> {
    let collected = status.versions.iter().filter(|version| version.version == asked);
    let collected = collected.filter_map(|version| version.digest.as_deref()).next();
    let said = || {
        let pods = status.pods.iter().flat_map(|pod| pod.versions.iter().map(|version| (&pod.pod, version)));
        let digests = pods.filter(|(_, version)| version.version == asked);
        digests.filter_map(|(pod, version)| Some((pod, version.digest.as_deref()?))).min()
    };
    collected.or_else(|| said().map(|(_, digest)| digest))
}

/// Where no version has a weight, the greatest answers, and where it cannot, the greatest that can.
fn traffic(versions: &[ModelVersion], shadow: Option<&vespid_resources::Shadow>) -> Traffic {
    let weighted = versions.iter().filter_map(|version| {
        Some((number(version.version)?, NonZero::new(version.weight.unwrap_or_default())?))
    });
    let mut weights: BTreeMap<_, _> = weighted.collect();
    if weights.is_empty() {
        let greatest = versions.iter().filter_map(|version| number(version.version)).max();
        weights.extend(greatest.map(|greatest| (greatest, NonZero::<u32>::MIN)));
    }
    let shadow = shadow.and_then(|shadow| {
        let version = number(shadow.version)?;
        Some(Shadow { percent: f64::from(shadow.percent), ..Shadow::of(version) })
    });
    Traffic { weights, shadow, ..Traffic::default() }
}

/// A secret's name and key become a path, and must not lead anywhere else.
fn granted(grants: Option<&Grants>, secrets: &Path) -> Result<ModelGrants, String> {
    let Some(Grants { http, env, secrets: asked, folder, models }) = grants else {
        return Ok(ModelGrants { folder: true, ..ModelGrants::default() });
    };
    let file = |(name, place): (&String, &vespid_resources::GrantedSecret)| {
        for (field, part) in [("secret", &place.secret), ("key", &place.key)] {
            if !is_name(part) {
                let reason = format!("'{part}' is the name of no Secret's and no key");
                return Err(format!(
                    "secrets.{name}.{field}: {reason}: use letters, digits, '-', '_' and '.'"
                ));
            }
        }
        Ok((name.clone(), secrets.join(&place.secret).join(&place.key)))
    };
    Ok(ModelGrants {
        models: models.clone(),
        http: http.clone(),
        env: env.clone(),
        secrets: asked.iter().map(file).collect::<Result<_, _>>()?,
        folder: *folder,
    })
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with("..") && text != "."
}

#[cfg(test)]
mod tests;
