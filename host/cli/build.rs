//! Embeds files of the repository: the contract with plugins, the SDKs that they are built with, and the templates of
//! `vespid new`.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What is embedded: the name that it has in `src/embedded.rs`, its folder, and the files and folders of that.
const EMBEDDED: [(&str, &str, &[&str]); 7] = [
    ("wit", "../../wit", &["model.wit", "deps"]),
    ("rust-sdk", "../../plugins/sdk", &["Cargo.toml", "src"]),
    ("python-sdk", "../../plugins/python/vespid", &[]),
    ("js-sdk", "../../plugins/js/vespid", &[]),
    ("rust-template", "templates/rust", &[]),
    ("python-template", "templates/python", &[]),
    ("js-template", "templates/js", &[]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    for (name, folder, parts) in EMBEDDED {
        let folder = fs::canonicalize(here.join(folder))
            .map_err(|error| format!("{folder}, which is to be embedded, is not in its place: {error}"))?;
        let mut files = Vec::new();
        // Only what is embedded is watched: a target folder beside it is neither.
        let parts = if parts.is_empty() {
            vec![folder.clone()]
        } else {
            parts.iter().map(|part| folder.join(part)).collect()
        };
        for part in parts {
            println!("cargo::rerun-if-changed={}", part.display());
            collect(&part, &mut files)?;
        }
        files.sort();
        embed(name, &folder, &files)?;
    }
    Ok(())
}

fn embed(name: &str, folder: &Path, files: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let mut code = String::from("&[\n");
    for file in files {
        let name =
            file.strip_prefix(folder)?.to_str().ok_or("a file's name is not UTF-8")?.replace('\\', "/");
        writeln!(code, "    ({name:?}, include_str!({file:?})),")?;
    }
    code.push_str("]\n");
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join(format!("{name}.rs")), code)?)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if !path.ends_with("__pycache__") {
            collect(&path, files)?;
        }
    }
    Ok(())
}
