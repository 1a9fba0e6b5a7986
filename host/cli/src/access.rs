//! Who may do what, as the command line says it.
//!
//! Contract: a port that other machines reach is opened where a file says who may do what, or where the command line says that
//! nobody has to show who they are; on this machine's own addresses it may be left out.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use vespid_auth::{Access, AccessConfig};

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// A file that says who may do what (docs/access.md)
    #[arg(long, value_name = "FILE")]
    access: Option<PathBuf>,
    /// Let everybody do everything, also where other machines reach a port
    #[arg(long, conflicts_with = "access")]
    no_authentication: bool,
}

impl AccessArgs {
    /// What the file says; nothing where everybody may do everything. `ports` are those for clients, by their options. Within a
    /// runtime. Where it is nothing and `by_certificate`, each client has to have one.
    pub(crate) fn open(
        &self,
        ports: &[(&str, SocketAddr)],
        by_certificate: bool,
    ) -> anyhow::Result<Option<Access>> {
        if let Some(file) = &self.access {
            let config = AccessConfig::read(file).with_context(|| format!("--access {}", file.display()))?;
            return Ok(Some(Access::start(config).context("--access")?));
        }
        let open = ports.iter().find(|(_, address)| !address.ip().is_loopback());
        match open {
            None => {}
            Some(_) if by_certificate => {}
            Some((option, address)) if self.no_authentication => {
                tracing::warn!("{option} {address}: nobody has to show who they are (--no-authentication)");
            }
            Some((option, address)) => {
                return Err(Failure::usage(format!(
                    "{option} {address} is reached from other machines, and nobody would have to show who they are"
                ))
                .hint("say with --access who may do what (docs/access.md), with --tls-client-ca whose certificates are good, or with --no-authentication that everybody may")
                .into());
            }
        }
        Ok(None)
    }
}
