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
