//! `vespid crds`: prints the definitions of the custom resources.

mod markdown;

use std::io::Write;

use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  vespid crds | kubectl apply --server-side -f -
  vespid crds --markdown > resources.md      a reference of all fields";

/// Print the definitions of the custom resources, as a cluster is given them
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CrdsArgs {
    /// Print what can be said in them instead, as a page for people
    #[arg(long)]
    markdown: bool,
}

pub(crate) fn run(args: &CrdsArgs) -> anyhow::Result<()> {
    let definitions = vespid_resources::definitions();
    let mut out = anstream::stdout();
    if args.markdown {
        write!(out, "{}", markdown::reference(&definitions)?)?;
        return Ok(());
    }
    for definition in definitions {
        write!(out, "---\n{}", serde_saphyr::to_string(&definition)?)?;
    }
    Ok(())
}
