//! Generates a gRPC client from the same files as the server's code.

use std::error::Error;

const FOLDER: &str = "../host/ingress/proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let described = protox::compile(["grpc_service.proto"], [FOLDER])?;
    tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(described)?;
    Ok(())
}
