//! What the commands need to know of a `model.toml`. The server's reading of it is the authority: what is refused
//! here is what would keep a package from being put together.

use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;
use vespid_types::{ModelName, Version};

use crate::failure::{Failure, Hint};

/// The manifest's name, in a folder and in a package.
pub(crate) const FILE: &str = "model.toml";

/// The part of a manifest that says what a package holds.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) name: ModelName,
    pub(crate) version: Version,
    /// The component's file name in the package.
    pub(crate) plugin: Option<String>,
    /// The graphs' file names in the package, sorted, each once.
    pub(crate) graphs: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    model: RawModel,
    #[serde(default)]
    graph: Vec<RawGraph>,
}

#[derive(Deserialize)]
struct RawModel {
    name: ModelName,
    version: Version,
    plugin: Option<String>,
}

#[derive(Deserialize)]
struct RawGraph {
    file: String,
}

impl Manifest {
    /// Reads a manifest's text.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let raw: Raw = toml::from_str(text).hint(
            format!("{FILE} cannot be used"),
            "it needs [model] with name and version, and for each [[graph]] a file",
        )?;
        let mut graphs: Vec<String> = raw.graph.into_iter().map(|graph| graph.file).collect();
        graphs.sort();
        graphs.dedup();
        for file in raw.model.plugin.iter().chain(&graphs) {
            check_path(file)?;
        }
        let RawModel { name, version, plugin } = raw.model;
        Ok(Self { name, version, plugin, graphs })
    }

    /// Reads the manifest of a model's folder; returns it with its text, which goes into the package unchanged.
    pub(crate) fn read(folder: &Path) -> Result<(Self, String), Failure> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).hint(
            format!("{} cannot be read", path.display()),
            "name the folder of a model; `vespid new NAME` writes one to start from",
        )?;
        Ok((Self::parse(&text)?, text))
    }
}

/// A file of a package is named by a relative path that stays in the package.
fn check_path(file: &str) -> Result<(), Failure> {
    let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !file.is_empty() && file != FILE {
        return Ok(());
    }
    Err(Failure::new(format!("{FILE} names the file '{file}', which cannot be in a package"))
        .hint("put it in the model's folder and name it by its path from there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_holds_is_read() {
        let text = r#"
            [model]
            name = "file-type"
            version = "3"
            plugin = "file_type.wasm"
            [[graph]]
            name = "b"
            file = "graphs/b.onnx"
            encoding = "onnx"
            [[graph]]
            name = "a"
            file = "a.onnx"
            [[graph]]
            name = "again"
            file = "a.onnx"
            [limits]
            memory = "64MiB"
        "#;
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.name.as_str(), "file-type");
        assert_eq!(manifest.version.to_string(), "3");
        assert_eq!(manifest.plugin.as_deref(), Some("file_type.wasm"));
        assert_eq!(manifest.graphs, ["a.onnx", "graphs/b.onnx"]);
    }

    #[test]
    fn files_stay_in_the_folder() {
        for file in ["../a.onnx", "/etc/passwd", "", "a/../../b", "model.toml"] {
            let text = format!("[model]\nname = 'm'\nversion = '1'\n[[graph]]\nname = 'g'\nfile = '{file}'");
            assert!(Manifest::parse(&text).is_err(), "{file}");
        }
    }
}
