//! `vespid`, the only binary: it builds, pushes, serves and calls model packages.
//!
//! Thin on purpose: it reads the command line, hands over to one module a command, and turns the outcome into an exit
//! code. Everything that a command prints as its result goes to standard output; progress, hints and errors go to
//! standard error.

mod access;
mod allocator;
mod args;
mod bench;
mod client;
mod cluster;
mod command;
mod embedded;
mod failure;
mod guest;
mod local;
mod manifest;
mod oip;
mod onnxruntime;
mod openvino;
mod pack;
mod predict;
mod registry;
mod serve;
mod source;
mod sources;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    // Whoever speaks TLS takes it from here. It fails where there is one already, and there is none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Batch(args) => return command::batch::run(&args),
        Command::Stream(args) => return command::stream::run(&args),
        Command::New(args) => command::new::run(&args),
        Command::Build(args) => command::build::run(&args),
        Command::Test(args) => command::test::run(&args),
        Command::Dev(args) => command::dev::run(&args),
        Command::Inspect(args) => command::inspect::run(&args),
        Command::Push(args) => command::push::run(&args),
        Command::Traffic(args) => command::traffic::run(&args),
        Command::Pull(args) => command::pull::run(&args),
        Command::Keygen(args) => command::keygen::run(&args),
        Command::Delete(args) => command::delete::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Models(args) => command::models::run(&args),
        Command::Doctor(args) => command::doctor::run(&args),
        Command::Deploy(args) => command::deploy::run(&args),
        Command::Status(args) => command::status::run(&args),
        Command::Operator(args) => command::operator::run(&args),
        Command::Gateway(args) => command::gateway::run(&args),
        Command::Authz(args) => command::authz::run(&args),
        Command::Crds(args) => command::crds::run(&args),
        Command::Serve(args) => serve::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
