//! Generates the gRPC service's code from `proto/`, without protoc.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

const FOLDER: &str = "proto";
const FILE: &str = "grpc_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let mut compiler = protox::Compiler::new([FOLDER])?;
    compiler.include_imports(true).include_source_info(true).open_file(FILE)?;
    // The comments become documentation.
    let described = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .build_client(false)
        // What is raw is sliced from the message.
        .bytes(".")
        // It bounds what it reads, and writes into buffers of the right size.
        .codec_path("crate::grpc::codec::Codec")
        .compile_fds(described)?;
    let descriptors = compiler.include_source_info(false).encode_file_descriptor_set();
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), descriptors)?;
    Ok(())
}
