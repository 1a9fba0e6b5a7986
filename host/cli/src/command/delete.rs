//! `vespid delete`: removes a version of a model from a server.

use clap::Args;
use vespid_types::{ModelName, Version};

use crate::args::Server;
use crate::client::Client;
use crate::oip;
use crate::ui::{self, GOOD};

const AFTER_HELP: &str = "\
Example:
  vespid delete scaler --version 1";

/// Remove a version of a model from a server
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DeleteArgs {
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: ModelName,
    /// The version to remove
    #[arg(long, value_name = "VERSION")]
    version: Version,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: &DeleteArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server.url, None)?;
    client.delete(&oip::repository_path(&args.model, args.version))?;
    let deleted = ui::styled(GOOD, "deleted");
    ui::result(format!("{deleted} {} version {} from {}", args.model, args.version, client.server()))?;
    Ok(())
}
