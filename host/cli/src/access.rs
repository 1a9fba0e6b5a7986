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

/// A port at which something may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port<'a> {
    /// The option that says where it is.
    pub(crate) option: &'a str,
    pub(crate) address: SocketAddr,
    /// Whether each client has to have a certificate where nothing else says who they are.
    pub(crate) by_certificate: bool,
}

impl<'a> Port<'a> {
    /// One without TLS.
    pub(crate) const fn plain(option: &'a str, address: SocketAddr) -> Self {
        Self { option, address, by_certificate: false }
    }
}

impl AccessArgs {
    /// What the file says; nothing where everybody may do everything. Within a runtime.
    pub(crate) fn open(&self, ports: &[Port<'_>]) -> anyhow::Result<Option<Access>> {
        if let Some(file) = &self.access {
            let config = AccessConfig::read(file).with_context(|| format!("--access {}", file.display()))?;
            return Ok(Some(Access::start(config).context("--access")?));
        }
        let is_open = |port: &&Port<'_>| !port.address.ip().is_loopback() && !port.by_certificate;
        let Some(Port { option, address, .. }) = ports.iter().find(is_open) else { return Ok(None) };
        if self.no_authentication {
            tracing::warn!("{option} {address}: nobody has to show who they are (--no-authentication)");
            return Ok(None);
        }
        Err(Failure::usage(format!(
            "{option} {address} is reached from other machines, and nobody would have to show who they are"
        ))
        .hint("say with --access who may do what (docs/access.md), with --no-authentication that everybody may, or, where the port speaks TLS, with --tls-client-ca whose certificates are good")
        .into())
    }
}
