//! Who is let in where.

use serde_json::{Value, json};

use crate::rendered::{Checked, cases, rendered};

/// The objects of the case of that name.
fn objects(case: &str) -> Vec<Checked> {
    rendered(&cases("chart").into_iter().find(|path| path.ends_with(case)).unwrap())
}

fn find<'a>(objects: &'a [Checked], name: &str) -> &'a Value {
    &objects.iter().find(|object| object.name() == name).unwrap_or_else(|| panic!("no {name}")).object
}

fn arguments(objects: &[Checked]) -> String {
    let operator = find(objects, "Deployment/v-vespid-operator");
    operator["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
}

#[test]
fn the_test_of_a_release_reaches_the_gateway_beside_the_clients_that_are_named() {
    let objects = objects("everything.yaml");
    let policy = find(&objects, "NetworkPolicy/v-vespid-gateway");
    let from = policy["spec"]["ingress"][0]["from"].as_array().unwrap();
    assert_eq!(from.len(), 2, "{from:?}");
    let selected = from[1]["podSelector"]["matchLabels"].as_object().unwrap();
    let test = &find(&objects, "Pod/v-vespid-test")["metadata"]["labels"];
    assert!(!selected.is_empty() && selected.iter().all(|(label, value)| test[label] == *value), "{test}");
    let gateway = &find(&objects, "Deployment/v-vespid-gateway")["spec"]["template"]["metadata"]["labels"];
    assert!(!selected.iter().all(|(label, value)| gateway[label] == *value), "it selects the test alone");
}

/// Whoever reaches the port of a stream may pause it.
#[test]
fn the_metrics_of_streams_are_for_those_who_are_named() {
    let named = objects("everything.yaml");
    let policy = &find(&named, "NetworkPolicy/v-vespid-metrics")["spec"];
    let monitoring =
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}});
    assert_eq!(
        policy["ingress"],
        json!([{"ports": [{"port": "admin", "protocol": "TCP"}], "from": [monitoring]}])
    );
    let made = json!({"matchLabels": {"app.kubernetes.io/managed-by": "vespid-operator"}});
    assert_eq!(policy["podSelector"], made);

    let nobody = objects("default.yaml");
    let policy = &find(&nobody, "NetworkPolicy/v-vespid-metrics")["spec"];
    assert_eq!(policy["ingress"][0]["from"], json!([{"namespaceSelector": {}}]));
    assert_eq!(
        policy["podSelector"]["matchExpressions"],
        json!([{"key": "vespid.dev/stream", "operator": "DoesNotExist"}])
    );
    // What the operator itself would let in comes on top.
    assert!(
        arguments(&named).contains("\"--close-metrics\"")
            && arguments(&nobody).contains("\"--close-metrics\"")
    );
    assert!(!arguments(&objects("no-policies.yaml")).contains("--close-metrics"));
}
