//! `vespid build`: compiles a plugin and packs a model's folder into one file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use vespid_ingress::cases::{self, Case};

use crate::failure::{Failure, Hint};
use crate::guest;
use crate::manifest::{self, Manifest};
use crate::pack::{self, Contents, Packed};
use crate::registry::RegistryArgs;
use crate::sources::Sources;
use crate::ui::{self, GOOD};

const AFTER_HELP: &str = "\
Examples:
  vespid build scaler                        writes ./scaler-1.tar
  vespid build scaler --output /srv/s.tar

The folder's files say what language the plugin is in: Cargo.toml for Rust, plugin.py for Python, plugin.js for JavaScript; \
with none of them the .wasm that model.toml names is taken as it is. What makes components of Python and JavaScript is \
installed into the user's cache on first use, and a component that was made of the same source before is taken from there.

The package holds model.toml and what it names (the component, graphs, labels, the files of grants.folder), the recorded \
cases, and nothing else. Equal contents give equal bytes. A file that the folder does not hold is fetched from the \
registry that model.toml names for it.";

/// Compile a model's plugin and pack its folder into one file
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BuildArgs {
    /// The model's folder: model.toml, the graphs, and where there is a plugin its source or its .wasm file
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where the package goes [default: NAME-VERSION.tar here]
    #[arg(short, long, value_name = "FILE.tar")]
    output: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let (manifest, contents) = collect(&args.folder, &args.registry)?;
    let default = || PathBuf::from(format!("{}-{}.tar", manifest.name, manifest.version));
    let output = args.output.clone().unwrap_or_else(default);
    let Packed { size, sha256 } = pack::write(&contents, &output)?;
    ui::note(format!("{} {} version {}", ui::styled(GOOD, "built"), manifest.name, manifest.version));
    ui::result(format!("path    {}", output.display()))?;
    ui::result(format!("size    {}", ui::size(size)))?;
    ui::result(format!("sha256  {sha256}"))?;
    Ok(())
}

/// Compiles what there is to compile, fetches what is to be fetched, and says where everything that the package of
/// `folder` holds lies.
pub(crate) fn collect(folder: &Path, registry: &RegistryArgs) -> anyhow::Result<(Manifest, Contents)> {
    let (manifest, text) = Manifest::read(folder)?;
    let mut sources = Sources::new(registry);
    let mut files = BTreeMap::new();
    // These first: their absence should show before a compilation and not after.
    for name in &manifest.files {
        let mut path = folder.join(name);
        if !path.is_file() {
            path = match manifest.sources.get(name) {
                Some((source, file)) => sources.graph(source, file)?,
                None => return Err(missing(&path, name, folder).into()),
            };
        }
        files.insert(name.clone(), path);
    }
    if let Some(inside) = &manifest.folder {
        let found = vespid_package::folder_files(folder, inside);
        let found = found.hint(
            format!("the files of {} cannot be packed", folder.join(inside).display()),
            format!("put them there, or change grants.folder in {}", folder.join(manifest::FILE).display()),
        )?;
        files.extend(found.into_iter().map(|file| (file.to_string(), folder.join(&file))));
    }
    for (name, path) in cases(folder)? {
        files.insert(name, path);
    }
    if let Some(name) = &manifest.plugin {
        let own = folder.join(name);
        let path = match (guest::build(folder, &manifest)?, &manifest.plugin_source) {
            (Some(built), _) => built,
            (None, Some(source)) if !own.is_file() => sources.plugin(source)?,
            (None, _) => own,
        };
        check_plugin(&path)?;
        files.insert(name.clone(), path);
    }
    Ok((manifest, Contents { manifest: text, files }))
}

/// The recorded cases, and the files that they name.
fn cases(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let folder = folder.join(cases::FOLDER);
    let mut files = BTreeMap::new();
    for path in found(&folder)? {
        let text = fs::read(&path).hint(format!("{} cannot be read", path.display()), "check its rights")?;
        let named = Case::parse(&text).and_then(|case| case.files(&folder));
        let named = named.hint(
            format!("the case {} cannot be read", path.display()),
            "`vespid test --help` says what a case is",
        )?;
        for file in named.into_iter().chain([path]) {
            if !file.is_file() {
                return Err(Failure::new(format!("the file {} is missing", file.display()))
                    .hint("put it there, or change the case that names it"));
            }
            if let Ok(name) = file.strip_prefix(&folder) {
                let name = name.display().to_string();
                files.insert(format!("{}/{name}", cases::FOLDER), file);
            }
        }
    }
    Ok(files)
}

/// The cases in a folder, by name; none where it is not there.
pub(crate) fn found(cases: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !cases.is_dir() {
        return Ok(Vec::new());
    }
    let unreadable = || format!("{} cannot be read", cases.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(cases).hint(unreadable(), "check its rights")? {
        let path = entry.hint(unreadable(), "check its rights")?.path();
        if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn missing(path: &Path, name: &str, folder: &Path) -> Failure {
    Failure::new(format!("the file {} is missing", path.display()))
        .hint(format!("put it there, or change \"{name}\" in {}", folder.join(manifest::FILE).display()))
}

/// Looks at the first bytes: what is no WebAssembly should show before it is sent.
fn check_plugin(path: &Path) -> Result<(), Failure> {
    const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    /// A command's.
    const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";
    let mut start = [0; 8];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).hint(
        format!("the plugin {} cannot be read", path.display()),
        "put the component or the command there, or its source beside model.toml: Cargo.toml, plugin.py or plugin.js",
    )?;
    match start {
        COMPONENT | MODULE => Ok(()),
        _ => Err(Failure::new(format!("{} is not WebAssembly in binary form", path.display()))
            .hint("`plugin` in model.toml names the compiled component or command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(manifest: &str, files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.toml"), manifest).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    const MODEL: &str = "[model]\nname = 'm'\nversion = '1'\nplugin = 'm.wasm'\n[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'";

    #[test]
    fn only_what_the_manifest_names_is_packed() {
        let files: [(&str, &[u8]); 3] =
            [("m.wasm", b"\0asm\x0d\0\x01\0..."), ("g.onnx", b"g"), ("notes.txt", b"n")];
        let folder = folder(MODEL, &files);
        let (_, contents) = collect(folder.path(), &RegistryArgs::default()).unwrap();
        assert_eq!(contents.files.keys().collect::<Vec<_>>(), ["g.onnx", "m.wasm"]);
    }

    #[test]
    fn the_files_of_a_granted_folder_are_packed() {
        let manifest = format!("{MODEL}\n[grants]\nfolder = 'assets'");
        let folder = folder(&manifest, &[("m.wasm", b"\0asm\x0d\0\x01\0..."), ("g.onnx", b"g")]);
        let error = collect(folder.path(), &RegistryArgs::default()).err().unwrap();
        assert!(error.to_string().contains("assets cannot be packed"), "{error}");
        fs::create_dir_all(folder.path().join("assets/deep")).unwrap();
        fs::write(folder.path().join("assets/deep/a.txt"), "a").unwrap();
        let (_, contents) = collect(folder.path(), &RegistryArgs::default()).unwrap();
        assert_eq!(contents.files.keys().collect::<Vec<_>>(), ["assets/deep/a.txt", "g.onnx", "m.wasm"]);
    }

    #[test]
    fn a_missing_graph_is_named() {
        let folder = folder(MODEL, &[("m.wasm", b"\0asm\x0d\0\x01\0...")]);
        let error = collect(folder.path(), &RegistryArgs::default()).err().unwrap();
        assert!(error.to_string().contains("g.onnx is missing"), "{error}");
    }

    #[test]
    fn components_and_commands_are_plugins() {
        for (code, plugin) in
            [(&b"\0asm\x0d\0\x01\0..."[..], true), (b"\0asm\x01\0\0\0...", true), (b"#!/bin/sh", false)]
        {
            let folder = folder(MODEL, &[("m.wasm", code), ("g.onnx", b"g")]);
            match collect(folder.path(), &RegistryArgs::default()) {
                Ok(_) => assert!(plugin),
                Err(error) => assert!(!plugin && error.to_string().contains("is not WebAssembly"), "{error}"),
            }
        }
    }
}
