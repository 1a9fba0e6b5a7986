//! `vespid push`: hands a model's package to a running server, a registry or a store.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Args;
use tempfile::TempDir;
use vespid_package::oci::{Outgoing, Reference};
use vespid_package::{ArchiveLimits, Package, Record, Store, StoreLocation, StoreOptions};
use vespid_types::Digest;

use super::build;
use crate::args::Server;
use crate::client::{Client, ServerUrl, Upload};
use crate::failure::{Failure, Hint};
use crate::manifest::Manifest;
use crate::pack::{self, Contents};
use crate::registry::{self, RegistryArgs};
use crate::ui::{self, GOOD};
use crate::{manifest, oip};

const AFTER_HELP: &str = "\
Examples:
  vespid push scaler                         builds the folder first
  vespid push scaler-1.tar --server https://models.example
  vespid push scaler oci://registry.example/models/scaler:1
  COSIGN_PASSWORD=... vespid push scaler oci://registry.example/models/scaler:1 --sign vespid.key
  vespid push scaler s3://bucket/models      a store, which may be a folder too

Name and version come from model.toml in the package. A registry's tag is the version where none is named.";

/// Hand a model to a running server, a registry or a store; a folder is built first
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PushArgs {
    /// A model's folder, or a package that `vespid build` wrote
    #[arg(value_name = "DIR|TAR")]
    package: PathBuf,
    /// Where it goes: an artifact in a registry, a bucket, or a store's folder [default: the running server]
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// Sign the artifact with this private key: cosign's, with its password in COSIGN_PASSWORD, or PKCS8
    #[arg(long, value_name = "FILE.key", requires = "target")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &PushArgs) -> anyhow::Result<()> {
    let package = Packaged { path: &args.package, registries: &args.registry };
    match &args.target {
        None => drop(to_server(&package, &args.server.url, "")?),
        Some(target) if registry::is_reference(target) => {
            let (_, sent) = to_registry(&package, &registry::reference(target)?, args.sign.as_deref())?;
            ui::result(format!("reference  {}", sent.reference))?;
            ui::result(format!("digest     {}", sent.digest))?;
        }
        Some(_) if args.sign.is_some() => {
            return Err(Failure::usage("--sign is for registries: a store keeps no signatures").into());
        }
        Some(target) => {
            let (_, digest) = to_store(&package, target)?;
            ui::result(format!("digest     {digest}"))?;
        }
    }
    Ok(())
}

/// What is handed over.
pub(crate) struct Packaged<'a> {
    /// A model's folder, or a package that was built.
    pub(crate) path: &'a Path,
    pub(crate) registries: &'a RegistryArgs,
}

/// Where a registry has it.
pub(crate) struct Sent {
    /// With its digest.
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
}

/// Hands it to a running server, with a query that is for a cluster's gateway.
pub(crate) fn to_server(package: &Packaged<'_>, server: &ServerUrl, query: &str) -> anyhow::Result<Manifest> {
    let (file, _kept) = package.packed()?;
    let manifest = pack::read_manifest(&file)?;
    upload(server, &manifest, &file, query)?;
    Ok(manifest)
}

fn upload(server: &ServerUrl, manifest: &Manifest, package: &Path, query: &str) -> anyhow::Result<()> {
    let client = Client::new(server, None)?;
    let unreadable = || format!("{} cannot be read", package.display());
    let file = File::open(package).hint(unreadable(), "check the path")?;
    let length = file.metadata().hint(unreadable(), "check the path")?.len();
    if length == 0 {
        return Err(Failure::new(format!("{} is empty", package.display())).into());
    }
    let bar = ui::transfer(length, "pushing");
    let mut reader = bar.wrap_read(file);
    let path = oip::repository_path(&manifest.name, manifest.version) + query;
    let body = Upload { reader: &mut reader, length, content_type: "application/x-tar" };
    let outcome = client.put(&path, body);
    bar.finish_and_clear();
    outcome?;
    pushed(manifest, length, client.server())
}

/// Hands it to a registry, signed where there is a key.
pub(crate) fn to_registry(
    package: &Packaged<'_>,
    reference: &Reference,
    key: Option<&Path>,
) -> anyhow::Result<(Manifest, Sent)> {
    let key = key.map(registry::signing_key).transpose()?;
    let client = registry::Client::new(package.registries)?;
    let (manifest, folder) = package.unpacked()?;
    let (record, config) = Record::of_folder(folder.path())?;
    let tag = manifest.version.to_string();
    let sent = client.transfer("pushing", async |registry, progress| {
        let package = Outgoing { dir: folder.path(), record: &record, config: &config };
        registry.push(reference, &tag, package, key.as_ref(), progress).await
    })?;
    ui::note(format!("{} blobs sent, {} were there", sent.sent, sent.there));
    pushed(&manifest, record.size(), &sent.reference.place())?;
    Ok((manifest, Sent { reference: sent.reference, digest: record.digest() }))
}

/// Puts it into a store, a folder or a bucket; its digest.
pub(crate) fn to_store(package: &Packaged<'_>, target: &str) -> anyhow::Result<(Manifest, Digest)> {
    let location: StoreLocation = target.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let client = registry::Client::new(package.registries)?;
    let (manifest, folder) = package.unpacked()?;
    let scratch = temporary()?;
    let cache = matches!(location, StoreLocation::Bucket(_)).then(|| scratch.path().to_owned());
    let stored = client.wait(async {
        let store = Store::open(StoreOptions { location, cache }).await?;
        let package = Package::of_folder(folder.path(), store.cache())?;
        store.commit(store.stage()?.verify_package(package, store.cache())?).await
    })?;
    pushed(&manifest, stored.size, &target)?;
    Ok((manifest, stored.digest))
}

fn pushed(manifest: &Manifest, size: u64, to: &dyn std::fmt::Display) -> anyhow::Result<()> {
    let Manifest { name, version, .. } = manifest;
    let pushed = ui::styled(GOOD, "pushed");
    ui::result(format!("{pushed} {name} version {version} ({}) to {to}", ui::size(size)))?;
    Ok(())
}

impl Packaged<'_> {
    /// What it is called, and the digest that it has wherever it goes.
    pub(crate) fn digest(&self) -> anyhow::Result<(Manifest, Digest)> {
        let (manifest, folder) = self.unpacked()?;
        Ok((manifest, Record::of_folder(folder.path())?.0.digest()))
    }

    /// The package as a file: of a folder in one of its own, which lasts as long as what is returned with it.
    pub(crate) fn packed(&self) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
        if !self.path.is_dir() {
            return Ok((self.path.to_owned(), None));
        }
        let (_, contents) = build::collect(self.path, self.registries)?;
        let folder = temporary()?;
        let file = folder.path().join("package.tar");
        pack::write(&contents, &file)?;
        Ok((file, Some(folder)))
    }

    /// The package's files in a folder of their own, which a folder is built into and a tar unpacked.
    fn unpacked(&self) -> anyhow::Result<(Manifest, TempDir)> {
        if !self.path.is_dir() {
            let manifest = pack::read_manifest(self.path)?;
            let folder = temporary()?;
            // The user's own: what it may hold is for the receiver to limit.
            let limits = ArchiveLimits { size: ByteSize(u64::MAX), entries: usize::MAX };
            vespid_package::unpack(self.path, folder.path(), limits)?;
            return Ok((manifest, folder));
        }
        let (manifest, contents) = build::collect(self.path, self.registries)?;
        let folder = temporary()?;
        lay_out(&contents, folder.path())?;
        Ok((manifest, folder))
    }
}

fn lay_out(contents: &Contents, folder: &Path) -> Result<(), Failure> {
    let place = folder.join(manifest::FILE);
    std::fs::write(&place, &contents.manifest)
        .hint(format!("{} cannot be written", place.display()), "check that there is space")?;
    contents.files.iter().try_for_each(|(name, file)| registry::link(file, &folder.join(name)))
}

fn temporary() -> Result<TempDir, Failure> {
    tempfile::tempdir()
        .hint("there is no place for a temporary file", "check that the folder TMPDIR can be written to")
}
