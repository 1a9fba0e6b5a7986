//! The resource that is written: the deployed version, and of the rest what this command has written before.
//!
//! With server-side apply, what a manager leaves out the next time is given up, and a pool that was chosen once would be the
//! default one again. So what is known as ours is said again; what others have set is theirs.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};
use vespid_resources::{Model, ModelVersion, PackageSource};

use super::weights::{self, number};
use super::{DeployArgs, Deployed, FIELD_MANAGER, Form};
use crate::failure::Failure;

/// The resource as it is sent.
pub(super) struct Document(Value);

impl Document {
    /// What is to be said of the model that `before` is.
    pub(super) fn new(
        deployed: &Deployed,
        before: Option<&Model>,
        args: &DeployArgs,
    ) -> anyhow::Result<Self> {
        let asked = Asked {
            pool: args.pool.as_deref(),
            replicas: args.replicas,
            weights: weights::by_version(&args.weights, deployed.version),
        };
        Self::of(deployed, before, &asked)
    }

    fn of(deployed: &Deployed, before: Option<&Model>, asked: &Asked<'_>) -> anyhow::Result<Self> {
        let owned = before.map(Owned::of).unwrap_or_default();
        let mut spec = Map::new();
        let pool =
            asked.pool.map(str::to_owned).or_else(|| Some(before.filter(|_| owned.pool)?.spec.pool.clone()));
        spec.extend(pool.map(|pool| ("pool".to_owned(), pool.into())));
        let replicas = asked.replicas.or_else(|| Some(before.filter(|_| owned.replicas)?.spec.replicas));
        spec.extend(replicas.map(|replicas| ("replicas".to_owned(), replicas.into())));
        spec.insert("versions".to_owned(), serde_json::to_value(versions(deployed, before, &owned, asked)?)?);
        Ok(Self(json!({
            "apiVersion": "vespid.dev/v1alpha1",
            "kind": "Model",
            "metadata": {"name": deployed.name.as_str()},
            "spec": spec,
        })))
    }

    /// As it is sent.
    pub(super) fn value(&self) -> &Value {
        &self.0
    }

    /// As it is read.
    pub(super) fn text(&self, form: Form) -> anyhow::Result<String> {
        match form {
            Form::Json => Ok(serde_json::to_string_pretty(&self.0)?),
            Form::Yaml => serde_saphyr::to_string(&self.0).context("the resource cannot be written as YAML"),
        }
    }
}

/// What the command line says beside the package.
#[derive(Default)]
struct Asked<'a> {
    pool: Option<&'a str>,
    replicas: Option<i32>,
    weights: BTreeMap<i64, u32>,
}

/// What this command has written of a model before.
#[derive(Default)]
struct Owned {
    pool: bool,
    replicas: bool,
    /// Versions, and whether their weight too.
    versions: BTreeMap<i64, bool>,
}

impl Owned {
    fn of(model: &Model) -> Self {
        let entries = model.managed_fields().iter();
        let ours = entries.filter(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.is_none()
        });
        let mut owned = Self::default();
        for spec in ours.filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:spec")) {
            owned.pool |= spec.get("f:pool").is_some();
            owned.replicas |= spec.get("f:replicas").is_some();
            let versions = spec.get("f:versions").and_then(Value::as_object).into_iter().flatten();
            owned.versions.extend(versions.filter_map(|(key, fields)| {
                let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
                Some((key.get("version")?.as_i64()?, fields.get("f:weight").is_some()))
            }));
        }
        owned
    }
}

/// The versions that are written, once the weights of all are known to be meant.
fn versions(
    deployed: &Deployed,
    before: Option<&Model>,
    owned: &Owned,
    asked: &Asked<'_>,
) -> anyhow::Result<Vec<ModelVersion>> {
    let version = number(deployed.version);
    let mut all: BTreeMap<i64, ModelVersion> = before
        .into_iter()
        .flat_map(|model| &model.spec.versions)
        .map(|version| (version.version, version.clone()))
        .collect();
    let package = match all.get(&version) {
        Some(there) => same(deployed, &there.package)?,
        None => deployed.source.clone(),
    };
    all.entry(version).or_insert_with(|| ModelVersion { version, package, weight: None });
    for (version, weight) in &asked.weights {
        let named = all.get_mut(version).ok_or_else(|| {
            Failure::usage(format!(
                "the model {} has no version {version} that could have a weight",
                deployed.name
            ))
        })?;
        named.weight = Some(*weight);
    }
    if !asked.weights.is_empty() {
        weights::check(&all.values().cloned().collect::<Vec<_>>())?;
    }
    let said = |entry: &ModelVersion| {
        let weight = asked.weights.contains_key(&entry.version);
        (
            weight || entry.version == version || owned.versions.contains_key(&entry.version),
            weight || owned.versions.get(&entry.version) == Some(&true),
        )
    };
    Ok(all
        .into_values()
        .filter(|entry| said(entry).0)
        .map(|entry| ModelVersion { weight: entry.weight.filter(|_| said(&entry).1), ..entry })
        .collect())
}

/// The package of a version that is there already, which has to be the one that is deployed.
fn same(deployed: &Deployed, there: &PackageSource) -> Result<PackageSource, Failure> {
    // A tag that somebody wrote without a digest may be the same or not: pods hold to what they have read first.
    let tag = |source: &PackageSource| Some(source.oci.as_deref()?.split('@').next()?.to_owned());
    let unpinned = there.oci.as_ref().is_some_and(|oci| !oci.contains('@'));
    if *there == deployed.source || (unpinned && tag(there) == tag(&deployed.source)) {
        return Ok(there.clone());
    }
    let place = [&there.oci, &there.store, &there.upload].into_iter().flatten().next();
    let Deployed { name, version, .. } = deployed;
    Err(Failure::new(format!(
        "{name} has a version {version} already, from {}",
        place.map_or("elsewhere", String::as_str)
    ))
    .hint("a version is never overwritten: raise `version` in model.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployed(version: &str) -> Deployed {
        let source = PackageSource {
            oci: Some(format!("oci://registry.example/iris:{version}@sha256:ab")),
            ..Default::default()
        };
        Deployed { name: "iris".parse().unwrap(), version: version.parse().unwrap(), source }
    }

    /// A model of which this command has written pool and version 2, and others version 1 and replicas.
    fn there() -> Model {
        serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "Model",
            "metadata": {"name": "iris", "managedFields": [{
                "manager": "vespid-deploy", "operation": "Apply", "apiVersion": "vespid.dev/v1alpha1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:pool": {}, "f:versions": {
                    "k:{\"version\":2}": {".": {}, "f:version": {}, "f:package": {}, "f:weight": {}}}}}
            }]},
            "spec": {"pool": "gpu", "replicas": 3, "versions": [
                {"version": 1, "weight": 90, "package": {"upload": format!("sha256:{}", "0".repeat(64))}},
                {"version": 2, "weight": 10, "package": {"oci": "oci://registry.example/iris:2"}},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn a_new_model_says_what_is_asked_and_no_more() {
        let document = Document::of(&deployed("1"), None, &Asked::default()).unwrap();
        let package = json!({"oci": "oci://registry.example/iris:1@sha256:ab"});
        assert_eq!(document.value()["spec"], json!({"versions": [{"version": 1, "package": package}]}));
        let yaml = document.text(Form::Yaml).unwrap();
        assert!(yaml.starts_with("apiVersion: vespid.dev/v1alpha1\nkind: Model\n"), "{yaml}");
    }

    #[test]
    fn what_was_written_before_is_said_again_and_that_of_others_is_not() {
        let document = Document::of(&deployed("3"), Some(&there()), &Asked::default()).unwrap();
        let spec = &document.value()["spec"];
        assert_eq!((&spec["pool"], spec.get("replicas")), (&json!("gpu"), None));
        let versions = spec["versions"].as_array().unwrap();
        assert_eq!(
            versions.iter().map(|version| version["version"].as_i64().unwrap()).collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!((&versions[0]["weight"], versions[1].get("weight")), (&json!(10), None));
    }

    #[test]
    fn the_weight_of_another_s_version_is_taken_over_with_its_package() {
        let weights = BTreeMap::from([(1, 50), (2, 50)]);
        let asked = Asked { pool: Some("cpu"), weights, ..Asked::default() };
        let document = Document::of(&deployed("2"), Some(&there()), &asked).unwrap();
        let spec = &document.value()["spec"];
        assert_eq!(spec["pool"], "cpu");
        assert_eq!(spec["versions"][0]["weight"], 50);
        assert!(spec["versions"][0]["package"]["upload"].is_string());
        // The same tag without a digest: it stays as it was written.
        assert_eq!(spec["versions"][1]["package"]["oci"], "oci://registry.example/iris:2");
    }

    #[test]
    fn a_version_is_never_overwritten() {
        let error =
            Document::of(&deployed("1"), Some(&there()), &Asked::default()).err().unwrap().to_string();
        assert!(error.contains("version 1 already, from sha256:0000"), "{error}");
    }

    #[test]
    fn weights_are_of_versions_that_are_there_and_of_all_of_them() {
        let asked =
            |weights: &[(i64, u32)]| Asked { weights: weights.iter().copied().collect(), ..Asked::default() };
        assert!(Document::of(&deployed("3"), Some(&there()), &asked(&[(7, 1)])).is_err());
        assert!(Document::of(&deployed("3"), Some(&there()), &asked(&[(1, 1)])).is_err());
        assert!(Document::of(&deployed("3"), Some(&there()), &asked(&[(3, 0)])).is_ok());
    }
}
