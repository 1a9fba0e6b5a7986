//! What a current server of custom resources takes of Vespid's, and what it says to the rest.

use serde_json::{Value, json};
use vespid_tests::kubernetes::Extensions;

const PATH: &str = "/apis/vespid.dev/v1alpha1/namespaces/default";

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "vespid.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn version(version: u32, package: &Value) -> Value {
    json!({"version": version, "package": package})
}

fn iris() -> Value {
    json!({"versions": [version(1, &json!({"oci": "oci://registry.example/iris:1"}))]})
}

fn batch() -> Value {
    json!({"model": "iris", "input": {"urls": ["s3://data/in"]}, "output": {"url": "s3://data/out"}})
}

fn stream() -> Value {
    json!({
        "model": "iris",
        "source": {"kafka": {"brokers": ["kafka:9092"], "topics": ["flowers"]}},
        "sink": {"kafka": {"topic": "species"}}
    })
}

/// A specification with one field that is another one.
fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

#[test]
fn what_is_wrong_is_refused_by_the_rule_that_says_so() {
    let server = Extensions::with_definitions();
    let post = |kind: &str, name: &str, spec: &Value| {
        server.post(&format!("{PATH}/{}s", kind.to_lowercase()), &object(kind, name, spec))
    };
    let resources = json!({"requests": {"cpu": "1"}, "limits": {"memory": "8Gi"}});
    for (kind, spec) in [
        ("Model", iris()),
        ("ModelPool", json!({"autoscaling": {"maxReplicas": 3}, "pods": {"resources": resources}})),
        ("BatchPrediction", batch()),
        ("StreamPrediction", stream()),
    ] {
        let answer = post(kind, "good", &spec);
        assert_eq!(answer.status, 201, "{kind}: {answer}");
    }
    let package = json!({"oci": "oci://registry.example/iris:1"});
    let several = json!({"versions": [
        {"version": 1, "package": package, "weight": 0}, {"version": 2, "package": package, "weight": 0}
    ]});
    let wrong = [
        ("Model", json!({}), "spec.versions: Required value"),
        ("Model", with(iris(), "versions", json!([])), "should have at least 1 items"),
        (
            "Model",
            with(iris(), "versions", json!([version(1, &json!({}))])),
            "name one of oci, store and upload",
        ),
        (
            "Model",
            with(iris(), "versions", json!([version(1, &json!({"oci": "oci://a/b:1", "store": "s3://c"}))])),
            "name one of oci, store and upload",
        ),
        (
            "Model",
            with(iris(), "versions", json!([version(1, &json!({"oci": "registry.example/iris"}))])),
            "should match",
        ),
        (
            "Model",
            with(iris(), "versions", json!([version(1, &package), version(1, &package)])),
            "Duplicate value",
        ),
        ("Model", with(iris(), "shadow", json!({"version": 7})), "name one of the versions"),
        ("Model", several, "one of them must be above 0"),
        ("Model", with(iris(), "replicas", json!(-1)), "should be greater than or equal to 0"),
        (
            "ModelPool",
            json!({"replicas": 2, "autoscaling": {"maxReplicas": 3}}),
            "leave it out where autoscaling is set",
        ),
        (
            "ModelPool",
            json!({"autoscaling": {"minReplicas": 4, "maxReplicas": 3}}),
            "minReplicas is at most maxReplicas",
        ),
        ("ModelPool", json!({"cache": {"hostPath": "/a", "claim": "b"}}), "name one of hostPath and claim"),
        ("BatchPrediction", with(batch(), "input", json!({"urls": []})), "should have at least 1 items"),
        ("BatchPrediction", with(batch(), "maxErrors", json!("many")), "should match"),
        ("StreamPrediction", with(stream(), "source", json!({})), "name one of kafka and nats"),
        (
            "StreamPrediction",
            with(with(stream(), "replicas", json!(1)), "scaling", json!({"maxReplicas": 2})),
            "leave it out where scaling is set",
        ),
        (
            "StreamPrediction",
            with(
                with(stream(), "exactlyOnce", json!(true)),
                "sink",
                json!({"nats": {"servers": ["nats://n"], "subject": "s"}}),
            ),
            "source and sink must both be kafka",
        ),
    ];
    for (number, (kind, spec, message)) in wrong.iter().enumerate() {
        let answer = post(kind, &format!("wrong-{number}"), spec);
        let said = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(
            answer.status == 422 && said.contains(message),
            "{kind} {spec}\nexpected '{message}': {answer}"
        );
    }
    let long = post("ModelPool", &"a".repeat(51), &json!({}));
    assert!(long.status == 422 && long.to_string().contains("at most 50 characters"), "{long}");
    what_is_said_stays_said(&server);
}

/// Defaults, what may not change, and lists that several write to.
fn what_is_said_stays_said(server: &Extensions) {
    let path = format!("{PATH}/models/good");
    let stored = server.api().get(&path).json();
    assert_eq!(
        (&stored["spec"]["pool"], &stored["spec"]["replicas"]),
        (&json!("default"), &json!(1)),
        "{stored}"
    );
    let other =
        json!({"spec": {"versions": [version(1, &json!({"oci": "oci://registry.example/other:1"}))]}});
    let answer = server.api().merge(&path, &other);
    assert!(
        answer.status == 422 && answer.to_string().contains("a version is never overwritten"),
        "{answer}"
    );
    let more = json!({"spec": {"versions": [
        version(1, &json!({"oci": "oci://registry.example/iris:1"})), version(2, &json!({"oci": "oci://registry.example/iris:2"}))
    ]}});
    let answer = server.api().merge(&path, &more);
    assert_eq!(answer.status, 200, "{answer}");
    let answer =
        server.api().merge(&format!("{PATH}/batchpredictions/good"), &json!({"spec": {"model": "other"}}));
    assert!(
        answer.status == 422 && answer.to_string().contains("do not change once the job is there"),
        "{answer}"
    );
    // Each pod has its own entry.
    for pod in ["a", "b"] {
        let entry = json!({"pod": pod, "versions": [{"version": 1, "state": "Ready"}]});
        let mut said = object("Model", "good", &Value::Null);
        said.as_object_mut().unwrap().remove("spec");
        said["status"] = json!({"pods": [entry]});
        let answer =
            server.api().apply(&format!("{path}/status"), &format!("vespid-pod-{pod}"), &said.to_string());
        assert_eq!(answer.status, 200, "{answer}");
    }
    let pods = server.api().get(&path).json()["status"]["pods"].as_array().unwrap().len();
    assert_eq!(pods, 2);
    // By hand, as `kubectl scale` does.
    let answer = server.api().merge(&format!("{path}/scale"), &json!({"spec": {"replicas": 3}}));
    assert_eq!((answer.status, &answer.json()["spec"]["replicas"]), (200, &json!(3)), "{answer}");
}
