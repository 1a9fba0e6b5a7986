//! `vespid pull`: gets a package out of a registry, as a tar or as a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use vespid_package::oci::Pulled;
use vespid_package::{Cache, PackagePath};

use crate::failure::{Failure, Hint};
use crate::manifest::{self, Manifest};
use crate::pack::{self, Contents};
use crate::registry::{self, Client, RegistryArgs};
use crate::ui::{self, GOOD};

const AFTER_HELP: &str = "\
Examples:
  vespid pull oci://registry.example/models/scaler:1                writes ./scaler-1.tar
  vespid pull oci://registry.example/models/scaler:1 --into scaler  a folder with its files
  vespid pull oci://registry.example/models/scaler@sha256:... --trust trust.toml

A transfer that was cut goes on where it ended when the command is run again.";

/// Get a package out of a registry
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PullArgs {
    /// The artifact: oci://HOST[:PORT]/REPOSITORY with :TAG or @DIGEST
    #[arg(value_name = "REFERENCE")]
    reference: String,
    /// Where the package goes as a tar [default: NAME-VERSION.tar here]
    #[arg(short, long, value_name = "FILE.tar", conflicts_with = "into")]
    output: Option<PathBuf>,
    /// Where its files go; the folder must be new or empty
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &PullArgs) -> anyhow::Result<()> {
    let reference = registry::reference(&args.reference)?;
    if let Some(folder) = &args.into {
        check_empty(folder)?;
    }
    let client = Client::new(&args.registry)?;
    let cache = registry::cache()?;
    let pulled = client
        .transfer("pulling", async |registry, progress| registry.pull(&reference, &cache, progress).await)?;
    let files = files(&pulled, &cache)?;
    let (manifest, contents) = contents(&pulled, files)?;
    let place = match &args.into {
        Some(folder) => copy(&contents, folder)?,
        None => {
            let default = || PathBuf::from(format!("{}-{}.tar", manifest.name, manifest.version));
            let output = args.output.clone().unwrap_or_else(default);
            pack::write(&contents, &output)?;
            output
        }
    };
    ui::note(format!("{} {} version {}", ui::styled(GOOD, "pulled"), manifest.name, manifest.version));
    ui::result(format!("path       {}", place.display()))?;
    ui::result(format!("size       {}", ui::size(pulled.package.record.size())))?;
    ui::result(format!("reference  {}", pulled.reference))?;
    ui::result(format!("digest     {}", pulled.package.record.digest()))?;
    Ok(())
}

fn check_empty(folder: &Path) -> Result<(), Failure> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Failure::new(format!("{} is not empty", folder.display())).hint("name a new folder"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).hint(format!("{} cannot be used", folder.display()), "name another folder"),
    }
}

/// Where each file of the package lies.
fn files<'a>(pulled: &'a Pulled, cache: &Cache) -> anyhow::Result<BTreeMap<&'a PackagePath, PathBuf>> {
    let files = pulled.package.record.files().iter();
    let find = |(path, blob)| -> anyhow::Result<_> {
        Ok((path, cache.blob(blob).with_context(|| format!("{path} is gone from the cache"))?))
    };
    files.map(find).collect()
}

fn contents(
    pulled: &Pulled,
    files: BTreeMap<&PackagePath, PathBuf>,
) -> Result<(Manifest, Contents), Failure> {
    let mut text = String::new();
    let mut others = BTreeMap::new();
    for (path, file) in files {
        if path.as_str() == manifest::FILE {
            text = fs::read_to_string(&file).hint(
                format!("{} of {} cannot be read", manifest::FILE, pulled.reference),
                "build it anew",
            )?;
        } else {
            others.insert(path.to_string(), file);
        }
    }
    Ok((Manifest::parse(&text)?, Contents { manifest: text, files: others }))
}

/// Writes the files, which are then the user's own: those of the cache are not to be changed.
fn copy(contents: &Contents, folder: &Path) -> Result<PathBuf, Failure> {
    let failed = || (format!("{} cannot be written", folder.display()), "check that there is space");
    let write = |name: &str, data: &mut dyn io::Read| {
        let place = folder.join(name);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        io::copy(data, &mut File::create_new(place)?)
    };
    let (message, hint) = failed();
    write(manifest::FILE, &mut contents.manifest.as_bytes()).hint(message, hint)?;
    for (name, file) in &contents.files {
        let (message, hint) = failed();
        File::open(file).and_then(|mut file| write(name, &mut file)).hint(message, hint)?;
    }
    Ok(folder.to_owned())
}
