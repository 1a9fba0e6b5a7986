//! What the commands need to know of a `model.toml`. It is read and validated as the server does it, so that a mistake
//! shows when the package is built and not when it is pushed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vespid_package::oci::Reference;
use vespid_package::{GraphManifest, PackagePath};
use vespid_types::{ModelName, Version};

use crate::failure::{Failure, Hint};

/// The manifest's name, in a folder and in a package.
pub(crate) const FILE: &str = vespid_package::MANIFEST_FILE;

/// The part of a manifest that says what a package holds.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) name: ModelName,
    pub(crate) version: Version,
    /// The component's file name in the package.
    pub(crate) plugin: Option<String>,
    /// The names in the package of all other files (graphs, their weights, labels), sorted, each once.
    pub(crate) files: Vec<String>,
    /// A folder of the package all of whose files belong to it.
    pub(crate) folder: Option<PackagePath>,
    /// Where the component is fetched from where the folder does not hold it.
    pub(crate) plugin_source: Option<Reference>,
    /// The same of graphs and their weights, by their names in the package.
    pub(crate) sources: BTreeMap<String, (Reference, PackagePath)>,
}

impl Manifest {
    /// Reads a manifest's text.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let manifest = vespid_package::Manifest::parse(text)
            .hint("the model cannot be packed", format!("correct {FILE} where the message says"))?;
        let files = |graph: &GraphManifest| [Some(graph.file.clone()), graph.weights.clone()];
        let files = manifest.graphs.iter().flat_map(files).flatten().chain(manifest.labels.values().cloned());
        let files = files.chain(manifest.warmups.iter().map(|warmup| warmup.case.clone()));
        let mut files: Vec<String> = files.map(|file| file.to_string()).collect();
        files.sort();
        files.dedup();
        let sources = manifest.graphs.iter().filter_map(|graph| Some((graph, graph.source.as_ref()?)));
        let sources = sources.flat_map(|(graph, source)| {
            let files = [Some(&graph.file), graph.weights.as_ref()].into_iter().flatten();
            files.map(|file| (file.to_string(), (source.clone(), file.clone())))
        });
        let sources = sources.collect();
        let plugin = manifest.plugin.map(|file| file.to_string());
        if plugin.iter().chain(&files).any(|file| file == FILE) {
            return Err(Failure::new(format!("{FILE} names itself as a part of the model"))
                .hint("name the component or the graph"));
        }
        let folder = manifest.grants.folder;
        let (name, version, plugin_source) = (manifest.name, manifest.version, manifest.plugin_source);
        Ok(Self { name, version, plugin, files, folder, plugin_source, sources })
    }

    /// Whether the package holds this file besides its plugin.
    pub(crate) fn holds(&self, file: &str) -> bool {
        self.files.iter().any(|held| held == file)
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
            encoding = "onnx"
            [[graph]]
            name = "again"
            file = "a.onnx"
            encoding = "onnx"
            [[graph]]
            name = "in two files"
            file = "c.xml"
            weights = "c.bin"
            encoding = "openvino"
            [limits]
            memory = "64MiB"
            [labels]
            y = "labels.txt"
        "#;
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.name.as_str(), "file-type");
        assert_eq!(manifest.version.to_string(), "3");
        assert_eq!(manifest.plugin.as_deref(), Some("file_type.wasm"));
        assert_eq!(manifest.files, ["a.onnx", "c.bin", "c.xml", "graphs/b.onnx", "labels.txt"]);
    }

    #[test]
    fn what_the_server_would_refuse_is_refused() {
        let graph = |file: &str| {
            let model = "[model]\nname = 'm'\nversion = '1'\n";
            Manifest::parse(&format!("{model}[[graph]]\nname = 'g'\nencoding = 'onnx'\nfile = '{file}'"))
        };
        assert!(graph("a.onnx").is_ok());
        for file in ["../a.onnx", "/etc/passwd", "", "a/../../b", "model.toml"] {
            assert!(graph(file).is_err(), "{file}");
        }
    }
}
