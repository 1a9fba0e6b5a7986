use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use vespid_resources::StreamPrediction;

use crate::pool::tests::{golden, in_order};
use crate::testing::{Server, Stage, at, condition, events, killed_anywhere, options};
use crate::{OperatorOptions, Peers};

const NAME: &str = "clicks-stream";

fn stream(more: &Value) -> Value {
    let mut spec = json!({
        "model": "iris",
        "source": {"kafka": {"brokers": ["kafka:9092"], "topics": ["clicks"]}}, "sink": {"kafka": {"topic": "species"}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "StreamPrediction", "metadata": {"name": "clicks", "namespace": "models"},
        "spec": spec,
    })
}

fn kafka() -> Value {
    let secret = |key: &str| json!({"secret": "kafka", "key": key});
    json!({
        "version": 1, "replicas": 3,
        "source": {"codec": "json", "kafka": {
            "brokers": ["kafka-0:9092", "kafka-1:9092"], "topics": ["clicks", "taps"], "group": "iris", "start": "latest",
            "properties": {"security.protocol": "sasl_ssl", "fetch.min.bytes": "1"},
            "secretProperties": {"sasl.username": secret("user"), "sasl.password": secret("password")},
        }},
        "sink": {"codec": "json", "kafka": {"topic": "species", "deadLetter": "clicks-failed", "properties": {"compression.type": "zstd"}}},
        "inputs": {"measurements": ["sepal_length", "sepal_width"]}, "outputs": {"species": "predicted"}, "keep": ["id"],
        "batched": true, "maxRows": 256, "maxWait": "5ms", "concurrency": 1, "order": "key", "exactlyOnce": true,
        "onError": {"decode": "deadLetter", "timeout": "stop", "refused": "skip"},
        "sessions": {"idleTimeout": "5m", "max": 32, "snapshots": "s3://state", "every": "30s"}, "drainSeconds": 25,
    })
}

fn nats() -> Value {
    let secret = json!({"secret": "nats", "key": "user.creds"});
    json!({
        "source": {"codec": "raw", "nats": {"servers": ["nats://nats:4222"], "credentials": secret, "stream": "CLICKS", "subject": "clicks.*"}},
        "sink": {"codec": "raw", "nats": {"servers": ["tls://other:4222"], "credentials": secret, "subject": "species", "deadLetter": "failed"}},
        "keep": [],
    })
}

fn given(more: &Value) -> Server {
    let server = Server::default();
    server.put("streampredictions", &stream(more));
    server.put("models", &json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris", "namespace": "models"},
        "spec": {"pool": "default", "versions": [
            {"version": 1, "package": {"store": "s3://models/production"}},
            {"version": 2, "package": {"oci": "oci://registry.example/iris:2"}},
        ]},
    }));
    server.put("modelpools", &json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default", "namespace": "models"}, "spec": {},
    }));
    server
}

async fn seen(stage: &mut Stage) -> Value {
    stage.settle::<StreamPrediction>("clicks").await;
    stage.server.get("streampredictions", "clicks").unwrap()
}

fn told(server: &Server) -> String {
    let config = server.get("configmaps", NAME).unwrap();
    config["data"]["stream.yaml"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_stream_becomes_a_deployment_with_what_its_pods_are_told() {
    let mut stage = Stage::new(given(&kafka()));
    let resource = seen(&mut stage).await;
    assert_eq!(at(&resource, "status.version"), &json!(1));
    golden("stream-kafka.yaml", &told(&stage.server));
    let mut deployment = stage.server.get("deployments", NAME).unwrap();
    deployment["metadata"].as_object_mut().unwrap().retain(|field, _| field == "name" || field == "labels");
    golden("stream-deployment.yaml", &serde_saphyr::to_string(&in_order(deployment.clone())).unwrap());
}

#[tokio::test]
async fn the_pods_are_reached_at_the_one_port_and_where_metrics_are_closed_by_the_operator_alone() {
    for metrics in [true, false] {
        let peers = Peers { metrics, ..Peers::default() };
        let mut stage = Stage::with(given(&json!({})), OperatorOptions { peers, ..options() });
        seen(&mut stage).await;
        let policy = stage.server.get("networkpolicies", NAME).unwrap();
        assert_eq!(at(&policy, "spec.podSelector.matchLabels"), &json!({"vespid.dev/stream": "clicks"}));
        assert_eq!(at(&policy, "spec.policyTypes"), &json!(["Ingress"]));
        let operator = json!({"podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}}});
        let from = if metrics { json!({"namespaceSelector": {}}) } else { operator };
        let rule = json!({"from": [from], "ports": [{"port": "admin", "protocol": "TCP"}]});
        assert_eq!(at(&policy, "spec.ingress"), &json!([rule]));
        stage.server.delete("networkpolicies", NAME);
        seen(&mut stage).await;
        assert!(stage.server.get("networkpolicies", NAME).is_some(), "it is put right");
    }
}

#[tokio::test]
async fn a_stream_of_nats_has_its_credentials_in_files() {
    let mut stage = Stage::new(given(&nats()));
    seen(&mut stage).await;
    let yaml = told(&stage.server);
    golden("stream-nats.yaml", &yaml);
    let deployment = stage.server.get("deployments", NAME).unwrap();
    let mounts = at(&deployment, "spec.template.spec.containers.0.volumeMounts").as_array().unwrap().clone();
    for side in ["source", "sink"] {
        assert!(
            mounts.iter().any(|mount| mount["mountPath"] == format!("/etc/vespid/nats/{side}")),
            "{mounts:?}"
        );
        assert!(yaml.contains(&format!("/etc/vespid/nats/{side}/credentials")));
    }
}

#[tokio::test]
async fn another_configuration_replaces_the_pods_and_another_number_does_not() {
    let mut stage = Stage::new(given(&json!({"replicas": 1})));
    seen(&mut stage).await;
    let template =
        |stage: &Stage| at(&stage.server.get("deployments", NAME).unwrap(), "spec.template").clone();
    let before = template(&stage);
    stage.server.patch("streampredictions", "clicks", &json!({"spec": {"replicas": 4}}));
    seen(&mut stage).await;
    assert_eq!(template(&stage), before);
    assert_eq!(at(&stage.server.get("deployments", NAME).unwrap(), "spec.replicas"), &json!(4));
    stage.server.patch("streampredictions", "clicks", &json!({"spec": {"maxRows": 7}}));
    seen(&mut stage).await;
    assert_ne!(template(&stage), before);
}

#[tokio::test]
async fn without_its_model_nothing_is_made_and_what_there_is_stays() {
    let server = Server::default();
    server.put("streampredictions", &stream(&json!({})));
    let mut stage = Stage::new(server);
    let resource = seen(&mut stage).await;
    assert_eq!(condition(&resource, "Ready").1, "ModelMissing");
    assert!(stage.server.get("deployments", NAME).is_none());
    let mut stage = Stage::new(given(&json!({})));
    seen(&mut stage).await;
    stage.server.delete("models", "iris");
    let resource = seen(&mut stage).await;
    assert_eq!(condition(&resource, "Ready").2, "there is no model 'iris' in this namespace");
    assert!(stage.server.get("deployments", NAME).is_some(), "messages are answered as before");
}

/// A pod whose admin port says what `said` says.
async fn pod(server: &Server, said: Arc<Mutex<Value>>) {
    let answer = get(move || {
        let said = said.lock().unwrap().clone();
        async move { axum::Json(json!({"streams": [said]})) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v2/streams", answer)).await });
    server.put("pods", &json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "clicks-1", "labels": {"vespid.dev/stream": "clicks"}},
        "spec": {"containers": [{"name": "vespid", "ports": [{"name": "admin", "containerPort": port}]}]},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }));
}

fn said(lag: i64, partitions: i64) -> Value {
    let each: Vec<Value> = (0..partitions)
        .map(|number| json!({"topic": "clicks", "partition": number, "position": 1, "lag": if number == 0 { lag } else { 0 }}))
        .collect();
    json!({
        "name": "clicks", "model": "iris", "state": "running", "paused": false, "sessions": 0, "lag": lag, "partitions": each,
    })
}

#[tokio::test]
async fn pods_are_asked_for_their_lag_and_come_with_it_up_to_the_partitions() {
    let scaling = json!({"minReplicas": 1, "maxReplicas": 20, "lag": 100});
    let mut stage = Stage::new(given(&json!({"scaling": scaling})));
    seen(&mut stage).await;
    let replicas =
        |stage: &Stage| at(&stage.server.get("deployments", NAME).unwrap(), "spec.replicas").clone();
    assert_eq!(replicas(&stage), 1);
    let lag = Arc::new(Mutex::new(said(250, 6)));
    pod(&stage.server, Arc::clone(&lag)).await;
    stage.server.patch("deployments", NAME, &json!({"status": {"replicas": 1, "readyReplicas": 1}}));
    let resource = seen(&mut stage).await;
    assert_eq!(replicas(&stage), 3);
    assert_eq!((at(&resource, "status.lag"), at(&resource, "status.partitions")), (&json!(250), &json!(6)));
    assert_eq!(
        condition(&resource, "Ready"),
        ("True".into(), "Running".into(), "1 of 1 pod answer messages".into())
    );
    assert!(events(&stage.server).contains(&"Scaled from 1 to 3 pods".to_owned()));
    *lag.lock().unwrap() = said(100_000, 6);
    seen(&mut stage).await;
    assert_eq!(replicas(&stage), 6, "there are no more partitions");
    *lag.lock().unwrap() = json!({"name": "clicks", "state": "waiting", "reason": "the broker is away", "lag": null, "partitions": []});
    let resource = seen(&mut stage).await;
    assert_eq!(replicas(&stage), 6, "nobody knows, and nobody goes");
    assert_eq!(condition(&resource, "Ready").2, "pod clicks-1: the broker is away");
}

#[tokio::test]
async fn what_the_cluster_refuses_is_told_and_an_error_is_tried_again() {
    let mut stage = Stage::new(given(&json!({})));
    stage.server.fail(
        "PATCH deployments",
        422,
        "spec.template.spec.tolerations[0].operator: Unsupported value",
    );
    stage.look::<StreamPrediction>("clicks").await.unwrap();
    let resource = stage.server.get("streampredictions", "clicks").unwrap();
    assert_eq!(condition(&resource, "Ready").1, "Refused");
    for (code, conflict) in [(500, false), (409, true)] {
        stage.server.fail("PATCH deployments", code, "not now");
        assert_eq!(stage.look::<StreamPrediction>("clicks").await.unwrap_err().is_conflict(), conflict);
        assert_eq!(stage.server.get("streampredictions", "clicks").unwrap(), resource);
    }
    assert_eq!(condition(&seen(&mut stage).await, "Ready").1, "Starting");
}

#[tokio::test]
async fn with_a_stream_all_that_was_made_of_it_goes() {
    let mut stage = Stage::new(given(&kafka()));
    seen(&mut stage).await;
    stage.server.delete("streampredictions", "clicks");
    assert!(
        stage.server.get("deployments", NAME).is_none() && stage.server.get("configmaps", NAME).is_none()
    );
}

#[tokio::test]
async fn an_operator_that_is_killed_anywhere_is_followed_by_one_that_ends_with_the_same() {
    killed_anywhere::<StreamPrediction>(&|| given(&kafka()), "clicks").await;
    killed_anywhere::<StreamPrediction>(&|| given(&nats()), "clicks").await;
}
