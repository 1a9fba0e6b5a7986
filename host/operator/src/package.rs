//! Which version of a model a job or a stream asks, and where its package is.

use vespid_resources::{Model, ModelVersion, PackageSource, Reason};

/// A package, as `vespid batch` and `vespid stream` are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The version.
    pub version: i64,
    /// A package, or with a store the model's name.
    pub model: String,
    /// The store that has it.
    pub store: Option<String>,
}

/// The version that is asked: the one that is named, else the one with the greatest weight, else the greatest.
#[must_use]
pub fn choose(model: &Model, version: Option<i64>) -> Option<&ModelVersion> {
    let versions = || model.spec.versions.iter();
    match version {
        Some(version) => versions().find(|known| known.version == version),
        None => versions().max_by_key(|known| (known.weight.unwrap_or(0), known.version)),
    }
}

/// The package of a version; why there is none. `packages` is where the gateway has those that were uploaded.
pub(crate) fn package(
    model: &Model,
    version: Option<i64>,
    packages: Option<&str>,
) -> Result<Package, Reason> {
    let name = model.metadata.name.as_deref().unwrap_or_default();
    let Some(chosen) = choose(model, version) else {
        let version = version.unwrap_or_default();
        return Err(Reason::new("VersionMissing", format!("the model '{name}' has no version {version}")));
    };
    let version = chosen.version;
    let PackageSource { oci, store, upload } = &chosen.package;
    match (oci, store, upload) {
        (Some(oci), _, _) => Ok(Package { version, model: pinned(oci, digest(model, version)), store: None }),
        (_, Some(store), _) => Ok(Package { version, model: name.to_owned(), store: Some(store.clone()) }),
        (_, _, Some(digest)) => {
            let unknown = "its package was uploaded, and the operator was not told where the gateway has it (--packages)";
            let packages = packages.ok_or_else(|| Reason::new("PackagesUnknown", unknown))?;
            let packages = packages.trim_end_matches('/');
            let model = format!("{packages}/packages/{name}/{version}?digest={digest}");
            Ok(Package { version, model, store: None })
        }
        _ => Err(Reason::new(
            "PackageMissing",
            format!("version {version} of the model '{name}' names no package"),
        )),
    }
}

/// The digest that a version's package had when a pod first read it.
fn digest(model: &Model, version: i64) -> Option<&str> {
    let versions = &model.status.as_ref()?.versions;
    versions.iter().find(|known| known.version == version)?.digest.as_deref()
}

/// A reference with its digest in the place of its tag, where that is known.
fn pinned(reference: &str, digest: Option<&str>) -> String {
    let Some(digest) = digest else { return reference.to_owned() };
    if reference.contains('@') {
        return reference.to_owned();
    }
    // A colon before the last slash is a port's.
    let repository = match reference.rsplit_once('/') {
        Some((place, last)) => {
            let last = last.split_once(':').map_or(last, |(last, _)| last);
            format!("{place}/{last}")
        }
        None => reference.to_owned(),
    };
    format!("{repository}@{digest}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(versions: &serde_json::Value, status: &serde_json::Value) -> Model {
        serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris"},
            "spec": {"versions": versions}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_version_with_the_greatest_weight_is_asked_and_the_greatest_where_none_has_one() {
        let package = json!({"store": "s3://models"});
        let of = |versions: &[(i64, Option<u32>)], asked| {
            let versions = versions
                .iter()
                .map(|(version, weight)| json!({"version": version, "weight": weight, "package": package}));
            choose(&model(&versions.collect(), &json!({})), asked).map(|version| version.version)
        };
        assert_eq!(of(&[(1, None), (3, None), (2, None)], None), Some(3));
        assert_eq!(of(&[(1, Some(90)), (2, Some(10)), (3, None)], None), Some(1));
        assert_eq!(of(&[(1, Some(50)), (2, Some(50))], None), Some(2));
        assert_eq!(of(&[(1, Some(90)), (2, Some(10))], Some(2)), Some(2));
        assert_eq!(of(&[(1, None)], Some(7)), None);
    }

    #[test]
    fn a_package_is_named_by_its_digest_where_that_is_known() {
        let of = |package: serde_json::Value, status: serde_json::Value| {
            package_of(&model(&json!([{"version": 1, "package": package}]), &status))
        };
        let known = json!({"versions": [{"version": 1, "digest": "sha256:aa"}]});
        let oci = |reference: &str| json!({"oci": reference});
        assert_eq!(of(oci("oci://host:5000/m/iris:1"), json!({})).unwrap().model, "oci://host:5000/m/iris:1");
        assert_eq!(
            of(oci("oci://host:5000/m/iris:1"), known.clone()).unwrap().model,
            "oci://host:5000/m/iris@sha256:aa"
        );
        assert_eq!(
            of(oci("oci://host:5000/iris"), known.clone()).unwrap().model,
            "oci://host:5000/iris@sha256:aa"
        );
        assert_eq!(of(oci("oci://host/iris@sha256:bb"), known).unwrap().model, "oci://host/iris@sha256:bb");
        let stored = of(json!({"store": "s3://models/production"}), json!({})).unwrap();
        assert_eq!(
            (stored.model.as_str(), stored.store.as_deref()),
            ("iris", Some("s3://models/production"))
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        let uploaded = of(json!({"upload": digest}), json!({})).unwrap();
        assert_eq!(uploaded.model, format!("http://gateway:8003/packages/iris/1?digest={digest}"));
    }

    fn package_of(model: &Model) -> Result<Package, Reason> {
        package(model, None, Some("http://gateway:8003/"))
    }

    #[test]
    fn what_keeps_a_package_from_being_had_is_told() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let uploaded = model(&json!([{"version": 1, "package": {"upload": digest}}]), &json!({}));
        assert_eq!(package(&uploaded, None, None).unwrap_err().reason, "PackagesUnknown");
        let missing = package(&uploaded, Some(4), None).unwrap_err();
        assert_eq!(missing.message, "the model 'iris' has no version 4");
    }
}
