//! `vespid push`: hands a model's package to a running server, a registry or a store.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Args;
use tempfile::TempDir;
use vespid_package::oci::{Outgoing, Reference};
use vespid_package::{ArchiveLimits, Package, Record, Store, StoreLocation, StoreOptions};

use super::build;
use crate::args::Server;
use crate::client::{Client, Upload};
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
    match &args.target {
        None => to_server(args),
        Some(target) if registry::is_reference(target) => to_registry(args, &registry::reference(target)?),
        Some(target) => to_store(args, target),
    }
}

fn to_server(args: &PushArgs) -> anyhow::Result<()> {
    if !args.package.is_dir() {
        let manifest = pack::read_manifest(&args.package)?;
        return upload(args, &manifest, &args.package);
    }
    let (manifest, contents) = build::collect(&args.package, &args.registry)?;
    let folder = temporary()?;
    let package = folder.path().join("package.tar");
    pack::write(&contents, &package)?;
    upload(args, &manifest, &package)
}

fn upload(args: &PushArgs, manifest: &Manifest, package: &Path) -> anyhow::Result<()> {
    let client = Client::new(&args.server.url, None);
    let unreadable = || format!("{} cannot be read", package.display());
    let file = File::open(package).hint(unreadable(), "check the path")?;
    let length = file.metadata().hint(unreadable(), "check the path")?.len();
    if length == 0 {
        return Err(Failure::new(format!("{} is empty", package.display())).into());
    }
    let bar = ui::transfer(length, "pushing");
    let mut reader = bar.wrap_read(file);
    let path = oip::repository_path(&manifest.name, manifest.version);
    let body = Upload { reader: &mut reader, length, content_type: "application/x-tar" };
    let outcome = client.put(&path, body);
    bar.finish_and_clear();
    outcome?;
    pushed(manifest, length, client.server())
}

fn to_registry(args: &PushArgs, reference: &Reference) -> anyhow::Result<()> {
    let key = args.sign.as_deref().map(registry::signing_key).transpose()?;
    let client = registry::Client::new(&args.registry)?;
    let (manifest, folder) = unpacked(args)?;
    let (record, config) = Record::of_folder(folder.path())?;
    let package = Outgoing { dir: folder.path(), record: &record, config: &config };
    let tag = manifest.version.to_string();
    let sent = client.transfer("pushing", async |registry, progress| {
        registry.push(reference, &tag, package, key.as_ref(), progress).await
    })?;
    ui::note(format!("{} blobs sent, {} were there", sent.sent, sent.there));
    pushed(&manifest, record.size(), &sent.reference.place())?;
    ui::result(format!("reference  {}", sent.reference))?;
    ui::result(format!("digest     {}", record.digest()))?;
    Ok(())
}

fn to_store(args: &PushArgs, target: &str) -> anyhow::Result<()> {
    if args.sign.is_some() {
        return Err(Failure::usage("--sign is for registries: a store keeps no signatures").into());
    }
    let location: StoreLocation = target.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let client = registry::Client::new(&args.registry)?;
    let (manifest, folder) = unpacked(args)?;
    let scratch = temporary()?;
    let cache = matches!(location, StoreLocation::Bucket(_)).then(|| scratch.path().to_owned());
    let stored = client.wait(async {
        let store = Store::open(StoreOptions { location, cache }).await?;
        let package = Package::of_folder(folder.path(), store.cache())?;
        store.commit(store.stage()?.verify_package(package, store.cache())?).await
    })?;
    pushed(&manifest, stored.size, &target)?;
    ui::result(format!("digest     {}", stored.digest))?;
    Ok(())
}

fn pushed(manifest: &Manifest, size: u64, to: &dyn std::fmt::Display) -> anyhow::Result<()> {
    let Manifest { name, version, .. } = manifest;
    let pushed = ui::styled(GOOD, "pushed");
    ui::result(format!("{pushed} {name} version {version} ({}) to {to}", ui::size(size)))?;
    Ok(())
}

/// The package's files in a folder of their own, which a folder is built into and a tar unpacked.
fn unpacked(args: &PushArgs) -> anyhow::Result<(Manifest, TempDir)> {
    if !args.package.is_dir() {
        let manifest = pack::read_manifest(&args.package)?;
        let folder = temporary()?;
        // The user's own: what it may hold is for the receiver to limit.
        let limits = ArchiveLimits { size: ByteSize(u64::MAX), entries: usize::MAX };
        vespid_package::unpack(&args.package, folder.path(), limits)?;
        return Ok((manifest, folder));
    }
    let (manifest, contents) = build::collect(&args.package, &args.registry)?;
    let folder = temporary()?;
    lay_out(&contents, folder.path())?;
    Ok((manifest, folder))
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
