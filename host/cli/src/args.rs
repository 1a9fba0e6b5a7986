//! The command line: the commands, and the options that several of them share.

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::ServerUrl;
use crate::command::{
    authz, batch, build, crds, delete, deploy, dev, doctor, gateway, inspect, keygen, models, new, operator,
    pull, push, status, stream, test, traffic,
};
use crate::{bench, predict, serve};

const AFTER_HELP: &str = "\
Examples:
  vespid new scaler                          write a plugin project to start from
  vespid test scaler                         run its recorded cases
  vespid dev scaler                          serve it here, and build it anew with each change
  vespid build scaler                        compile it and pack it into one file
  vespid inspect scaler                      see what is in it
  vespid serve --store ./store               serve what is pushed
  vespid push scaler                         build it and hand it to a running server
  vespid predict scaler values='1,2;3,4'     ask it
  vespid bench scaler                        see how fast it answers, and where the time goes
  vespid models                              see what the server has loaded
  vespid batch --model scaler --input data --output out   ask it for every row of many files
  vespid stream --config stream.yaml         ask it for every message of a topic, and go on
  vespid deploy scaler                       serve it in a cluster of Kubernetes
  vespid status                              see what the cluster serves
  vespid pull oci://registry.example/m/iris:1   get a package out of a registry

Environment:
  VESPID_SERVER              the server that commands talk to, in place of --server
  VESPID_TOKEN               the token or API key that commands show the server
  VESPID_CA_FILE             the authorities (PEM) that the server's certificate is checked by [default: the system's]
  VESPID_CACHE               where tools that build plugins are installed, and what was built is kept
  VESPID_GUEST_TARGET_DIR    where `build` keeps cargo's intermediate files
  DOCKER_CONFIG              the folder of Docker's config.json, with the credentials for registries
  COSIGN_PASSWORD            the password of the private key that packages are signed with
  NO_COLOR                   no colour, even on a terminal

Exit codes:
  0  done
  1  the request, the server or the build failed
  2  the command line was wrong
  75 a job was stopped, and goes on when it is run again";

/// Serves machine-learning models whose code is a WebAssembly component.
#[derive(Debug, Parser)]
#[command(name = "vespid", version, after_help = AFTER_HELP, styles = STYLES)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Test(test::TestArgs),
    Dev(dev::DevArgs),
    Inspect(inspect::InspectArgs),
    Serve(Box<serve::ServeArgs>),
    Push(push::PushArgs),
    Pull(pull::PullArgs),
    Keygen(keygen::KeygenArgs),
    Predict(predict::PredictArgs),
    Batch(Box<batch::BatchArgs>),
    Stream(Box<stream::StreamArgs>),
    Bench(bench::BenchArgs),
    Models(models::ModelsArgs),
    Traffic(traffic::TrafficArgs),
    Delete(delete::DeleteArgs),
    Doctor(doctor::DoctorArgs),
    Deploy(deploy::DeployArgs),
    Status(status::StatusArgs),
    Operator(Box<operator::OperatorArgs>),
    Gateway(Box<gateway::GatewayArgs>),
    Crds(crds::CrdsArgs),
    Authz(authz::AuthzArgs),
}

/// The server that a command talks to.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The server's address
    #[arg(
        long = "server",
        value_name = "URL",
        env = "VESPID_SERVER",
        default_value = "http://127.0.0.1:8000",
        hide_env = true
    )]
    pub(crate) url: ServerUrl,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people; plain columns when it is not a terminal
    Table,
    /// For scripts, indented
    Json,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }
}
