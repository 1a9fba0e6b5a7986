//! The examples for Kubernetes: what kustomize makes of them, and each file, are objects that a cluster takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use vespid_tests::oip::flower;
use vespid_tests::server::Home;
use vespid_tests::{built, cli};

use crate::rendered::{self, Checked, check, helm};

fn folder() -> PathBuf {
    built::repository("examples/kubernetes")
}

fn example(file: &str) -> Vec<Checked> {
    check(&fs::read_to_string(folder().join(file)).unwrap())
}

fn names(objects: &[Checked]) -> BTreeSet<String> {
    objects.iter().map(Checked::name).collect()
}

#[test]
fn the_base_for_kustomize_is_the_chart_s_default() {
    let mut command = Command::new(built::kubernetes("kubectl"));
    command.arg("kustomize").arg(folder().join("base"));
    let base = check(&cli::run(command).expect(0).stdout);
    let chart = helm(&["template", "vespid", rendered::chart().to_str().unwrap(), "--skip-tests"]);
    let mut chart = names(&check(&chart.expect(0).stdout));
    chart.insert("Namespace/models".to_owned());
    assert_eq!(names(&base), chart);
    for object in
        base.iter().filter(|object| !["Namespace", "CustomResourceDefinition"].contains(&object.kind()))
    {
        assert_eq!(object.object["metadata"]["namespace"], "models", "{}", object.name());
    }
}

#[test]
fn an_overlay_s_image_is_that_of_all_pods() {
    let overlay = TempDir::new().unwrap();
    let mut copy = Command::new("cp");
    cli::run({
        copy.arg("-r").arg(folder().join("base")).arg(overlay.path());
        copy
    })
    .expect(0);
    let text =
        "resources: [base]\nimages: [{name: vespid, newName: registry.example/vespid, newTag: other}]\n";
    fs::write(overlay.path().join("kustomization.yaml"), text).unwrap();
    let mut command = Command::new(built::kubernetes("kubectl"));
    command.arg("kustomize").arg(overlay.path());
    let objects = check(&cli::run(command).expect(0).stdout);
    let deployments = objects.iter().filter(|object| object.kind() == "Deployment");
    let containers: Vec<&Value> =
        deployments.map(|object| &object.object["spec"]["template"]["spec"]["containers"][0]).collect();
    assert_eq!(containers.len(), 2);
    for container in containers {
        assert_eq!(container["image"], "registry.example/vespid:other");
        // Named there, it would be another one than the operator's own, which it takes for pods that it makes.
        assert!(!container["args"].to_string().contains("--image="), "{container}");
    }
}

#[test]
fn every_example_is_one() {
    let files = ["model.yaml", "pool-gpu.yaml", "batch.yaml", "stream.yaml"];
    let objects: Vec<Checked> = files.iter().flat_map(|file| example(file)).collect();
    let kinds: BTreeSet<&str> = objects.iter().map(Checked::kind).collect();
    assert_eq!(kinds, BTreeSet::from(["BatchPrediction", "Model", "ModelPool", "StreamPrediction"]));
}

#[test]
fn a_model_takes_ten_lines() {
    let text = fs::read_to_string(folder().join("model.yaml")).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    assert!(lines <= 10, "{lines}\n{text}");
}

/// What the runtime tells the container, with the package at another place than the cluster's.
#[test]
fn kserve_s_runtime_serves_a_package_as_a_folder() {
    let runtime = example("kserve/servingruntime.yaml").remove(0).object;
    let service = example("kserve/inferenceservice.yaml").remove(0).object;
    let format = |formats: &Value| formats["name"].as_str().unwrap().to_owned();
    assert_eq!(
        format(&runtime["spec"]["supportedModelFormats"][0]),
        format(&service["spec"]["predictor"]["model"]["modelFormat"])
    );
    let home = Home::default();
    let package = home.cache();
    fs::create_dir_all(&package).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(built::package("iris")).arg("--directory").arg(&package);
    cli::run(tar).expect(0);

    let arguments = runtime["spec"]["containers"][0]["args"].as_array().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str().unwrap()).collect();
    assert_eq!(arguments[0], "serve");
    let ports = ["--http=", "--grpc=", "--admin="];
    // Store and ports are the test's own.
    let own = |argument: &&&str| {
        argument.starts_with("--store=") || ports.iter().any(|port| argument.starts_with(port))
    };
    let rest: Vec<String> = arguments[1..]
        .iter()
        .filter(|argument| !own(argument))
        .map(|argument| argument.replace("/mnt/models", package.to_str().unwrap()))
        .collect();
    assert_eq!(rest.len(), arguments.len() - 5, "{arguments:?}");
    let server = home.start_with(&rest.iter().map(String::as_str).collect::<Vec<_>>());
    let name = service["metadata"]["name"].as_str().unwrap();
    assert_eq!(server.infer(name, &flower()).status, 200);
    for probe in ["readinessProbe", "livenessProbe"] {
        let probe = &runtime["spec"]["containers"][0][probe]["httpGet"]["path"];
        assert_eq!(server.get(probe.as_str().unwrap()).status, 200);
    }
}
