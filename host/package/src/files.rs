//! Packages that come as loose files, without a tar around them.
//!
//! Contract: where `model.toml` is among them, it is the manifest; else one is made from the names: the one `.wasm` is the
//! plugin, each `.onnx` is a graph of the name before the dot, and so is each `.xml` with the `.bin` of that name. The
//! same limits hold as for archives. Left out on purpose: guessing at files with other names; they are there, and nothing
//! reads them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use vespid_types::{Encoding, ModelName, Version};

use crate::archive::{ArchiveLimits, create_file};
use crate::manifest::{Batching, GraphManifest, Instances, Limits, Manifest, one};
use crate::{Grants, PackageError, PackagePath};

/// The files of one package.
pub type PackageFiles = BTreeMap<PackagePath, Bytes>;

/// Writes the files into the folder `into`, which exists and is empty.
pub(crate) fn write(files: &PackageFiles, into: &Path, limits: ArchiveLimits) -> Result<(), PackageError> {
    if files.len() > limits.entries {
        let reason = format!("{} files are more than a package may hold ({})", files.len(), limits.entries);
        return Err(PackageError::Files { reason });
    }
    let mut left = limits.size.as_u64();
    for (path, content) in files {
        left = left.checked_sub(content.len() as u64).ok_or(PackageError::TooLarge { limit: limits.size })?;
        let refused = |reason: String| PackageError::Entry { entry: path.to_string(), reason };
        create_file(into, path, refused)?
            .write_all(content)
            .map_err(PackageError::io("write", into.join(path)))?;
    }
    Ok(())
}

impl Manifest {
    /// The manifest of a package that brings none.
    pub(crate) fn made(
        name: &ModelName,
        version: Version,
        files: &PackageFiles,
    ) -> Result<Self, PackageError> {
        let wrong = |reason: &str| PackageError::Files { reason: reason.to_owned() };
        let mut plugins = files.keys().filter(|path| path.as_str().ends_with(".wasm"));
        let plugin = plugins.next().cloned();
        if plugins.next().is_some() {
            return Err(wrong("more than one .wasm is there: say in a model.toml which is the plugin"));
        }
        let graphs: Vec<GraphManifest> = files.keys().filter_map(|path| graph(path, files)).collect();
        match (&plugin, graphs.len()) {
            (None, 0) => {
                return Err(wrong(
                    "neither a model.toml, nor a .wasm, nor a graph (.onnx, or .xml with its .bin) is there",
                ));
            }
            (None, 2..) => {
                return Err(wrong("more than one graph is there, and no plugin that would choose"));
            }
            _ => {}
        }
        let manifest = Self {
            name: name.clone(),
            version,
            plugin,
            plugin_source: None,
            graphs,
            inputs: Vec::new(),
            outputs: Vec::new(),
            limits: Limits::default(),
            instances: Instances::default(),
            sequences: None,
            grants: Grants::default(),
            config: BTreeMap::new(),
            labels: BTreeMap::new(),
            warmups: Vec::new(),
        };
        manifest.check()?;
        Ok(manifest)
    }
}

/// The graph that a file is, where it is one.
fn graph(path: &PackagePath, files: &PackageFiles) -> Option<GraphManifest> {
    let (stem, extension) = path.as_str().rsplit_once('.')?;
    let (encoding, weights) = match extension {
        "onnx" => (Encoding::Onnx, None),
        "xml" => {
            let weights: PackagePath = format!("{stem}.bin").parse().ok()?;
            (Encoding::Openvino, Some(files.contains_key(&weights).then_some(weights)?))
        }
        _ => return None,
    };
    Some(GraphManifest {
        name: stem.to_owned(),
        file: path.clone(),
        encoding,
        weights,
        source: None,
        device: Default::default(),
        backend: None,
        provider: None,
        threads: None,
        instances: one(),
        batching: Batching::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> Result<Manifest, String> {
        let files = names.iter().map(|name| (name.parse().unwrap(), Bytes::new())).collect();
        let manifest = Manifest::made(&"m".parse().unwrap(), "3".parse().unwrap(), &files);
        manifest.map_err(|error| error.to_string())
    }

    #[test]
    fn the_names_of_the_files_say_what_they_are() {
        let manifest = made(&["model.xml", "model.bin", "labels.txt"]).unwrap();
        assert_eq!((manifest.version.to_string().as_str(), manifest.plugin.is_none()), ("3", true));
        let graph = &manifest.graphs[0];
        assert_eq!((graph.name.as_str(), graph.encoding), ("model", Encoding::Openvino));
        assert_eq!(graph.weights.as_ref().unwrap().as_str(), "model.bin");

        let manifest = made(&["p.wasm", "a.onnx", "b.onnx"]).unwrap();
        assert_eq!(manifest.plugin.unwrap().as_str(), "p.wasm");
        let names: Vec<_> = manifest.graphs.iter().map(|graph| graph.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_makes_no_package_is_told() {
        for (names, expected) in [
            (&["a.txt"][..], "neither a model.toml"),
            // Without its weights it is no graph.
            (&["a.xml"], "neither a model.toml"),
            (&["a.onnx", "b.onnx"], "more than one graph"),
            (&["a.wasm", "b.wasm"], "more than one .wasm"),
        ] {
            let error = made(names).unwrap_err();
            assert!(error.contains(expected), "{names:?}: {error}");
        }
    }
}
