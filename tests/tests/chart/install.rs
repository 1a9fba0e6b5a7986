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

impl Release {
    /// What the operator is told of the pool that the release declares.
    fn pool(&self) -> String {
        self.get("configmap/vespid-pools")["data"]["default"].as_str().unwrap().trim().to_owned()
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

    release.helm(&["upgrade", "vespid"], &["--set=operator.replicas=2,pool.spec.replicas=3"]);
    assert_eq!(release.get("deployment/vespid-operator")["spec"]["replicas"], 2);
    assert!(release.pool().contains("replicas: 3"), "{}", release.pool());
    release.cluster.helm(&["rollback", "vespid", "1", "--namespace", NAMESPACE, "--server-side=false"]);
    assert_eq!(release.get("deployment/vespid-operator")["spec"]["replicas"], 1);
    assert!(!release.pool().contains("replicas"), "{}", release.pool());

    // Another release is to have the definitions: they stay where they are.
    release.helm(&["upgrade", "vespid"], &["--set=crds.install=false"]);
    assert_eq!(release.get("modelpool/mine")["spec"]["replicas"], 2);

    release.cluster.helm(&["uninstall", "vespid", "--namespace", NAMESPACE]);
    assert_eq!(release.names(MADE), ["persistentvolumeclaim/vespid-gateway"]);
    assert_eq!(release.get("modelpool/mine")["spec"]["replicas"], 2);
    release.helm(&["install", "vespid"], &[]);
    assert_eq!(release.get("modelpool/mine")["spec"]["replicas"], 2);
    assert_eq!(release.names(MADE), made);
}

/// Whether the API server lets an account do something: `VERB GROUP/RESOURCE[/SUBRESOURCE][ NAME]`.
fn may(release: &Release, account: &str, asked: &str) -> bool {
    let mut words = asked.split(' ');
    let (verb, what, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
    let mut parts = what.split('/');
    let (group, resource, part) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview", "metadata": {"namespace": NAMESPACE},
        "spec": {"user": format!("system:serviceaccount:{NAMESPACE}:{account}"), "resourceAttributes": {
            "namespace": NAMESPACE, "verb": verb, "group": group, "resource": resource, "subresource": part, "name": name,
        }},
    });
    let path = format!("/apis/authorization.k8s.io/v1/namespaces/{NAMESPACE}/localsubjectaccessreviews");
    let answer = release.cluster.api().post(&path, &review);
    assert_eq!(answer.status, 201, "{answer}");
    answer.json()["status"]["allowed"].as_bool().unwrap()
}

#[test]
fn the_api_server_lets_each_account_do_what_it_needs_and_no_more() {
    let release = Release::new();
    release.helm(&["install", "vespid"], &["--create-namespace"]);
    let table = json!({
        "vespid-operator": {
            "yes": [
                "patch vespid.dev/modelpools/status", "create apps/deployments", "create batch/jobs", "list /pods",
                "bind rbac.authorization.k8s.io/roles vespid-host", "create coordination.k8s.io/leases",
                "watch coordination.k8s.io/leases vespid-operator", "update coordination.k8s.io/leases vespid-operator",
                "delete rbac.authorization.k8s.io/rolebindings", "create events.k8s.io/events", "get /pods",
            ],
            "no": [
                "get /secrets", "bind rbac.authorization.k8s.io/roles vespid-operator", "create rbac.authorization.k8s.io/roles",
                "create /pods", "delete vespid.dev/models", "patch vespid.dev/models", "patch vespid.dev/streampredictions",
                "update coordination.k8s.io/leases other", "delete apps/deployments", "delete /services", "delete batch/jobs",
                "delete networking.k8s.io/networkpolicies", "create /events",
            ],
        },
        "vespid-gateway": {
            "yes": ["create vespid.dev/models", "patch vespid.dev/modelpools/status", "watch discovery.k8s.io/endpointslices"],
            "no": ["get /secrets", "create apps/deployments", "delete vespid.dev/modelpools", "patch vespid.dev/modelpools", "patch vespid.dev/models/status"],
        },
        "default": {"yes": [], "no": ["list vespid.dev/models", "get /configmaps"]},
    });
    for (account, asked) in table.as_object().unwrap() {
        for (answer, questions) in asked.as_object().unwrap() {
            for question in questions.as_array().unwrap().iter().filter_map(Value::as_str) {
                assert_eq!(may(&release, account, question), answer == "yes", "{account}: {question}");
            }
        }
    }
}
