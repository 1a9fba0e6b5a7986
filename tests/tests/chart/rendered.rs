//! What helm makes of the chart, as objects that were checked.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use vespid_tests::built;
use vespid_tests::cli::{self, Outcome};

/// The release's name: what objects are called begins with it.
const RELEASE: &str = "v";

/// The oldest version that is supported, and the newest that there are schemas of.
const VERSIONS: [&str; 2] = ["1.33", "1.37"];

/// Kinds of others, whose definitions a cluster has or not.
const FOREIGN: [&str; 6] =
    ["GRPCRoute", "HTTPRoute", "InferenceService", "PodMonitor", "ServiceMonitor", "ServingRuntime"];

/// An object, and what is wrong with it.
#[derive(Deserialize)]
pub(crate) struct Checked {
    pub(crate) object: Value,
    faults: Vec<String>,
    known: bool,
}

impl Checked {
    /// Its kind and name.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.kind(), self.object["metadata"]["name"].as_str().unwrap())
    }

    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap()
    }
}

/// The folder of the chart.
pub(crate) fn chart() -> PathBuf {
    built::repository("charts/vespid")
}

/// The values files of a folder of cases, in the order of their names.
pub(crate) fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = built::repository("tests/cases").join(folder);
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(cases.len() > 5, "{cases:?}");
    cases
}

/// What the comments at a case's head say after a word.
pub(crate) fn said(case: &Path, word: &str) -> Vec<String> {
    let text = fs::read_to_string(case).unwrap();
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let said = lines.filter_map(|line| line.strip_prefix(&format!("# {word}: ")));
    said.map(str::to_owned).collect()
}

/// Runs helm, which knows nothing of the user's own.
pub(crate) fn helm(arguments: &[&str]) -> Outcome {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(built::kubernetes("helm"));
    command.args(arguments).env("HOME", home.path()).env_remove("KUBECONFIG");
    cli::run(command)
}

/// The chart with a case's values.
pub(crate) fn template(case: &Path) -> Outcome {
    helm(&["template", RELEASE, chart().to_str().unwrap(), "--values", case.to_str().unwrap()])
}

/// The objects of the chart with a case's values.
pub(crate) fn rendered(case: &Path) -> Vec<Checked> {
    check(&template(case).expect(0).stdout)
}

/// Objects, once nothing is wrong with any of them.
pub(crate) fn check(yaml: &str) -> Vec<Checked> {
    let folder = TempDir::new().unwrap();
    let definitions = folder.path().join("definitions.yaml");
    fs::write(&definitions, cli::vespid(folder.path(), &[], &["crds"]).expect(0).stdout.as_bytes()).unwrap();
    let mut command = built::python_manifests("tests/python/manifests.py");
    command.arg(definitions).args(VERSIONS);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let yaml = yaml.to_owned();
    let writer = std::thread::spawn(move || input.write_all(yaml.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let checked: Vec<Checked> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for one in &checked {
        assert!(one.faults.is_empty(), "{}: {:#?}", one.name(), one.faults);
        assert!(one.known || FOREIGN.contains(&one.kind()), "{} is of no kind of Kubernetes", one.name());
    }
    checked
}

#[test]
fn each_case_is_well_formed_and_has_what_it_says() {
    for case in cases("chart") {
        let objects = rendered(&case);
        let names: BTreeSet<String> = objects.iter().map(Checked::name).collect();
        assert_eq!(names.len(), objects.len(), "{}: an object is there twice", case.display());
        for wanted in said(&case, "has").iter().flat_map(|line| line.split(", ")) {
            assert!(names.contains(wanted), "{}: no {wanted} in {names:#?}", case.display());
        }
        for unwanted in said(&case, "lacks").iter().flat_map(|line| line.split(", ")) {
            let found = objects.iter().find(|object| object.kind() == unwanted || object.name() == unwanted);
            assert!(found.is_none(), "{}: {} is there", case.display(), found.unwrap().name());
        }
    }
}

#[test]
fn helm_s_own_checks_find_nothing_in_any_case() {
    for case in cases("chart") {
        helm(&["lint", "--strict", chart().to_str().unwrap(), "--values", case.to_str().unwrap()]).expect(0);
    }
}

#[test]
fn names_lead_where_they_are_to() {
    for case in cases("chart") {
        let objects = rendered(&case);
        let all = |kind: &str| objects.iter().filter(|object| object.kind() == kind).collect::<Vec<_>>();
        let selected = |selector: &Value| {
            all("Deployment").into_iter().any(|deployment| {
                let labels = &deployment.object["spec"]["template"]["metadata"]["labels"];
                selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value)
            })
        };
        for service in all("Service") {
            assert!(selected(&service.object["spec"]["selector"]), "{}: {}", case.display(), service.name());
        }
        for kind in ["NetworkPolicy", "PodDisruptionBudget"] {
            for object in all(kind) {
                let spec = &object.object["spec"];
                let selector = if kind == "NetworkPolicy" { &spec["podSelector"] } else { &spec["selector"] };
                // Pods that the operator makes are none of the chart's.
                if selector["matchLabels"]["app.kubernetes.io/managed-by"] == "vespid-operator" {
                    continue;
                }
                assert!(selected(&selector["matchLabels"]), "{}: {}", case.display(), object.name());
            }
        }
        let services: BTreeSet<String> = all("Service")
            .iter()
            .map(|service| service.object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        let operator =
            all("Deployment").into_iter().find(|object| object.name().ends_with("-operator")).unwrap();
        let arguments = operator.object["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(
            services.iter().any(|service| arguments.contains(&format!("--packages=http://{service}:8003\""))),
            "{arguments}"
        );
        let roles = all("Role");
        let host = roles.iter().find(|role| role.name().ends_with("-host")).unwrap();
        let name = host.object["metadata"]["name"].as_str().unwrap();
        assert!(arguments.contains(&format!("--host-role={name}\"")), "{arguments}");
    }
}
