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

impl Asked {
    fn of_store(&self) -> Result<ModelRef, Failure> {
        let name: ModelName = self.model.parse().map_err(|error| {
            Failure::usage(format!("the model: {error}"))
                .hint("with --store it is the name of a model of the store")
        })?;
        Ok(ModelRef { name, version: self.version })
    }
}

impl Local {
    /// A core for these models, with room for so many calls at once. [`Local::bring`] loads them.
    pub(crate) async fn open_for(
        models: &[Asked],
        store: Option<&StoreLocation>,
        libraries: &Libraries,
        calls: usize,
    ) -> anyhow::Result<Self> {
        let instances = u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(MORE_INSTANCES);
        match store {
            Some(location) => {
                let names = models.iter().map(|asked| Ok(asked.of_store()?.name));
                let names = names.collect::<Result<_, Failure>>()?;
                Self::of_store(location, names, libraries, instances).await
            }
            None => Self::start(libraries, instances).await,
        }
    }

    /// Loads the models that the core was opened for. Each one's reference is at its place.
    pub(crate) async fn bring(
        &self,
        models: &[Asked],
        store: Option<&StoreLocation>,
        libraries: &Libraries,
    ) -> anyhow::Result<Vec<ModelRef>> {
        if store.is_none() {
            return self.bring_packages(models, libraries).await;
        }
        let models = models.iter().map(Asked::of_store).collect::<Result<Vec<_>, Failure>>()?;
        for model in &models {
            self.ready(model).await?;
        }
        Ok(models)
    }

    async fn bring_packages(&self, models: &[Asked], libraries: &Libraries) -> anyhow::Result<Vec<ModelRef>> {
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
        let mut references: Vec<ModelRef> = Vec::with_capacity(packages.len());
        for package in packages {
            let reference = ModelRef { name: package.name.clone(), version: Some(package.version) };
            // One of them may be asked for more than once.
            if !references.contains(&reference) {
                self.load(&package).await?;
            }
            references.push(reference);
        }
        Ok(references)
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
