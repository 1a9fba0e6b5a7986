//! `vespid models`: what a server has in its repository.

use anstyle::Style;
use clap::Args;
use comfy_table::Cell;

use crate::args::{Output, Server};
use crate::client::Client;
use crate::oip::{self, IndexEntry};
use crate::ui::{self, BAD, GOOD, WARN};

const AFTER_HELP: &str = "\
Examples:
  vespid models
  vespid models --output json";

/// List a server's models, their versions and states
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ModelsArgs {
    /// How the list is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server.url, None)?;
    let answer = client.post(oip::INDEX_PATH, b"{}", None)?;
    if args.output == Output::Json {
        let json: serde_json::Value = client.decode(&answer)?;
        ui::result(format!("{json:#}"))?;
        return Ok(());
    }
    let entries: Vec<IndexEntry> = client.decode(&answer)?;
    if entries.is_empty() {
        ui::note(format!("{} has no models: hand it one with `vespid push DIR`", client.server()));
        return Ok(());
    }
    let mut table = ui::table(["NAME", "VERSION", "STATE", "REASON"]);
    for entry in &entries {
        let state = ui::coloured(&ui::clean(&entry.state), colour(&entry.state));
        table.add_row([
            Cell::new(ui::clean(&entry.name)),
            Cell::new(ui::clean(&entry.version)),
            state,
            Cell::new(ui::clean(&entry.reason)),
        ]);
    }
    ui::print_table(&table)?;
    Ok(())
}

fn colour(state: &str) -> Style {
    match state {
        "READY" => GOOD,
        "LOADING" | "UNLOADING" => WARN,
        "UNAVAILABLE" => BAD,
        _ => Style::new(),
    }
}
