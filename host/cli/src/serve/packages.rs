//! The packages that `--package` names: in the store before the server starts.
//!
//! Contract: what is in the store is not fetched again, and a version that is there is never another one afterwards: where
//! what is named has another digest, the server does not start, and says both. Cost: of a reference with a digest that is
//! in the store, nothing; of one with a tag, a request. Limits of what is stored and uploaded hold here too. Whether the packages load
//! is seen when they do, as with all others.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;
use vespid_limits::Limits;
use vespid_package::oci::{Progress, Reference, Registry};
use vespid_package::{ArchiveLimits, Cache, MAX_FILES, Manifest, Package, PackageError, Record, Store};
use vespid_types::Digest;

use super::ServeArgs;
use crate::failure::Failure;
use crate::registry;

pub(super) async fn install(
    store: &Store,
    registry: &Registry,
    limits: &Limits,
    args: &ServeArgs,
) -> Result<()> {
    let archive = ArchiveLimits { size: args.max_package, entries: MAX_FILES };
    for named in &args.package {
        let installed = async {
            if registry::is_reference(named) {
                return from_registry(store, registry, limits, named).await;
            }
            from_file(store, Path::new(named), archive, limits).await
        };
        installed.await.with_context(|| format!("--package {named}"))?;
    }
    Ok(())
}

async fn from_registry(store: &Store, registry: &Registry, limits: &Limits, named: &str) -> Result<()> {
    let reference: Reference = named.parse()?;
    let digest = match reference.digest() {
        Some(digest) if is_there(store, digest).await => return Ok(()),
        Some(digest) => digest,
        None => registry.digest(&reference).await?,
    };
    if is_there(store, digest).await {
        return Ok(());
    }
    let unseen: Arc<dyn Progress> = Arc::new(());
    let pulled = registry.pull(&reference.pinned(digest), store.cache(), &unseen).await?;
    put(store, limits, pulled.package).await
}

async fn from_file(store: &Store, path: &Path, archive: ArchiveLimits, limits: &Limits) -> Result<()> {
    let (cache, path) = (Arc::clone(store.cache()), path.to_owned());
    let package = spawn_blocking(move || local(&cache, &path, archive)).await.context("a task failed")??;
    put(store, limits, package).await
}

fn local(cache: &Cache, path: &Path, limits: ArchiveLimits) -> Result<Package> {
    if path.is_dir() {
        let (record, config) = Record::of_folder(path)?;
        // What is in the cache is not copied there again.
        if cache.package(record.digest()).is_some() {
            return Ok(Package { record, config });
        }
        return Ok(Package::of_folder(path, cache)?);
    }
    let folder = tempfile::tempdir().context("there is no place for a temporary folder")?;
    vespid_package::unpack(path, folder.path(), limits)?;
    Ok(Package::of_folder(folder.path(), cache)?)
}

/// Whether a version of the store has this digest.
async fn is_there(store: &Store, digest: Digest) -> bool {
    let Some(Ok(manifest)) = store.cache().package(digest).map(|folder| Manifest::read(&folder)) else {
        return false;
    };
    let Manifest { name, version, .. } = manifest;
    let there = store.fetch(&name, version).await.is_ok_and(|stored| stored.digest == digest);
    if there {
        tracing::info!(model = %name, %version, %digest, "the package is in the store");
    }
    there
}

async fn put(store: &Store, limits: &Limits, package: Package) -> Result<()> {
    let (digest, size) = (package.record.digest(), package.record.size());
    if is_there(store, digest).await {
        return Ok(());
    }
    let (staged, cache) = (store.stage()?, Arc::clone(store.cache()));
    let verified =
        spawn_blocking(move || staged.verify_package(package, &cache)).await.context("a task failed")??;
    let name = verified.manifest().name.clone();
    let upload = limits.begin_upload(&name, None)?;
    let coming = limits.begin_store(store, (&name, None), size).await?;
    match store.commit(verified).await {
        Ok(stored) => {
            upload.done();
            limits.stored(store, coming).await;
            tracing::info!(model = %stored.name, version = %stored.version, %digest, "the package has been put into the store");
            Ok(())
        }
        Err(PackageError::Exists { name, version }) => {
            let stored = store.fetch(&name, version).await?.digest;
            if stored == digest {
                return Ok(());
            }
            let message = format!(
                "model '{name}' version {version} is in the store as {stored}, and this one is {digest}"
            );
            Err(Failure::new(message)
                .hint("raise `version` in its model.toml, or `vespid delete` the old one")
                .into())
        }
        Err(error) => Err(error.into()),
    }
}
