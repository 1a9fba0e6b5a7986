//! A component of a plugin in Python or JavaScript.
//!
//! Contract: the tool sees a copy of the sources, the interfaces of this binary's `wit/`, and the SDK: the project's own
//! folder `vespid`, or else the one in this binary. What comes out is kept in the user's cache under the digest of all
//! that, so that it is made once. Cost: some ten seconds for Python and one for JavaScript the first time, and the reading
//! of the sources after that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use vespid_toolchain::{Installed, Tool, cache_dir};

use super::Language;
use super::sources::{self, Sources};
use crate::embedded::{self, Files};
use crate::failure::{Failure, Hint};
use crate::manifest::Manifest;
use crate::ui;

/// Components that are kept; of Python each takes some 18 MB.
const KEPT: usize = 32;
/// Lines of what a tool says that are shown.
const SHOWN: usize = 40;

/// Builds the plugin in `folder` with `tool`; the path of the component.
pub(super) fn build(folder: &Path, manifest: &Manifest, tool: Tool) -> Result<PathBuf, Failure> {
    let shown = folder.display().to_string();
    let sources = sources::collect(folder, manifest)?;
    let world = if streams(folder, tool)? { "streaming-plugin" } else { "plugin" };
    let key = digest(&sources, tool, world)?;
    let place = Builds::open()?.place(&key);
    if place.is_file() {
        touch(&place);
        return Ok(place);
    }
    let spinner = ui::spinner(format!("building {shown}"));
    let built = (|| {
        let installed = tool
            .ensure(&mut |line| {
                ui::progress(&spinner, line);
            })
            .hint(
                format!("{shown} is a plugin in {}, which cannot be built here", tool.language()),
                "`vespid doctor` lists what is there and what is missing",
            )?;
        spinner.set_message(format!("building {shown} with {tool}"));
        let work = Work { sources: &sources, world, tool, key: &key, shown: &shown };
        work.make(&installed, &place)
    })();
    spinner.finish_and_clear();
    built.map(|()| place)
}

/// Whether the plugin answers in pieces: it has a function for it at its top level.
fn streams(folder: &Path, tool: Tool) -> Result<bool, Failure> {
    let (language, starts) = match tool {
        Tool::ComponentizePy => (Language::Python, &["def predict_stream("][..]),
        Tool::ComponentizeQjs => {
            (Language::JavaScript, &["export function predictStream(", "export function* predictStream("][..])
        }
    };
    let path = folder.join(language.file());
    let text = fs::read_to_string(&path)
        .hint(format!("{} cannot be read", path.display()), "write it as UTF-8 text")?;
    Ok(text.lines().any(|line| starts.iter().any(|start| line.starts_with(start))))
}

fn sdk(tool: Tool) -> Files {
    match tool {
        Tool::ComponentizePy => embedded::PYTHON_SDK,
        Tool::ComponentizeQjs => embedded::JS_SDK,
    }
}

/// The folder of an SDK in a project, and in this binary's files.
const SDK: &str = "vespid/";

fn brings_sdk(sources: &Sources) -> bool {
    sources.keys().any(|name| name.starts_with(SDK))
}

fn digest(sources: &Sources, tool: Tool, world: &str) -> Result<String, Failure> {
    let mut digest = Sha256::new();
    sources::entry(&mut digest, &tool.to_string(), world.as_bytes());
    let sdk = if brings_sdk(sources) { &[] } else { sdk(tool) };
    for (name, text) in embedded::WIT.iter().chain(sdk) {
        sources::entry(&mut digest, name, text.as_bytes());
    }
    Ok(hex::encode(sources::digest(sources, digest)?.finalize()))
}

/// What is to be built.
struct Work<'a> {
    sources: &'a Sources,
    world: &'a str,
    tool: Tool,
    /// The digest of all that goes in.
    key: &'a str,
    /// The folder, for messages.
    shown: &'a str,
}

impl Work<'_> {
    /// Has the tool make `place`.
    fn make(&self, installed: &Installed, place: &Path) -> Result<(), Failure> {
        let Self { sources, world, tool, key, shown } = self;
        let room = tempfile::tempdir().hint(
            "there is no place for temporary files",
            "check that the folder TMPDIR can be written to",
        )?;
        let room = room.path();
        embedded::write(embedded::WIT, &room.join("wit"))?;
        let staged = sources::stage(sources, &room.join(PROJECT))?;
        // What is kept under a digest has to be made of what the digest is of.
        if digest(&staged, *tool, world)? != *key {
            return Err(Failure::new(format!("the files in {shown} changed while they were read"))
                .hint("build it again"));
        }
        let mut command = installed.command();
        match tool {
            Tool::ComponentizePy => python(&mut command, sources, room, world)?,
            Tool::ComponentizeQjs => javascript(&mut command, sources, room, world)?,
        }
        let out = room.join("component.wasm");
        command.arg("--output").arg(&out).current_dir(room.join(PROJECT));
        run(&mut command, *tool, shown)?;
        Builds::open()?.keep(&out, place)
    }
}

/// Where the sources are staged.
const PROJECT: &str = "project";

fn python(command: &mut Command, sources: &Sources, room: &Path, world: &str) -> Result<(), Failure> {
    let sdk = room.join("sdk");
    if !brings_sdk(sources) {
        embedded::write(embedded::PYTHON_SDK, &sdk.join(SDK))?;
    }
    // It takes in the packages of the environment that it runs in; this one has none.
    let environment = room.join("environment");
    fs::create_dir_all(environment.join("lib/site-packages"))
        .hint("the build cannot be prepared", "check the space in TMPDIR")?;
    command.env("VIRTUAL_ENV", environment);
    command.arg("--quiet").arg("--wit-path").arg(room.join("wit"));
    command.args(["--world", &format!("vespid:model/{world}"), "componentize", "vespid.component"]);
    command.args(["--python-path", "."]);
    if sdk.is_dir() {
        command.arg("--python-path").arg(sdk);
    }
    Ok(())
}

fn javascript(command: &mut Command, sources: &Sources, room: &Path, world: &str) -> Result<(), Failure> {
    const ENTRY: &str = ".vespid-entry.js";
    let project = room.join(PROJECT);
    let module = project.join("node_modules").join(SDK);
    let own =
        sources.iter().filter_map(|(name, path)| Some((name.strip_prefix(SDK)?.to_owned(), path.clone())));
    let own: Sources = own.collect();
    if own.is_empty() {
        embedded::write(embedded::JS_SDK, &module)?;
    } else {
        sources::stage(&own, &module)?;
    }
    let streaming =
        if world == "plugin" { "" } else { "export const streaming = component.streaming(plugin);\n" };
    let entry = format!(
        "import * as plugin from \"./plugin.js\";\nimport * as component from \"vespid/component.js\";\n\
         export const model = component.model(plugin);\n{streaming}"
    );
    fs::write(project.join(ENTRY), entry)
        .hint("the build cannot be prepared", "check the space in TMPDIR")?;
    command.arg("--wit").arg(room.join("wit")).args(["--world", world, "--js", ENTRY]);
    command.args(["--sync", "--module-root", "."]);
    Ok(())
}

/// Runs the tool; what it says is shown where it fails.
fn run(command: &mut Command, tool: Tool, shown: &str) -> Result<(), Failure> {
    command.env("RUST_BACKTRACE", "0");
    let output = command.output().hint("the tool does not start", "`vespid doctor` says what is missing")?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = essence(tool, &String::from_utf8_lossy(&said));
    let lines: Vec<&str> = said.lines().collect();
    for line in lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default() {
        ui::note(format!("  {}", ui::clean(line)));
    }
    Err(Failure::new(format!("the plugin in {shown} does not build")).hint("see what is said above"))
}

/// What a tool says of the plugin, without what it says of itself.
fn essence(tool: Tool, said: &str) -> String {
    match tool {
        Tool::ComponentizePy => {
            let said = said.split_once("AssertionError: ").map_or(said, |(_, rest)| rest);
            let said = said.split_once("\nCaused by:").map_or(said, |(before, _)| before);
            // The folder of the sources, as the tool shows it to Python.
            said.replace("File \"/0/", "File \"").trim().to_owned()
        }
        Tool::ComponentizeQjs => {
            let said =
                said.split_once("Failed to evaluate user JavaScript module: ").map_or(said, |(_, rest)| rest);
            let said = said.strip_prefix("Failed to declare JavaScript module: ").unwrap_or(said);
            said.replace("(/plugin.js", "(plugin.js")
                .replace("at /plugin.js", "at plugin.js")
                .trim()
                .to_owned()
        }
    }
}

/// Components that were built.
struct Builds(PathBuf);

impl Builds {
    fn open() -> Result<Self, Failure> {
        let folder = cache_dir()
            .hint("there is no place for what is built", "set VESPID_CACHE to a folder")?
            .join("guest-builds");
        fs::create_dir_all(&folder)
            .hint(format!("{} cannot be created", folder.display()), "set VESPID_CACHE to another folder")?;
        Ok(Self(folder))
    }

    fn place(&self, digest: &str) -> PathBuf {
        self.0.join(format!("{digest}.wasm"))
    }

    /// Puts a component into its place, whole or not at all, and removes those that have not been used for longest.
    fn keep(&self, built: &Path, place: &Path) -> Result<(), Failure> {
        let unwritable = || format!("{} cannot be written", place.display());
        let hint = "check the space left, or set VESPID_CACHE to another folder";
        let mut whole = tempfile::NamedTempFile::new_in(&self.0).hint(unwritable(), hint)?;
        let mut built =
            fs::File::open(built).hint("the tool made no component", "report it with `vespid doctor`")?;
        io::copy(&mut built, whole.as_file_mut()).hint(unwritable(), hint)?;
        whole.persist(place).hint(unwritable(), hint)?;
        self.prune();
        Ok(())
    }

    /// What cannot be removed is left to the next time.
    fn prune(&self) {
        let used = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut components: Vec<(Option<SystemTime>, PathBuf)> = entries
            .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
            .map(|path| (used(&path), path))
            .collect();
        components.sort();
        let surplus = components.len().saturating_sub(KEPT);
        for (_, path) in components.into_iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Notes that it was used. Where that cannot be noted it is removed the sooner.
fn touch(path: &Path) {
    if let Ok(file) = fs::File::options().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_components_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let builds = Builds(folder.path().to_owned());
        let built = folder.path().join("built");
        fs::write(&built, "component").unwrap();
        let places: Vec<PathBuf> =
            (0..KEPT + 2).map(|number| builds.place(&format!("{number:03}"))).collect();
        for (place, seconds) in places.iter().zip(0..) {
            builds.keep(&built, place).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().append(true).open(place).unwrap().set_modified(time).unwrap();
            touch(&places[0]);
        }
        let kept: Vec<bool> = places.iter().map(|place| place.is_file()).collect();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), KEPT);
        assert!(kept[0] && !kept[1] && !kept[2] && kept[3], "{kept:?}");
        assert_eq!(fs::read(&places[0]).unwrap(), b"component");
    }

    #[test]
    fn what_a_tool_says_of_itself_is_not_shown() {
        let python = "Traceback (most recent call last):\n  File \"<string>\", line 1, in <module>\nAssertionError: Traceback \
                      (most recent call last):\n  File \"/0/plugin.py\", line 2, in <module>\n    x = 1/0\nZeroDivisionError: \
                      division by zero\n\n\nCaused by:\n    ZeroDivisionError: division by zero\n";
        assert_eq!(
            essence(Tool::ComponentizePy, python),
            "Traceback (most recent call last):\n  File \"plugin.py\", line 2, in <module>\n    x = 1/0\nZeroDivisionError: \
             division by zero"
        );
        let javascript = "componentize-qjs\n  JS: x\nError: : Failed to evaluate user JavaScript module: Failed to declare \
                          JavaScript module: Error: missing formal parameter\n    at /plugin.js:14:25\n";
        assert_eq!(
            essence(Tool::ComponentizeQjs, javascript),
            "Error: missing formal parameter\n    at plugin.js:14:25"
        );
        assert_eq!(essence(Tool::ComponentizeQjs, "Error: other\n"), "Error: other");
    }

    #[test]
    fn a_plugin_streams_where_it_has_the_function() {
        let folder = tempfile::tempdir().unwrap();
        let check = |file: &str, text: &str, tool| {
            fs::write(folder.path().join(file), text).unwrap();
            streams(folder.path(), tool).unwrap()
        };
        assert!(check("plugin.py", "x = 1\ndef predict_stream(request):\n", Tool::ComponentizePy));
        assert!(!check("plugin.py", "# def predict_stream(\n", Tool::ComponentizePy));
        assert!(check("plugin.js", "export function* predictStream({}) {", Tool::ComponentizeQjs));
        assert!(!check("plugin.js", "function predictStream() {}", Tool::ComponentizeQjs));
    }
}
