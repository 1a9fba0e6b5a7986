//! What the chart's accounts may do: what they need, and no more.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rendered::{cases, rendered};

fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn nobody_may_do_everything_or_read_secrets() {
    for case in cases("chart") {
        for object in rendered(&case) {
            assert!(!object.kind().starts_with("ClusterRole"), "{}: {}", case.display(), object.name());
            if object.kind() != "Role" {
                continue;
            }
            for rule in object.object["rules"].as_array().unwrap() {
                let said = format!("{}: {rule}", object.name());
                let (resources, verbs) = (texts(&rule["resources"]), texts(&rule["verbs"]));
                assert!(
                    !resources.contains("*")
                        && !verbs.contains("*")
                        && !texts(&rule["apiGroups"]).contains("*"),
                    "{said}"
                );
                assert!(!resources.contains("secrets") && !resources.contains("pods/exec"), "{said}");
                assert!(!verbs.contains("escalate") && !verbs.contains("impersonate"), "{said}");
                if resources.contains("roles") {
                    assert_eq!(verbs, BTreeSet::from(["bind"]), "{said}");
                    assert_eq!(texts(&rule["resourceNames"]).len(), 1, "{said}");
                }
            }
        }
    }
}

#[test]
fn the_pods_of_pools_read_models_and_write_their_status() {
    for case in cases("chart") {
        let objects = rendered(&case);
        let host = objects
            .iter()
            .find(|object| object.kind() == "Role" && object.name().ends_with("-host"))
            .unwrap();
        assert_eq!(
            host.object["rules"],
            json!([
                {"apiGroups": ["vespid.dev"], "resources": ["models"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["vespid.dev"], "resources": ["models/status"], "verbs": ["patch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
            ])
        );
    }
}

/// What a role lets do, as `GROUP/RESOURCE[ NAME] VERB`.
fn rights(role: &Value) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let named = texts(&rule["resourceNames"]).into_iter().map(|name| format!(" {name}"));
        let names = if rule.get("resourceNames").is_none() { vec![String::new()] } else { named.collect() };
        for (group, resource) in texts(&rule["apiGroups"])
            .iter()
            .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |resource| (group, resource)))
        {
            for verb in texts(&rule["verbs"]) {
                rights.extend(names.iter().map(|name| format!("{group}/{resource}{name} {verb}")));
            }
        }
    }
    rights
}

fn role(case: &str, ending: &str) -> BTreeSet<String> {
    let case = cases("chart").into_iter().find(|path| path.ends_with(case)).unwrap();
    let objects = rendered(&case);
    let role = objects.iter().find(|object| object.kind() == "Role" && object.name().ends_with(ending));
    rights(&role.unwrap().object)
}

#[test]
fn the_gateway_writes_models_and_of_pools_their_status_alone() {
    let wanted = [
        "discovery.k8s.io/endpointslices get",
        "discovery.k8s.io/endpointslices list",
        "discovery.k8s.io/endpointslices watch",
        "vespid.dev/modelpools list",
        "vespid.dev/modelpools watch",
        "vespid.dev/modelpools/status patch",
        "vespid.dev/models create",
        "vespid.dev/models delete",
        "vespid.dev/models get",
        "vespid.dev/models list",
        "vespid.dev/models patch",
        "vespid.dev/models watch",
    ];
    assert_eq!(role("default.yaml", "-gateway"), wanted.map(str::to_owned).into());
}

/// What it takes away are accounts, bindings, autoscalers and the pools of the release; all else goes with its owner.
#[test]
fn the_operator_may_do_what_it_does_and_nothing_else() {
    let made = [
        "/configmaps",
        "/services",
        "apps/deployments",
        "batch/jobs",
        "networking.k8s.io/networkpolicies",
        "policy/poddisruptionbudgets",
        "/serviceaccounts",
        "autoscaling/horizontalpodautoscalers",
        "rbac.authorization.k8s.io/rolebindings",
        "vespid.dev/modelpools",
    ];
    let mut wanted: BTreeSet<String> = [
        "/configmaps/finalizers update",
        "/pods get",
        "/pods list",
        "/pods watch",
        "coordination.k8s.io/leases create",
        "coordination.k8s.io/leases vespid-operator get",
        "coordination.k8s.io/leases vespid-operator list",
        "coordination.k8s.io/leases vespid-operator update",
        "coordination.k8s.io/leases vespid-operator watch",
        "events.k8s.io/events create",
        "events.k8s.io/events patch",
        "rbac.authorization.k8s.io/roles v-vespid-host bind",
        "vespid.dev/models/status patch",
        "vespid.dev/models list",
        "vespid.dev/models watch",
    ]
    .map(str::to_owned)
    .into();
    for kind in made {
        wanted.extend(["list", "watch", "create", "patch"].map(|verb| format!("{kind} {verb}")));
    }
    wanted.extend(made[6..].iter().map(|kind| format!("{kind} delete")));
    for kind in ["batchpredictions", "modelpools", "streampredictions"] {
        for right in [" list", " watch", "/finalizers update", "/status patch"] {
            wanted.insert(format!("vespid.dev/{kind}{right}"));
        }
    }
    assert_eq!(role("default.yaml", "-operator"), wanted);
}

#[test]
fn each_component_is_bound_to_its_role_alone() {
    for case in cases("chart") {
        let objects = rendered(&case);
        let bindings: Vec<_> = objects.iter().filter(|object| object.kind() == "RoleBinding").collect();
        assert_eq!(bindings.len(), 2);
        for binding in bindings {
            let name = &binding.object["metadata"]["name"];
            assert_eq!(binding.object["roleRef"]["name"], *name);
            let deployment = objects
                .iter()
                .find(|object| object.kind() == "Deployment" && object.object["metadata"]["name"] == *name);
            let account = &deployment.unwrap().object["spec"]["template"]["spec"]["serviceAccountName"];
            assert_eq!(binding.object["subjects"][0]["name"], *account, "{}", case.display());
        }
    }
}
