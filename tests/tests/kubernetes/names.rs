//! What a current server of custom resources says to names that become no label, and to pools that could not be scaled.

use serde_json::{Value, json};
use vespid_tests::http::Answer;
use vespid_tests::kubernetes::Extensions;

const PATH: &str = "/apis/vespid.dev/v1alpha1/namespaces/default";

fn post(server: &Extensions, kind: &str, name: &str, spec: &Value) -> Answer {
    let object =
        json!({"apiVersion": "vespid.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    server.post(&format!("{PATH}/{}s", kind.to_lowercase()), &object)
}

/// Takes these names and none of those.
fn check(server: &Extensions, kind: &str, spec: &Value, good: &[&str], bad: &[&str]) {
    for name in good {
        let answer = post(server, kind, name, spec);
        assert_eq!(answer.status, 201, "{kind} {name}: {answer}");
    }
    for name in bad {
        let answer = post(server, kind, name, spec);
        assert!(
            answer.status == 422 && answer.to_string().contains("at most 50 characters"),
            "{kind} {name}: {answer}"
        );
    }
}

#[test]
fn what_the_api_server_is_told_of_pools_jobs_and_streams() {
    let server = Extensions::with_definitions();
    let (longest, long) = ("a".repeat(50), "a".repeat(51));
    check(&server, "ModelPool", &json!({}), &["a", "a-1", &longest], &["a.b", "1a", &long]);
    let batch =
        json!({"model": "iris", "input": {"urls": ["s3://data/in"]}, "output": {"url": "s3://data/out"}});
    check(&server, "BatchPrediction", &batch, &["a", "1-a", &longest], &["a.b", &long]);
    let stream = json!({
        "model": "iris", "source": {"kafka": {"brokers": ["kafka:9092"], "topics": ["flowers"]}}, "sink": {"kafka": {"topic": "species"}}
    });
    check(&server, "StreamPrediction", &stream, &["a", "1-a", &longest], &["a.b", &long]);
    autoscaling_by_processor_time_takes_a_request(&server);
    the_status_of_a_pool_has_two_writers(&server);
}

fn autoscaling_by_processor_time_takes_a_request(server: &Extensions) {
    let metric = json!({"type": "Pods", "pods": {"metric": {"name": "in_flight"}, "target": {"type": "AverageValue", "averageValue": "8"}}});
    let requests =
        |resources: Value| json!({"autoscaling": {"maxReplicas": 3}, "pods": {"resources": resources}});
    let good = [
        requests(json!({"requests": {"cpu": "500m"}})),
        requests(json!({"limits": {"cpu": 2}})),
        json!({"autoscaling": {"maxReplicas": 3, "metrics": [metric]}}),
        json!({"autoscaling": {"minReplicas": 0, "maxReplicas": 1}}),
    ];
    for (number, spec) in good.iter().enumerate() {
        let answer = post(server, "ModelPool", &format!("scaled-{number}"), spec);
        assert_eq!(answer.status, 201, "{spec}: {answer}");
    }
    let bad = [
        json!({"autoscaling": {"maxReplicas": 3}}),
        json!({"autoscaling": {"maxReplicas": 3, "metrics": []}}),
        requests(json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}})),
    ];
    for spec in &bad {
        let answer = post(server, "ModelPool", "stuck", spec);
        assert!(
            answer.status == 422 && answer.to_string().contains("pods.resources.requests.cpu"),
            "{spec}: {answer}"
        );
    }
}

/// The gateway's fields stay when the operator writes its own, and are times.
fn the_status_of_a_pool_has_two_writers(server: &Extensions) {
    let path = format!("{PATH}/modelpools/a");
    let gateway = |asked: &str| {
        let query = "fieldManager=vespid-gateway";
        server.api().merge(&format!("{path}/status?{query}"), &json!({"status": {"asked": asked}}))
    };
    assert_eq!(gateway("2026-01-01T00:10:00Z").status, 200);
    for models in [1, 2] {
        let status = json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "a"}, "status": {"models": models}
        });
        let answer = server.api().apply(&format!("{path}/status"), "vespid-operator", &status.to_string());
        assert_eq!(answer.status, 200, "{answer}");
    }
    let status = server.api().get(&path).json()["status"].clone();
    assert_eq!(status, json!({"asked": "2026-01-01T00:10:00Z", "models": 2}));
    let refused = gateway("yesterday");
    assert_eq!(refused.status, 422, "{refused}");
}
