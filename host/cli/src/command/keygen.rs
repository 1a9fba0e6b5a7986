//! `vespid keygen`: makes a pair of keys to sign packages with.

use std::path::PathBuf;

use clap::Args;
use vespid_package::oci::SigningKey;

use crate::registry;
use crate::ui::{self, GOOD};

const AFTER_HELP: &str = "\
Examples:
  COSIGN_PASSWORD=... vespid keygen                  writes vespid.key and vespid.pub
  COSIGN_PASSWORD=... vespid keygen --output keys/team

The private key is encrypted with the password in COSIGN_PASSWORD, where there is one. Both files are as cosign writes \
them.";

/// Make a pair of keys to sign packages with
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct KeygenArgs {
    /// What the files' names begin with; they end in .key and .pub
    #[arg(short, long, value_name = "PREFIX", default_value = "vespid")]
    output: PathBuf,
}

pub(crate) fn run(args: &KeygenArgs) -> anyhow::Result<()> {
    let password = registry::password()?;
    let [private, public] = SigningKey::generate(&args.output)?.write(&args.output, &password)?;
    ui::note(ui::styled(GOOD, "made a pair of keys"));
    if password.is_empty() {
        ui::note("the private key is not protected: COSIGN_PASSWORD is empty");
    }
    ui::result(format!("private  {}", private.display()))?;
    ui::result(format!("public   {}", public.display()))?;
    Ok(())
}
