//! Where the models of jobs and streams come from: packages, or a store.

use std::path::Path;

use url::Url;
use vespid_package::StoreLocation;
use vespid_types::{ModelName, ModelRef, Version};

use super::{Libraries, Local};
use crate::failure::Failure;
use crate::registry::{self, Client};
use crate::source::Package;

/// Instances beside those that the calls take: for plugins that call other models.
const MORE_INSTANCES: u32 = 16;

/// A model as it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// A package; with a store, a name.
    pub(crate) model: String,
    pub(crate) version: Option<Version>,
}

impl Local {
    /// A core with these models, and room for so many calls at once. Each model's reference is at its place.
    pub(crate) async fn with(
        models: &[Asked],
        store: Option<&StoreLocation>,
        libraries: &Libraries,
        calls: usize,
    ) -> anyhow::Result<(Self, Vec<ModelRef>)> {
        let instances = u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(MORE_INSTANCES);
        match store {
            Some(location) => Self::with_stored(models, location, libraries, instances).await,
            None => Self::with_packages(models, libraries, instances).await,
        }
    }

    async fn with_stored(
        models: &[Asked],
        location: &StoreLocation,
        libraries: &Libraries,
        instances: u32,
    ) -> anyhow::Result<(Self, Vec<ModelRef>)> {
        let reference = |asked: &Asked| {
            let name: ModelName = asked.model.parse().map_err(|error| {
                Failure::usage(format!("the model: {error}"))
                    .hint("with --store it is the name of a model of the store")
            })?;
            Ok(ModelRef { name, version: asked.version })
        };
        let models = models.iter().map(reference).collect::<Result<Vec<_>, Failure>>()?;
        let names = models.iter().map(|model| model.name.clone()).collect();
        let local = Self::of_store(location, names, libraries, instances).await?;
        for model in &models {
            local.ready(model).await?;
        }
        Ok((local, models))
    }

    async fn with_packages(
        models: &[Asked],
        libraries: &Libraries,
        instances: u32,
    ) -> anyhow::Result<(Self, Vec<ModelRef>)> {
        let mut packages = Vec::with_capacity(models.len());
        for Asked { model, version } in models {
            let (text, registries) = (model.clone(), libraries.registries.clone());
            let package = tokio::task::spawn_blocking(move || package(&text, &registries)).await??;
            if version.is_some_and(|version| version != package.version) {
                let message = format!("{model} is version {}, and another is asked for", package.version);
                return Err(Failure::usage(message).into());
            }
            packages.push(package);
        }
        let local = Self::start(libraries, instances).await?;
        let mut references: Vec<ModelRef> = Vec::with_capacity(packages.len());
        for package in packages {
            let reference = ModelRef { name: package.name.clone(), version: Some(package.version) };
            // One of them may be asked for more than once.
            if !references.contains(&reference) {
                local.load(&package).await?;
            }
            references.push(reference);
        }
        Ok((local, references))
    }
}

fn package(text: &str, registries: &crate::registry::RegistryArgs) -> anyhow::Result<Package> {
    if registry::is_reference(text) {
        let reference = registry::reference(text)?;
        let client = Client::new(registries)?;
        let cache = registry::cache()?;
        let pulled = client.transfer("pulling", async |registry, progress| {
            registry.pull(&reference, &cache, progress).await
        })?;
        return Package::pulled(&pulled, &cache);
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        let url = Url::parse(text).map_err(|error| Failure::usage(format!("'{text}' is no URL: {error}")))?;
        return Package::fetch(&url, &Client::new(registries)?);
    }
    let path = Path::new(text);
    if !path.exists() {
        return Err(Failure::usage(format!("'{text}' is no package: there is no such folder or file"))
            .hint("name a model's folder, a package, oci://... or http://..., or say with --store where the model of this name is")
            .into());
    }
    Package::open(path, registries)
}
