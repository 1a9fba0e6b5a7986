//! `vespid deploy` and `vespid status` against a real API server.

use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_tests::built;
use vespid_tests::cli::{self, Outcome};
use vespid_tests::kubernetes::Cluster;
use vespid_tests::registry::Registry;

const MODELS: &str = "/apis/vespid.dev/v1alpha1/namespaces/default/models";

/// A cluster that knows the resources, and nobody who does anything about them.
struct Desk {
    cluster: Cluster,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { cluster: Cluster::start(), folder: TempDir::new().unwrap() };
        let definitions = cli::vespid(desk.folder.path(), &[], &["crds"]).expect(0).stdout.clone();
        // What 1.20 does not know of them it does not keep.
        let file = desk.folder.path().join("definitions.yaml");
        std::fs::write(&file, definitions).unwrap();
        desk.cluster.kubectl(&["apply", "--validate=false", "--filename", file.to_str().unwrap()]);
        desk.cluster.kubectl(&[
            "wait",
            "--for=condition=established",
            "--timeout=60s",
            "crd/models.vespid.dev",
        ]);
        desk
    }

    fn vespid(&self, arguments: &[&str]) -> Outcome {
        let (kubeconfig, home) = (self.cluster.kubeconfig(), self.folder.path());
        let variables = [
            ("KUBECONFIG", kubeconfig.to_str().unwrap()),
            ("VESPID_CACHE", home.to_str().unwrap()),
            ("DOCKER_CONFIG", "/nowhere"),
        ];
        cli::vespid(home, &variables, arguments)
    }

    fn model(&self, name: &str) -> Value {
        self.cluster.api().get(&format!("{MODELS}/{name}")).json()
    }
}

fn package(name: &str) -> String {
    built::package(name).to_str().unwrap().to_owned()
}

#[test]
fn a_package_becomes_a_model_and_a_second_version_of_it() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let place = registry.reference("models/iris");
    desk.vespid(&["deploy", &package("iris"), &place, "--pool", "plants"]).expect(0);
    let model = desk.model("iris");
    let first = model["spec"]["versions"][0]["package"]["oci"].as_str().unwrap().to_owned();
    assert!(first.starts_with(&format!("{place}:1@sha256:")), "{first}");
    assert_eq!((&model["spec"]["pool"], &model["spec"]["replicas"]), (&json!("plants"), &json!(1)));

    // Somebody else scales it and adds a version; neither is this command's to undo.
    desk.cluster.kubectl(&["scale", "models/iris", "--replicas=3"]);
    let other = json!({"version": 9, "weight": 0, "package": {"oci": "oci://registry.example/iris:9"}});
    let versions = json!([model["spec"]["versions"][0], other]);
    assert_eq!(
        desk.cluster.api().merge(&format!("{MODELS}/iris"), &json!({"spec": {"versions": versions}})).status,
        200
    );
    let refused = desk.vespid(&["deploy", &format!("{place}:1"), "--weight", "3=1"]);
    assert!(refused.expect(2).stderr.contains("no version 3"), "{}", refused.stderr);
    desk.vespid(&["deploy", &format!("{place}:1"), "--weight", "90"]).expect(0);
    let model = desk.model("iris");
    assert_eq!((&model["spec"]["pool"], &model["spec"]["replicas"]), (&json!("plants"), &json!(3)));
    assert_eq!(model["spec"]["versions"][0], json!({"version": 1, "weight": 90, "package": {"oci": first}}));
    assert_eq!(model["spec"]["versions"][1], other);
}

#[test]
fn what_would_be_written_is_shown_and_nothing_is_sent() {
    let folder = TempDir::new().unwrap();
    let nobody = [("KUBECONFIG", "/nowhere"), ("VESPID_SERVER", "http://127.0.0.1:1")];
    let vespid = |arguments: &[&str]| cli::vespid(folder.path(), &nobody, arguments);
    let uploaded = vespid(&["deploy", &package("iris"), "--dry-run"]);
    assert!(uploaded.expect(0).stdout.contains("upload: sha256:"), "{}", uploaded.stdout);
    let stored =
        vespid(&["deploy", &package("iris"), "s3://bucket/models", "--replicas", "2", "--output", "json"]);
    let stored: Value = serde_json::from_str(&stored.expect(0).stdout).unwrap();
    assert_eq!(
        stored["spec"],
        json!({"replicas": 2, "versions": [{"version": 1, "package": {"store": "s3://bucket/models"}}]})
    );
    let wrong = vespid(&["deploy", &package("iris"), "/var/models", "--dry-run"]);
    assert!(wrong.expect(2).stderr.contains("no place that pods can fetch from"), "{}", wrong.stderr);
}

/// Says as the operator does that a version is served.
fn serve(desk: &Desk, model: &str) {
    let status = json!({"status": {
        "observedGeneration": desk.model(model)["metadata"]["generation"], "readyReplicas": 1, "serving": "1",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "message": "version 1 answers",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "versions": [{"version": 1, "ready": 1, "digest": "sha256:0"}],
        "pods": [{"pod": "plants-pool-0", "versions": [{"version": 1, "state": "Ready"}, {"version": 2, "state": "Failed", "message": "no such tag"}]}],
    }});
    let answer = desk.cluster.api().merge(&format!("{MODELS}/{model}/status"), &status);
    assert_eq!(answer.status, 200, "{answer}");
}

#[test]
fn one_waits_until_it_is_served_and_is_told_what_it_waits_for() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let place = registry.reference("models/iris");
    let late = desk.vespid(&["deploy", &package("iris"), &place, "--wait", "1s"]);
    assert!(late.expect(1).stderr.contains("the operator has not seen it yet"), "{}", late.stderr);
    serve(&desk, "iris");
    let served = desk.vespid(&["deploy", &format!("{place}:1"), "--wait"]);
    assert!(served.expect(0).stdout.contains("served by 1 pod"), "{}", served.stdout);
}

#[test]
fn the_status_is_of_everything_or_of_one_model() {
    let desk = Desk::new();
    assert!(desk.vespid(&["status"]).expect(0).stderr.contains("has nothing of Vespid's"));
    desk.cluster
        .apply(&std::fs::read_to_string(built::repository("examples/kubernetes/model.yaml")).unwrap());
    desk.cluster
        .apply("apiVersion: vespid.dev/v1alpha1\nkind: ModelPool\nmetadata: {name: plants}\nspec: {}\n");
    let words = |outcome: &Outcome| -> Vec<Vec<String>> {
        outcome.stdout.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let before = desk.vespid(&["status"]);
    before.expect(0);
    assert!(
        words(&before).iter().any(|line| line[..].starts_with(&["iris".into(), "unknown".into()])),
        "{}",
        before.stdout
    );
    serve(&desk, "iris");
    let after = desk.vespid(&["status"]);
    assert!(
        words(&after).contains(&["iris", "yes", "default", "1", "1"].map(str::to_owned).to_vec()),
        "{}",
        after.stdout
    );
    let one = desk.vespid(&["status", "iris"]);
    for said in ["version 1 answers", "oci://registry.example/models/iris:1", "plants-pool-0", "no such tag"]
    {
        assert!(one.expect(0).stdout.contains(said), "{}", one.stdout);
    }
    let json: Value =
        serde_json::from_str(&desk.vespid(&["status", "--output", "json"]).expect(0).stdout).unwrap();
    assert_eq!(
        (json["models"][0]["metadata"]["name"].as_str(), json["pools"].as_array().unwrap().len()),
        (Some("iris"), 1)
    );
    assert!(desk.vespid(&["status", "other"]).expect(1).stderr.contains("\"other\" not found"));
}
