//! The chart in a real API server: installed, changed, rolled back, removed and installed again.

use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_tests::chart;
use vespid_tests::kubernetes::Cluster;

const NAMESPACE: &str = "models";

/// A cluster, and the chart as it takes it.
struct Release {
    cluster: Cluster,
    folder: TempDir,
}

impl Release {
    fn new() -> Self {
        let (cluster, folder) = (Cluster::start(), TempDir::new().unwrap());
        let _ = chart::copy(folder.path());
        Self { cluster, folder }
    }

    /// Runs helm with the release's name and the chart.
    fn helm(&self, task: &[&str], more: &[&str]) -> String {
        let chart = self.folder.path().join("vespid");
        let arguments =
            [task, &[chart.to_str().unwrap(), "--namespace", NAMESPACE], &chart::OPTIONS, more].concat();
        self.cluster.helm(&arguments)
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[arguments, &["--namespace", NAMESPACE]].concat())
    }

    fn names(&self, kinds: &str) -> Vec<String> {
        self.kubectl(&["get", kinds, "--output=name"]).lines().map(str::to_owned).collect()
    }

    fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "--output=json"])).unwrap()
    }
}

const MADE: &str = "deployments,roles,rolebindings,persistentvolumeclaims,networkpolicies";

#[test]
fn a_release_is_installed_changed_and_rolled_back_and_what_users_made_stays_when_it_goes() {
    let release = Release::new();
    let notes = release.helm(&["install", "vespid"], &["--create-namespace"]);
    for next in [
        "vespid status --namespace models",
        "port-forward service/vespid-gateway 8000:8000",
        "vespid deploy iris",
    ] {
        assert!(notes.contains(next), "{notes}");
    }
    let made = release.names(MADE);
    for wanted in [
        "deployment.apps/vespid-operator",
        "role.rbac.authorization.k8s.io/vespid-host",
        "persistentvolumeclaim/vespid-gateway",
    ] {
        assert!(made.iter().any(|name| name == wanted), "{made:#?}");
    }
    // The definitions that it brought are served at once.
    release.cluster.apply(
        "apiVersion: vespid.dev/v1alpha1\nkind: ModelPool\nmetadata: {name: mine, namespace: models}\nspec: {replicas: 2}\n",
    );

    release.helm(
        &["upgrade", "vespid"],
        &["--set=operator.replicas=2,pool.spec.replicas=3", "--set=crds.install=false"],
    );
    assert_eq!(release.get("deployment/vespid-operator")["spec"]["replicas"], 2);
    assert_eq!(
        release.get("configmap/vespid-pools")["data"]["default"].as_str().unwrap().trim(),
        "replicas: 3"
    );
    assert_eq!(
        release.get("modelpool/mine")["spec"]["replicas"],
        2,
        "definitions went, and what they define with them"
    );

    release.cluster.helm(&["rollback", "vespid", "1", "--namespace", NAMESPACE, "--server-side=false"]);
    assert_eq!(release.get("deployment/vespid-operator")["spec"]["replicas"], 1);
    assert_eq!(release.get("configmap/vespid-pools")["data"]["default"].as_str().unwrap().trim(), "{}");

    release.cluster.helm(&["uninstall", "vespid", "--namespace", NAMESPACE]);
    assert_eq!(release.names(MADE), ["persistentvolumeclaim/vespid-gateway"]);
    assert_eq!(release.get("modelpool/mine")["spec"]["replicas"], 2);
    release.helm(&["install", "vespid"], &[]);
    assert_eq!(release.get("modelpool/mine")["spec"]["replicas"], 2);
    assert_eq!(release.names(MADE), made);
}

/// What the API server says of an account, once it is bound.
fn may(release: &Release, account: &str, verb: &str, what: &str) -> bool {
    let as_account = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let arguments = ["auth", "can-i", verb, what, "--namespace", NAMESPACE, &as_account];
    release.cluster.tries_kubectl(&arguments).stdout.trim() == "yes"
}

#[test]
fn the_api_server_lets_each_account_do_what_it_needs_and_no_more() {
    let release = Release::new();
    release.helm(&["install", "vespid"], &["--create-namespace"]);
    let table = json!({
        "vespid-operator": {
            "yes": ["patch modelpools.vespid.dev/status", "create deployments.apps", "bind roles/vespid-host", "create leases", "list pods"],
            "no": ["get secrets", "bind roles/vespid-operator", "create roles", "create pods", "delete models.vespid.dev"],
        },
        "vespid-gateway": {
            "yes": ["create models.vespid.dev", "patch modelpools.vespid.dev", "watch endpointslices.discovery.k8s.io"],
            "no": ["get secrets", "create deployments.apps", "delete modelpools.vespid.dev", "patch models.vespid.dev/status"],
        },
        "default": {"yes": [], "no": ["list models.vespid.dev", "get configmaps"]},
    });
    for (account, asked) in table.as_object().unwrap() {
        for (answer, questions) in asked.as_object().unwrap() {
            for question in questions.as_array().unwrap() {
                let (verb, what) = question.as_str().unwrap().split_once(' ').unwrap();
                let may = match what.split_once('/') {
                    // A part of a resource; of roles it is one of them.
                    Some((resource, "status")) => may_part(&release, account, verb, resource),
                    _ => may(&release, account, verb, what),
                };
                assert_eq!(may, answer == "yes", "{account}: {question}");
            }
        }
    }
}

fn may_part(release: &Release, account: &str, verb: &str, resource: &str) -> bool {
    let as_account = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let arguments =
        ["auth", "can-i", verb, resource, "--subresource=status", "--namespace", NAMESPACE, &as_account];
    release.cluster.tries_kubectl(&arguments).stdout.trim() == "yes"
}
