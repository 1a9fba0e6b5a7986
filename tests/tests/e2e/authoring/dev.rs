//! `vespid dev`: a change is served, a broken one is not, and a mended one is again.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_tests::oip::{output, request};
use vespid_tests::{built, cli, http, wait};

/// A component of Python takes its time on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(240);

struct Dev {
    child: Child,
    lines: Receiver<String>,
    said: Arc<Mutex<String>>,
    project: PathBuf,
    _parent: TempDir,
}

impl Dev {
    fn start(language: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        cli::vespid(parent.path(), &[], &["new", "scaler", "--lang", language]).expect(0);
        let project = parent.path().join("scaler");
        let mut child = Command::new(built::vespid())
            .args(["dev", "scaler", "--http", "127.0.0.1:0"])
            .current_dir(parent.path())
            .env_remove("VESPID_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let said = Arc::new(Mutex::new(String::new()));
        let (mut stderr, heard) = (child.stderr.take().unwrap(), Arc::clone(&said));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { child, lines, said, project, _parent: parent }
    }

    /// Waits until the next version serves; where.
    fn ready(&self) -> String {
        let line =
            self.lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("not ready in time: {}", self.said()));
        let url = line.strip_prefix("ready scaler version 1 at ").unwrap_or_else(|| panic!("{line}"));
        url.split_once(' ').unwrap().0.to_owned()
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said something.
    fn says(&self, text: &str) {
        let deadline = std::time::Instant::now() + LIMIT;
        while !self.said().contains(text) {
            assert!(std::time::Instant::now() < deadline, "'{text}' was not said: {}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes a file as an editor does: beside it, and then in its place.
    fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.project.join(file);
        let text = change(fs::read_to_string(&path).unwrap());
        let aside = path.with_extension("new");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(url: &str) -> Value {
    let body = serde_json::to_vec(&request("values", "FP32", &[1, 2], vec![3.0, 4.0])).unwrap();
    let answer = http::send("POST", &format!("{url}/v2/models/scaler/infer"), &[], &body);
    output(&answer, "length")["data"].clone()
}

fn replaced(from: &str, to: &str) -> impl FnOnce(String) -> String {
    move |text| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    }
}

/// Changes, breaks and mends the plugin of a new project in `language`, in `file`: `change` is one that doubles the lengths and
/// logs a line, `broken` stands in for all of the code.
fn write_while_it_serves(language: &str, file: &str, change: (&str, &str), broken: &str, told: &str) {
    let mut dev = Dev::start(language);
    let url = dev.ready();
    assert_eq!(ask(&url), json!([5.0]));
    dev.says("vespid predict scaler 'values=0.5,0.5' --server http://127.0.0.1:");

    dev.edit(file, replaced(change.0, change.1));
    assert_eq!(dev.ready(), url);
    assert_eq!(ask(&url), json!([10.0]));
    dev.says("INFO plugin: it was doubled");

    let good = fs::read_to_string(dev.project.join(file)).unwrap();
    dev.edit(file, |_| broken.to_owned());
    dev.says("what was there before goes on serving");
    dev.says(told);
    assert_eq!(ask(&url), json!([10.0]));

    dev.edit(file, |_| good.replace(change.1, change.0));
    dev.ready();
    assert_eq!(ask(&url), json!([5.0]));

    // A manifest that the server refuses is no better than code that does not build.
    dev.edit("model.toml", replaced("[limits]", "[limit]"));
    dev.says("unknown field `limit`");
    assert_eq!(ask(&url), json!([5.0]));

    Command::new("sh").args(["-c", &format!("kill -s INT {}", dev.child.id())]).status().unwrap();
    let status = wait::until("it ends", || dev.child.try_wait().unwrap());
    assert!(status.success(), "{status}: {}", dev.said());
    assert!(!Path::new(&dev.project).join("scaler-1.tar").exists());
}

#[test]
fn a_plugin_in_rust_is_written_while_it_serves() {
    let change =
        ("lengths.push(length);", "lengths.push(2.0 * length);\n            log::info!(\"it was doubled\");");
    write_while_it_serves("rust", "src/lib.rs", change, "fn", "does not compile");
}

#[test]
fn a_plugin_in_python_is_written_while_it_serves() {
    let change = ("lengths.append(length)", "lengths.append(2 * length)\n        print(\"it was doubled\")");
    write_while_it_serves("python", "plugin.py", change, "def", "SyntaxError");
}

#[test]
fn a_plugin_in_javascript_is_written_while_it_serves() {
    let change =
        ("return { scaled:", "lengths[0] *= 2;\n  console.log(\"it was doubled\");\n  return { scaled:");
    write_while_it_serves("js", "plugin.js", change, "export", "does not build");
}
