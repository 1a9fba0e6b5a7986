//! `vespid push`: hands a model's package to a running server.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;

use super::build;
use crate::args::Server;
use crate::client::{Client, Upload};
use crate::failure::{Failure, Hint};
use crate::manifest::Manifest;
use crate::ui::{self, GOOD};
use crate::{oip, pack};

const AFTER_HELP: &str = "\
Examples:
  vespid push scaler                         builds the folder first
  vespid push scaler-1.tar --server https://models.example

Name and version come from model.toml in the package.";

/// Hand a model to a running server; a folder is built first
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PushArgs {
    /// A model's folder, or a package that `vespid build` wrote
    #[arg(value_name = "DIR|TAR")]
    package: PathBuf,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: &PushArgs) -> anyhow::Result<()> {
    if !args.package.is_dir() {
        let manifest = pack::read_manifest(&args.package)?;
        return upload(args, &manifest, &args.package);
    }
    let (manifest, contents) = build::collect(&args.package)?;
    let folder = tempfile::tempdir()
        .hint("there is no place for a temporary file", "check that the folder TMPDIR can be written to")?;
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
    ui::result(format!(
        "{} {} version {} ({}) to {}",
        ui::styled(GOOD, "pushed"),
        manifest.name,
        manifest.version,
        ui::size(length),
        client.server()
    ))?;
    Ok(())
}
