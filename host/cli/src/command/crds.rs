//! `vespid crds`: prints the definitions of the custom resources.

mod markdown;

use std::io::Write;

use clap::{Args, ValueEnum};

const AFTER_HELP: &str = "\
Examples:
  vespid crds | kubectl apply --server-side -f -
  vespid crds --output markdown > resources.md      a reference of all fields";

/// Print the definitions of the custom resources, as a cluster is given them
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CrdsArgs {
    /// How they are written
    #[arg(long, value_enum, default_value = "yaml")]
    output: Form,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// A document each
    Yaml,
    /// A list
    Json,
    /// What can be said in them, as a page for people
    Markdown,
}

pub(crate) fn run(args: &CrdsArgs) -> anyhow::Result<()> {
    let definitions = vespid_resources::definitions();
    let mut out = anstream::stdout();
    match args.output {
        Form::Markdown => write!(out, "{}", markdown::reference(&definitions)?)?,
        Form::Json => writeln!(out, "{}", serde_json::to_string_pretty(&definitions)?)?,
        Form::Yaml => {
            for definition in &definitions {
                write!(out, "---\n{}", serde_saphyr::to_string(definition)?)?;
            }
        }
    }
    Ok(())
}
