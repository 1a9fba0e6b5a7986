//! Files of a package that its folder does not hold, and that `model.toml` names a registry for.
//!
//! Contract: only what is missing is fetched, and only from references that are pinned by a digest, so that what is built
//! is the same whenever it is built. The files lie in the user's cache and are not to be changed.

use std::path::PathBuf;
use std::sync::Arc;

use vespid_package::oci::{Reference, Wanted};
use vespid_package::{Cache, PackagePath};

use crate::registry::{self, Client, RegistryArgs};

/// The registries, asked when the first file is missing.
pub(crate) struct Sources<'a> {
    args: &'a RegistryArgs,
    opened: Option<(Client, Arc<Cache>)>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(args: &'a RegistryArgs) -> Self {
        Self { args, opened: None }
    }

    /// The component of an artifact.
    pub(crate) fn plugin(&mut self, source: &Reference) -> anyhow::Result<PathBuf> {
        self.fetch(source, Wanted::Plugin)
    }

    /// The graph of an artifact, or its weights.
    pub(crate) fn graph(&mut self, source: &Reference, file: &PackagePath) -> anyhow::Result<PathBuf> {
        self.fetch(source, Wanted::Graph(file))
    }

    fn fetch(&mut self, source: &Reference, wanted: Wanted<'_>) -> anyhow::Result<PathBuf> {
        if self.opened.is_none() {
            self.opened = Some((Client::new(self.args)?, registry::cache()?));
        }
        let Some((client, cache)) = &self.opened else { anyhow::bail!("the registries are not open") };
        let file = client.transfer("fetching", async |registry, progress| {
            registry.pull_file(source, wanted, cache, progress).await
        })?;
        Ok(file)
    }
}
