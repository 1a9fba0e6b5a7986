//! Writes the Rust bindings of `wit/` that the plugin SDK is built on.
//!
//! `vespid-bindgen` writes `plugins/sdk/src/bindings.rs`; `vespid-bindgen --check` compares it with what would be
//! written and fails where they differ. The SDK carries the result, so a plugin builds without the generator and the
//! seventy crates that it needs.

use std::path::Path;
use std::process::ExitCode;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::Opts;

fn main() -> ExitCode {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: vespid-bindgen [--check]");
            return ExitCode::from(2);
        }
    };
    // Asked when it runs: the binary may have been built for another checkout.
    let plugins = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let target = plugins.join("sdk/src/bindings.rs");
    let bindings = match generate(&plugins.join("../wit")) {
        Ok(bindings) => bindings,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if std::fs::read_to_string(&target).is_ok_and(|committed| committed == bindings) {
        return ExitCode::SUCCESS;
    }
    if check {
        eprintln!("error: plugins/sdk/src/bindings.rs is not what wit/ gives");
        eprintln!("help: run `cargo xtask bindings` and commit the result");
        return ExitCode::FAILURE;
    }
    if let Err(error) = std::fs::write(&target, bindings) {
        eprintln!("error: cannot write {}: {error}", target.display());
        return ExitCode::FAILURE;
    }
    println!("wrote plugins/sdk/src/bindings.rs");
    ExitCode::SUCCESS
}

fn generate(wit: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let options = Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        export_macro_name: Some("__export_plugin".to_owned()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, bindings) = files.iter().next().ok_or("the generator wrote no file")?;
    Ok(std::str::from_utf8(bindings)?.to_owned())
}
