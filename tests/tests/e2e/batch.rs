//! Jobs over files, run by `vespid batch` as a user runs it.

mod bad;
mod errors;
mod formats;
mod kills;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vespid_tests::built;
use vespid_tests::cli::{Outcome, run};
use vespid_tests::s3::S3;

/// The columns that make the input of `iris`.
const MAP: &str = "measurements=sepal_length,sepal_width,petal_length,petal_width";

/// A folder with files, and jobs over them.
struct Desk {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }
}

impl Desk {
    /// One whose jobs reach a bucket.
    fn beside(s3: &S3) -> Self {
        let environment =
            s3.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { environment, ..Self::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes flowers by pyarrow, in row groups of so many.
    fn flowers(&self, format: &str, name: &str, rows: usize, first: usize, group: usize) {
        let mut command = built::python("tests/python/batch_files.py");
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        command.args(["write", format]).arg(path);
        run({
            command.args([rows, first, group].map(|number| number.to_string()));
            command
        })
        .expect(0);
    }

    /// `vespid batch` of a package, not yet started.
    fn command(&self, model: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(built::vespid());
        command.args(["batch", "--report", "json", "--model"]).arg(built::package(model)).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for variable in ["VESPID_LOG", "JOB_COMPLETION_INDEX", "AWS_PROFILE", "AWS_ENDPOINT_URL"] {
            command.env_remove(variable);
        }
        command.env("VESPID_ONNXRUNTIME", "off").env("VESPID_OPENVINO", "off");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same of `iris`, with its columns.
    fn iris(&self, arguments: &[&str]) -> Command {
        self.command("iris", &[&["--map", MAP], arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.iris(arguments))
    }

    /// Runs it to its end, and reads its report.
    fn report(&self, arguments: &[&str]) -> Value {
        let outcome = self.run(arguments);
        serde_json::from_str(&outcome.expect(0).stdout).unwrap()
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.iris(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The rows of a job's output by their ids, as pyarrow reads them.
    fn rows(&self, name: &str) -> Vec<Value> {
        rows(&self.path(name))
    }

    /// What is told of the rows that failed.
    fn errors(&self, name: &str) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.path(name).join("_errors")) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let text: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The names in a folder, those that begin with `_` left out.
    fn parts(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(name)) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('_')).collect();
        names.sort();
        names
    }
}

fn rows(folder: &Path) -> Vec<Value> {
    let mut command = built::python("tests/python/batch_files.py");
    command.arg("read").arg(folder);
    let outcome = run(command);
    outcome.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
