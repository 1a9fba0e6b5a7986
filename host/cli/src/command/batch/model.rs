//! Where the model of a job comes from: a package, or a store.

use std::path::Path;

use vespid_batch::JobSpec;
use vespid_types::{ModelName, ModelRef};

use super::BatchArgs;
use crate::failure::Failure;
use crate::local::Local;
use crate::registry::{self, Client};
use crate::source::Package;

/// Instances beside those that the calls take: for plugins that call other models.
const MORE_INSTANCES: u32 = 16;

/// Loads the model that the job names.
pub(super) async fn load(
    args: &BatchArgs,
    job: &mut JobSpec,
    calls: usize,
) -> anyhow::Result<(Local, ModelRef)> {
    let instances = u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(MORE_INSTANCES);
    if let Some(location) = &args.store {
        let name: ModelName = job.model.parse().map_err(|error| {
            Failure::usage(format!("--model: {error}"))
                .hint("with --store it is the name of a model of the store")
        })?;
        let local = Local::of_store(location, &name, &args.libraries, instances).await?;
        let model = ModelRef { name, version: job.version };
        local.ready(&model).await?;
        return Ok((local, model));
    }
    let registries = args.libraries.registries.clone();
    let text = job.model.clone();
    let package = tokio::task::spawn_blocking(move || package(&text, &registries)).await??;
    if job.version.is_some_and(|version| version != package.version) {
        return Err(Failure::usage(format!(
            "{} is version {}, and the job asks for another",
            job.model, package.version
        ))
        .into());
    }
    job.model = package.name.to_string();
    job.version = Some(package.version);
    let local = Local::start(&args.libraries, instances).await?;
    local.load(&package).await?;
    let model = ModelRef { name: package.name, version: Some(package.version) };
    Ok((local, model))
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
    let path = Path::new(text);
    if !path.exists() {
        return Err(Failure::usage(format!("'{text}' is no package: there is no such folder or file"))
            .hint("name a model's folder, a package or oci://..., or say with --store where the model of this name is")
            .into());
    }
    Package::open(path, registries)
}
