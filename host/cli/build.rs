//! Embeds the plugin SDK's sources, which `vespid new` puts next to the plugins that it writes.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let sdk = fs::canonicalize(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../plugins/sdk"))
        .map_err(|error| format!("the plugin SDK is not in its place, plugins/sdk: {error}"))?;
    let mut files = vec![sdk.join("Cargo.toml")];
    collect(&sdk.join("src"), &mut files)?;
    files.sort();
    let mut code = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&sdk)?.to_str().ok_or("a file's name is not UTF-8")?.replace('\\', "/");
        writeln!(code, "    ({name:?}, include_str!({file:?})),")?;
    }
    code.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("sdk.rs"), code)?;
    // Only what is embedded is watched: a target folder beside it is neither.
    println!("cargo::rerun-if-changed={}", sdk.join("Cargo.toml").display());
    println!("cargo::rerun-if-changed={}", sdk.join("src").display());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
