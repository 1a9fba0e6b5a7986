//! `vespid inspect`: what is in a model, and what it asks for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use comfy_table::Cell;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use vespid_package::Record;
use vespid_types::{Digest, Signature, TensorSpec};

use super::build;
use crate::args::Output;
use crate::failure::{Failure, Hint};
use crate::local::{Libraries, Local};
use crate::pack;
use crate::predict::shape;
use crate::registry::RegistryArgs;
use crate::source::Package;
use crate::ui;

const AFTER_HELP: &str = "\
Examples:
  vespid inspect scaler                      builds the folder first
  vespid inspect scaler-1.tar --output json
  vespid inspect scaler/scaler.wasm --wit    the component's interfaces, in full";

/// Show what is in a model: its files, what its plugin imports and exports, what it takes and gives
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InspectArgs {
    /// A model's folder, a package that `vespid build` wrote, or a component
    #[arg(value_name = "DIR|TAR|WASM")]
    model: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Print the component's interfaces as WIT, and nothing else
    #[arg(long)]
    wit: bool,
    #[command(flatten)]
    libraries: Libraries,
}

/// What was found.
#[derive(Serialize)]
struct Inspected {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Of the archive that `vespid build` writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archive>,
    files: Vec<FileEntry>,
    grants: Grants,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<Plugin>,
    #[serde(flatten)]
    signature: Described,
}

#[derive(Serialize)]
struct Archive {
    /// The package's digest, by which stores and registries know it.
    digest: String,
    size: u64,
    sha256: String,
}

#[derive(Serialize)]
struct FileEntry {
    path: String,
    size: u64,
    sha256: String,
}

/// What model.toml asks for under [grants]: by key.
type Grants = BTreeMap<&'static str, Vec<String>>;

#[derive(Serialize)]
struct Plugin {
    kind: Kind,
    imports: Vec<String>,
    exports: Vec<String>,
    /// Whether it answers in pieces.
    streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    wit: Option<String>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Component,
    Command,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Described {
    Signature(Signature),
    /// Why it is not known.
    SignatureUnknown(String),
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let subject = Subject::open(&args.model, &args.libraries.registries)?;
    let plugin = subject.code.as_ref().map(plugin).transpose()?;
    if args.wit {
        let wit = plugin.and_then(|plugin| plugin.wit);
        let wit = wit.ok_or_else(|| Failure::new(format!("{} holds no component", args.model.display())))?;
        return Ok(ui::result(wit.trim_end())?);
    }
    vespid_telemetry::Log::start_with(vespid_telemetry::LogFormat::Text, "off")?;
    let signature = match describe(args, &subject.package) {
        Ok(signature) => Described::Signature(signature),
        Err(error) => Described::SignatureUnknown(format!("{error:#}")),
    };
    let inspected = Inspected {
        name: subject.named.then(|| subject.package.name.to_string()),
        version: subject.named.then(|| subject.package.version.to_string()),
        archive: subject.archive,
        files: subject.package.files.iter().map(|(path, content)| entry(path.as_str(), content)).collect(),
        grants: subject.grants,
        plugin,
        signature,
    };
    match args.output {
        Output::Json => Ok(ui::result(serde_json::to_string_pretty(&inspected)?)?),
        Output::Table => print(&inspected),
    }
}

/// What is looked at.
struct Subject {
    package: Package,
    /// Whether it has a manifest, and so a name.
    named: bool,
    archive: Option<Archive>,
    code: Option<Bytes>,
    grants: Grants,
}

impl Subject {
    fn open(path: &Path, registries: &RegistryArgs) -> anyhow::Result<Self> {
        if path.extension().is_some_and(|extension| extension == "wasm") {
            return Ok(Self::component(path)?);
        }
        let packed = packed(path, registries)?;
        let path = packed.as_ref().map_or(path.to_owned(), |folder| folder.path().join(PACKED));
        let package = Package::open(&path, registries)?;
        let text = package.files.get(&crate::manifest::FILE.parse()?);
        let text = String::from_utf8_lossy(text.map(|text| &text[..]).unwrap_or_default()).into_owned();
        let manifest = vespid_package::Manifest::parse(&text)?;
        let mut grants = Grants::new();
        for (key, value) in manifest.grants.list() {
            grants.entry(key).or_default().push(value);
        }
        let content = fs::read(&path)?;
        let archive = Some(Archive {
            digest: digest(&package)?.to_string(),
            size: content.len() as u64,
            sha256: hex::encode(Sha256::digest(&content)),
        });
        let code = package.code().cloned();
        Ok(Self { package, named: true, archive, code, grants })
    }

    /// A component without a package is looked at as one of its own.
    fn component(path: &Path) -> Result<Self, Failure> {
        let code: Bytes =
            fs::read(path).hint(format!("{} cannot be read", path.display()), "check the path")?.into();
        let unnamed = "this is a name";
        let plugin = path.file_name().unwrap_or_default().display().to_string();
        let plugin = plugin.parse().hint("the component cannot be looked at", "rename its file")?;
        let package = Package {
            name: "component".parse().hint(unnamed, unnamed)?,
            version: "1".parse().hint(unnamed, unnamed)?,
            files: [(Clone::clone(&plugin), code.clone())].into(),
            plugin: Some(plugin),
        };
        Ok(Self { package, named: false, archive: None, code: Some(code), grants: Grants::default() })
    }
}

/// The package's name in a folder of its own.
const PACKED: &str = "package.tar";

/// The package that `vespid build` makes of a folder; none where the path is that of a package.
fn packed(path: &Path, registries: &RegistryArgs) -> anyhow::Result<Option<TempDir>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let (_, contents) = build::collect(path, registries)?;
    let folder = tempfile::tempdir()
        .hint("there is no place for a temporary file", "check that the folder TMPDIR can be written to")?;
    pack::write(&contents, &folder.path().join(PACKED))?;
    Ok(Some(folder))
}

/// The package's digest: that of its record.
fn digest(package: &Package) -> anyhow::Result<Digest> {
    let folder = tempfile::tempdir()
        .hint("there is no place for temporary files", "check that the folder TMPDIR can be written to")?;
    for (path, content) in &package.files {
        let place = folder.path().join(path);
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(place, content)?;
    }
    let (record, _) = Record::of_folder(folder.path())?;
    Ok(record.digest())
}

fn entry(path: &str, content: &Bytes) -> FileEntry {
    FileEntry {
        path: path.to_owned(),
        size: content.len() as u64,
        sha256: hex::encode(Sha256::digest(content)),
    }
}

/// Loads the model, which runs its plugin for the first time.
fn describe(args: &InspectArgs, package: &Package) -> anyhow::Result<Signature> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    let described = runtime.block_on(async {
        let local = Local::start(&args.libraries, 4).await?;
        Ok(local.load(package).await?.signature().clone())
    });
    runtime.shutdown_background();
    described
}

/// What a component says of itself; of a command, a core module, what it imports.
fn plugin(code: &Bytes) -> Result<Plugin, Failure> {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if code.starts_with(MODULE) {
        return Ok(Plugin {
            kind: Kind::Command,
            imports: Vec::new(),
            exports: Vec::new(),
            streams: false,
            wit: None,
        });
    }
    let undecodable = |error: anyhow::Error| {
        Failure::new(format!("the plugin is not a component: {error:#}"))
            .hint("`plugin` in model.toml names a component or a command")
    };
    let decoded = wit_component::decode(code).map_err(undecodable)?;
    let wit_component::DecodedWasm::Component(resolve, world) = &decoded else {
        return Err(Failure::new("the plugin is a description of interfaces and not a component"));
    };
    let mut printer = wit_component::WitPrinter::default();
    printer.print(resolve, decoded.package(), &[]).map_err(undecodable)?;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    if let Some(world) = resolve.worlds.get(*world) {
        // Without the types that interfaces share, which stand beside them in a world.
        let names = |items: &wit_parser::IndexMap<wit_parser::WorldKey, wit_parser::WorldItem>| {
            let items = items.iter().filter(|(_, item)| !matches!(item, wit_parser::WorldItem::Type { .. }));
            items.map(|(key, _)| resolve.name_world_key(key)).collect::<Vec<_>>()
        };
        (imports, exports) = (names(&world.imports), names(&world.exports));
    }
    let streams = exports.iter().any(|export| export.starts_with("vespid:model/streaming"));
    Ok(Plugin { kind: Kind::Component, imports, exports, streams, wit: Some(printer.output.to_string()) })
}

fn print(inspected: &Inspected) -> anyhow::Result<()> {
    let Inspected { name, version, archive, files, grants, plugin, signature } = inspected;
    if let (Some(name), Some(version)) = (name, version) {
        ui::result(format!("model      {name}"))?;
        ui::result(format!("version    {version}"))?;
    }
    if let Some(Archive { digest, size, sha256 }) = archive {
        ui::result(format!("digest     {digest}"))?;
        ui::result(format!("size       {}", ui::size(*size)))?;
        ui::result(format!("sha256     {sha256}"))?;
    }
    if let Some(Plugin { kind, streams, .. }) = plugin {
        ui::result(match (kind, streams) {
            (Kind::Command, _) => "plugin     a command",
            (Kind::Component, true) => "plugin     a component that answers in pieces",
            (Kind::Component, false) => "plugin     a component",
        })?;
    }
    for (key, values) in grants {
        ui::result(format!("asks for   {key} {}", values.join(", ")))?;
    }
    ui::result("")?;
    let mut table = ui::table(["FILE", "SIZE", "SHA256"]);
    for FileEntry { path, size, sha256 } in files {
        table.add_row([Cell::new(ui::clean(path)), Cell::new(ui::size(*size)), Cell::new(sha256)]);
    }
    ui::print_table(&table)?;
    ui::result("")?;
    match signature {
        Described::Signature(signature) => print_signature(signature)?,
        Described::SignatureUnknown(reason) => {
            ui::result(format!("what it takes and gives is not known: {}", ui::clean(reason)))?;
        }
    }
    for (title, names) in
        plugin.iter().flat_map(|plugin| [("IMPORTS", &plugin.imports), ("EXPORTS", &plugin.exports)])
    {
        if !names.is_empty() {
            ui::result("")?;
            let mut table = ui::table([title]);
            names.iter().for_each(|name| {
                table.add_row([ui::clean(name)]);
            });
            ui::print_table(&table)?;
        }
    }
    Ok(())
}

fn print_signature(signature: &Signature) -> std::io::Result<()> {
    let mut table = ui::table(["", "NAME", "DATATYPE", "SHAPE"]);
    let mut add = |kind: &str, specs: &[TensorSpec]| {
        for spec in specs {
            let kind = if spec.optional { format!("{kind}, optional") } else { kind.to_owned() };
            let shape = shape::text(&spec.shape);
            table.add_row([kind, ui::clean(&spec.name), spec.datatype.to_string(), shape]);
        }
    };
    add("input", &signature.inputs);
    add("output", &signature.outputs);
    ui::print_table(&table)
}
