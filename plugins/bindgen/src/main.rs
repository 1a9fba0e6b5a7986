//! Writes the Rust bindings of `wit/` that the plugin SDK is built on.
//!
//! `vespid-bindgen` writes them into `plugins/sdk/src`: `bindings.rs` is what every plugin imports and exports,
//! `streaming.rs` and `session.rs` the exports of those that answer in pieces and of those whose sequences can move, `http/bindings.rs` and `assets/bindings.rs` what those import that
//! reach out of their sandbox. `vespid-bindgen --check` compares them with what would be
//! written and fails where they differ. The SDK carries the result, so a plugin builds without the generator and the
//! seventy crates that it needs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wit_bindgen_core::wit_parser::{Resolve, WorldId};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: vespid-bindgen [--check]");
            return ExitCode::from(2);
        }
    };
    match bindings().and_then(|bindings| bindings.into_iter().try_for_each(|file| put(file, check))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a file, or only looks whether it is as it should be.
fn put((file, content): (PathBuf, String), check: bool) -> Result<()> {
    if std::fs::read_to_string(&file).is_ok_and(|committed| committed == content) {
        return Ok(());
    }
    let shown = file.display();
    if check {
        let help = "run `cargo xtask bindings` and commit the result";
        return Err(format!("{shown} is not what wit/ gives\nhelp: {help}").into());
    }
    std::fs::write(&file, content).map_err(|error| format!("cannot write {shown}: {error}"))?;
    println!("wrote {shown}");
    Ok(())
}

/// Each file with its content.
fn bindings() -> Result<Vec<(PathBuf, String)>> {
    // Asked when it runs: the binary may have been built for another checkout.
    let plugins = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run it as `cargo xtask bindings`")?;
    let plugins = Path::new(&plugins).join("..");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(plugins.join("../wit"))?;
    let plugin = resolve.select_world(&[package], Some("plugin"))?;
    let streamer = resolve.push_str("streamer.wit", STREAMER)?;
    let streamer = resolve.select_world(&[streamer], Some("streamer"))?;
    let keeper = resolve.push_str("keeper.wit", KEEPER)?;
    let keeper = resolve.select_world(&[keeper], Some("keeper"))?;
    let outside = resolve.push_str("outside.wit", OUTSIDE)?;
    let http = resolve.select_world(&[outside], Some("http"))?;
    let assets = resolve.select_world(&[outside], Some("assets"))?;
    let file = |name: &str| plugins.join("sdk/src").join(name);
    Ok(vec![
        (file("bindings.rs"), generate(&mut resolve.clone(), plugin, Vec::new())?),
        (file("streaming.rs"), generate(&mut resolve.clone(), streamer, imports())?),
        (file("session.rs"), generate(&mut resolve.clone(), keeper, imports())?),
        (file("http/bindings.rs"), generate(&mut resolve.clone(), http, Vec::new())?),
        (file("assets/bindings.rs"), generate(&mut resolve, assets, Vec::new())?),
    ])
}

/// The export alone, for the linker puts it together with that of the other world.
const STREAMER: &str = "package vespid:sdk; world streamer { export vespid:model/streaming@0.1.0; }";

const KEEPER: &str = "package vespid:keeping; world keeper { export vespid:model/session@0.1.0; }";

/// What is taken of WASI.
const OUTSIDE: &str = include_str!("../outside.wit");

/// What `streaming.rs` and `session.rs` share with `bindings.rs`.
fn imports() -> Vec<(String, WithOption)> {
    let shared = [
        ("wasi:nn/tensor@0.2.0-rc-2024-10-28", "wasi::nn::tensor"),
        ("vespid:model/tensors@0.1.0", "vespid::model::tensors"),
        ("vespid:model/types@0.1.0", "vespid::model::types"),
    ];
    let path = |path| WithOption::Path(format!("crate::bindings::{path}"));
    shared.map(|(interface, module)| (interface.to_owned(), path(module))).into()
}

fn generate(resolve: &mut Resolve, world: WorldId, with: Vec<(String, WithOption)>) -> Result<String> {
    let options = Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        export_macro_name: Some(format!("__export_{}", resolve.worlds[world].name)),
        with,
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(resolve, world, &mut files)?;
    let (_, bindings) = files.iter().next().ok_or("the generator wrote no file")?;
    Ok(std::str::from_utf8(bindings)?.to_owned())
}
