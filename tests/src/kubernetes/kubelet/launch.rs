//! What a pod's container comes to on this machine: a program, its arguments and its environment.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::super::api::Api;
use super::super::process::bound;
use super::pod::Pod;
use super::volumes::{Paths, Source};
use super::{NODE, Node, life};
use crate::built;

/// How long a hook's request may take.
const HOOK: Duration = Duration::from_secs(30);

/// What image there is, and what it runs.
const ENTRY_POINT: &str = "vespid";

/// Where a pod finds who it is.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) struct Launch {
    container: Value,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    paths: Paths,
}

impl Launch {
    /// Makes the folders that stand for the pod's volumes, and works out the rest. Fails with a reason where something that
    /// the pod wants is not there.
    pub(super) fn of(node: &Node, pod: &Pod) -> Result<Self, String> {
        let source = Source { node, pod };
        let paths = Paths::make(&source)?;
        let container = pod.container().clone();
        let mut launch = Self {
            container,
            program: PathBuf::new(),
            arguments: Vec::new(),
            variables: Vec::new(),
            folder: pod.folder().to_owned(),
            paths,
        };
        launch.fill_variables(&source)?;
        launch.fill_account(&node.api, pod)?;
        launch.fill_index(pod);
        let mut words = launch.words(&launch.container["command"]);
        if words.is_empty() {
            words.push(ENTRY_POINT.to_owned());
        }
        words.extend(launch.words(&launch.container["args"]));
        launch.program = program(&words.remove(0));
        launch.arguments = words;
        Ok(launch)
    }

    fn fill_variables(&mut self, source: &Source<'_>) -> Result<(), String> {
        for from in list(&self.container["envFrom"]) {
            let prefix = from["prefix"].as_str().unwrap_or_default();
            let entries = source.entries(from, "configMapRef", "secretRef")?.into_iter();
            self.variables.extend(
                entries.map(|(name, value)| (prefix.to_owned() + &name, String::from_utf8(value).unwrap())),
            );
        }
        for variable in list(&self.container["env"]) {
            let name = variable["name"].as_str().unwrap().to_owned();
            let value = match &variable["valueFrom"] {
                Value::Null => self.resolve(variable["value"].as_str().unwrap_or_default()),
                from => match source.value(from)? {
                    Some(value) => self.paths.translate(&value),
                    None => continue,
                },
            };
            self.variables.push((name, value));
        }
        Ok(())
    }

    /// A configuration for the pod's service account, where it is given its token: in the cluster a client finds the server
    /// by variables that name one for all, and the token at a fixed place.
    fn fill_account(&mut self, api: &Api, pod: &Pod) -> Result<(), String> {
        let Some(folder) = self.paths.folder(ACCOUNT) else { return Ok(()) };
        let token = std::fs::read_to_string(folder.join("token")).map_err(|error| error.to_string())?;
        let path = self.folder.join("kubeconfig");
        api.by(token.trim()).write_kubeconfig(pod.namespace(), &path);
        if !self.variables.iter().any(|(name, _)| name == "KUBECONFIG") {
            self.variables.push(("KUBECONFIG".to_owned(), path.display().to_string()));
        }
        Ok(())
    }

    /// Which of its Job's shares is the pod's: in the order in which they come, for jobs of this release have no indexes.
    fn fill_index(&mut self, pod: &Pod) {
        static BEGUN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
        let owner = &pod.manifest()["metadata"]["ownerReferences"][0];
        if owner["kind"] == "Job" {
            let mut begun = BEGUN.lock().unwrap();
            let next = begun.entry(owner["uid"].as_str().unwrap().to_owned()).or_default();
            self.variables.push(("JOB_COMPLETION_INDEX".to_owned(), next.to_string()));
            *next += 1;
        }
    }

    fn words(&self, words: &Value) -> Vec<String> {
        list(words).iter().map(|word| self.resolve(word.as_str().unwrap())).collect()
    }

    /// What a text of the pod's is on this machine. The values of variables are so already.
    fn resolve(&self, text: &str) -> String {
        self.expand(&self.paths.translate(text))
    }

    /// Puts variables in for `$(NAME)`; `$$` is a dollar.
    fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded += before;
            let reference = after.strip_prefix('(').and_then(|after| after.split_once(')'));
            let value =
                reference.and_then(|(name, _)| self.variables.iter().rev().find(|(known, _)| known == name));
            (rest, expanded) = match (value, reference, after.strip_prefix('$')) {
                (Some((_, value)), Some((_, after)), _) => (after, expanded + value),
                (_, _, Some(after)) => (after, expanded + "$"),
                _ => (after, expanded + "$"),
            };
        }
        expanded + rest
    }

    pub(super) fn container(&self) -> &Value {
        &self.container
    }

    /// The container's process.
    pub(super) fn command(&self) -> Command {
        let mut command = self.started(&self.program);
        command.args(&self.arguments);
        command
    }

    /// A command that runs in the container.
    pub(super) fn exec(&self, words: &Value) -> Option<Command> {
        let words = self.words(words);
        let (name, arguments) = words.split_first()?;
        let mut command = self.started(&program(name));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(command)
    }

    fn started(&self, program: &Path) -> Command {
        let mut command = bound(program);
        // The test's own variables are not the pod's.
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", &self.folder).env("HOSTNAME", self.hostname());
        // The same backend on every machine; a pod that wants another says so.
        command.env("VESPID_ONNXRUNTIME", "off").env("VESPID_OPENVINO", "off");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).process_group(0);
        command
    }

    fn hostname(&self) -> &str {
        self.paths.pod()
    }

    /// Runs a hook in a thread of its own. That it fails changes nothing.
    pub(super) fn hook(&self, hook: &Value, ip: Ipv4Addr) -> JoinHandle<()> {
        let command = self.exec(&hook["exec"]["command"]);
        let url = hook["httpGet"].is_object().then(|| self.url(&hook["httpGet"], ip));
        let seconds = hook["sleep"]["seconds"].as_u64().unwrap_or_default();
        thread::spawn(move || {
            if let Some(mut command) = command {
                let _ = command.status();
            }
            if let Some(url) = url {
                let _ = life::get(&url, HOOK);
            }
            thread::sleep(Duration::from_secs(seconds));
        })
    }

    /// Where a probe or a hook asks.
    pub(super) fn url(&self, get: &Value, ip: Ipv4Addr) -> String {
        let path = get["path"].as_str().unwrap_or("/");
        format!("http://{ip}:{}{path}", self.port(&get["port"]))
    }

    /// A port by its number or name.
    pub(super) fn port(&self, port: &Value) -> u16 {
        container_port(&self.container, port).unwrap_or_else(|| panic!("the container has no port {port}"))
    }
}

/// A port by its number, or by its name in a container.
pub(super) fn container_port(container: &Value, port: &Value) -> Option<u16> {
    let number = match port.as_str() {
        None => port.as_u64(),
        Some(name) => {
            list(&container["ports"]).iter().find(|port| port["name"] == name)?["containerPort"].as_u64()
        }
    };
    u16::try_from(number?).ok()
}

/// An array's elements, where there is one.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What a reference to one of the pod's own fields comes to.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let manifest = pod.manifest();
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    let text = |value: &Value| Ok(value.as_str().unwrap_or_default().to_owned());
    if let Some(key) = keyed("metadata.annotations") {
        return text(&manifest["metadata"]["annotations"][key]);
    }
    if let Some(key) = keyed("metadata.labels") {
        return text(&manifest["metadata"]["labels"][key]);
    }
    match path {
        "status.podIP" | "status.podIPs" => Ok(pod.ip().to_string()),
        "status.hostIP" => Ok("127.0.0.1".to_owned()),
        "spec.nodeName" => Ok(NODE.to_owned()),
        "spec.serviceAccountName" => text(&manifest["spec"]["serviceAccountName"]),
        "metadata.name" | "metadata.namespace" | "metadata.uid" => {
            text(&manifest["metadata"][path.trim_start_matches("metadata.")])
        }
        _ => Err(format!("the node does not know the field {path}")),
    }
}

/// A program of this machine for one of the image's.
fn program(name: &str) -> PathBuf {
    let file = Path::new(name).file_name();
    if file.is_some_and(|file| file == ENTRY_POINT) { built::vespid() } else { name.into() }
}
