//! `vespid authz`: what an access file would decide, and keys for it.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use vespid_auth::{
    Access, AccessConfig, Action, ApiKey, Explanation, Identity, Kind, ModelFacts, Principal, Resource,
};

use super::operator::parse_pair;
use crate::failure::Failure;

const AFTER_HELP: &str = "\
Examples:
  vespid authz key ci --tenant acme --role batch
  vespid authz check --access access.yaml --principal api_key:ci --action Predict --model iris
  vespid authz check --access access.yaml --principal user:alice --tenant acme --action Upload --model acme-iris

`check` ends with 0 where it is permitted, with 1 where it is not, and with 2 where the file or the command line is wrong.";

/// Say what an access file would decide, or make an API key
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct AuthzArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether somebody may do something, and which policies say so
    Check(CheckArgs),
    /// Make an API key, and the entry of the file that knows it
    Key(KeyArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The file that says who may do what (docs/access.md)
    #[arg(long, value_name = "FILE")]
    access: PathBuf,
    /// Who asks: user:ID, api_key:NAME, certificate:NAME or anonymous
    #[arg(long, value_name = "KIND:ID")]
    principal: String,
    /// The tenant that a user's token names
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// A role that a user's token names; repeatable
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// What they would do
    #[arg(long, value_name = "ACTION", value_parser = |text: &str| text.parse::<Action>())]
    action: Action,
    /// With which model [default: with the server]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The tenant that the model belongs to, as a cluster's label says it [default: what the file says of the model]
    #[arg(long, value_name = "TENANT", requires = "model")]
    model_tenant: Option<String>,
    /// A label of the model, as in a cluster, as NAME=VALUE; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "model", value_parser = parse_pair)]
    label: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// What policies and the audit call it
    name: String,
    /// The tenant that it belongs to
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// A role that it has; repeatable
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

pub(crate) fn run(args: &AuthzArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Check(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { check(args) })
        }
        What::Key(args) => key(args),
    }
}

fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let config = AccessConfig::read(&args.access);
    let access = Access::start(config.with_context(|| format!("--access {}", args.access.display()))?)?;
    let principal = principal(args, &access)?;
    let labels = args.label.iter().cloned().collect();
    let resource = match &args.model {
        None => Resource::Server,
        Some(name) if args.model_tenant.is_none() && args.label.is_empty() => {
            Resource::model(name, access.model_of(name))
        }
        Some(name) => {
            Resource::model(name, ModelFacts { tenant: args.model_tenant.as_deref(), labels: &labels })
        }
    };
    let Explanation { is_permitted, policies, errors } = access.explain(&principal, args.action, &resource);
    let decision = if is_permitted { "permitted" } else { "denied" };
    let because = match policies.is_empty() {
        true => "no policy permits it".to_owned(),
        false => format!("by {}", policies.join(", ")),
    };
    anstream::println!("{decision}: {principal}, {}: {because}", args.action);
    for error in errors {
        anstream::println!("  {error}");
    }
    if is_permitted {
        return Ok(());
    }
    Err(Failure::new("it is denied".to_owned()).into())
}

/// Keys and certificates stand in files; of users their tokens say what they are.
fn principal(args: &CheckArgs, access: &Access) -> anyhow::Result<Principal> {
    let (kind, id) = args.principal.split_once(':').unwrap_or((&args.principal, ""));
    let kind: Kind = kind.parse().map_err(|error| Failure::usage(format!("--principal: {error}")))?;
    if kind != Kind::Oidc {
        let unknown =
            || Failure::usage(format!("--principal {}: the file knows nobody of that name", args.principal));
        return Ok(access.known(kind, id).ok_or_else(unknown)?);
    }
    Ok(Principal::new(Identity {
        kind,
        id: id.to_owned(),
        issuer: None,
        tenant: args.tenant.clone(),
        roles: args.role.clone(),
    }))
}

fn key(args: &KeyArgs) -> anyhow::Result<()> {
    let (key, mut entry) = ApiKey::generate(&args.name)?;
    entry.tenant.clone_from(&args.tenant);
    entry.roles.clone_from(&args.role);
    anstream::println!("{}\n{}", key.expose(), entry.to_yaml()?.trim_end());
    Ok(())
}
