//! Registries, as the commands reach them: the options that they share, progress, and where what is pulled is kept.
//!
//! What a command pulls goes into a cache of the user's, apart from that of a server: a cut transfer goes on when the
//! command is run again, and what is there is not pulled twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use indicatif::ProgressBar;
use tokio::runtime::{Builder, Runtime};
use vespid_package::oci::{Progress, Reference, Registry, RegistryOptions, SCHEME, SigningKey, TrustPolicy};
use vespid_package::{Cache, PackageError};

use crate::failure::{Failure, Hint};
use crate::ui;

/// Where the password of a private key is, as cosign has it.
const PASSWORD: &str = "COSIGN_PASSWORD";

/// How registries are reached, and what is taken from them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Registries")]
pub(crate) struct RegistryArgs {
    /// A registry that is spoken to by plain HTTP; those on this machine always are; repeatable
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
    /// The trust policy: whose signatures an artifact must bear to be taken
    #[arg(long, value_name = "FILE.toml")]
    trust: Option<PathBuf>,
}

impl RegistryArgs {
    /// The way to registries.
    pub(crate) fn open(&self, max_package: ByteSize) -> anyhow::Result<Registry> {
        let trust = self.trust.as_deref().map(TrustPolicy::read).transpose()?;
        let insecure = self.insecure.iter().cloned().collect();
        Ok(Registry::new(RegistryOptions { insecure, trust, max_package }))
    }
}

/// What a command needs to ask registries.
pub(crate) struct Client {
    pub(crate) registry: Registry,
    runtime: Runtime,
}

impl Client {
    pub(crate) fn new(args: &RegistryArgs) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
        // What a user fetches for himself has no limit but his disk.
        Ok(Self { registry: args.open(ByteSize(u64::MAX))?, runtime })
    }

    /// Waits for a transfer, of which a bar tells.
    pub(crate) fn transfer<T, E>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&Registry, &Arc<dyn Progress>) -> Result<T, E>,
    ) -> Result<T, E> {
        let bar = ui::transfer(0, what);
        let progress: Arc<dyn Progress> = Arc::new(Bar(bar.clone()));
        let outcome = self.runtime.block_on(work(&self.registry, &progress));
        bar.finish_and_clear();
        outcome
    }

    /// Waits for other work.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn moved(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn lost(&self, bytes: u64) {
        self.0.dec(bytes);
    }
}

/// The user's cache of what commands have pulled.
pub(crate) fn cache() -> anyhow::Result<Arc<Cache>> {
    let folder = vespid_toolchain::cache_dir()?.join("pulled");
    let cache = Cache::open(&folder).map_err(|error| match error {
        PackageError::Locked { .. } => anyhow::Error::new(
            Failure::new(format!("another command is pulling into {}", folder.display()))
                .hint("wait for it to end"),
        ),
        error => error.into(),
    })?;
    Ok(Arc::new(cache))
}

/// Whether what the user wrote names an artifact in a registry.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with(SCHEME)
}

/// Reads a reference that the user wrote.
pub(crate) fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{error}")))
}

/// The password of a private key: what the environment says, else none.
pub(crate) fn password() -> anyhow::Result<String> {
    match std::env::var(PASSWORD) {
        Ok(password) => Ok(password),
        Err(std::env::VarError::NotPresent) => Ok(String::new()),
        Err(error) => Err(Failure::new(format!("{PASSWORD}: {error}")).into()),
    }
}

/// Reads the key that a package is to be signed with.
pub(crate) fn signing_key(file: &Path) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::read(file, &password()?)?)
}

/// Puts a file at a place: as a link where it can be, else as a copy.
pub(crate) fn link(from: &Path, to: &Path) -> Result<(), Failure> {
    let place = || {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        // A link to a link would be a link.
        let from = fs::canonicalize(from)?;
        fs::hard_link(&from, to).or_else(|_| fs::copy(&from, to).map(drop))
    };
    place().hint(
        format!("{} cannot be put at {}", from.display(), to.display()),
        "check that it can be read, and that there is space",
    )
}
