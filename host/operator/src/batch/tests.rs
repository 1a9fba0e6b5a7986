use serde_json::{Value, json};
use vespid_resources::BatchPrediction;

use crate::package::package;
use crate::pool::tests::{golden, in_order};
use crate::testing::{Server, Stage, at, condition, events, killed_anywhere};

const NAME: &str = "flowers-batch";

fn batch(more: &Value) -> Value {
    let mut spec = json!({
        "model": "iris", "input": {"urls": ["s3://data/flowers/*.parquet"]}, "output": {"url": "s3://data/species"},
        "parallelism": 4,
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "BatchPrediction", "metadata": {"name": "flowers", "namespace": "models"},
        "spec": spec,
    })
}

fn full() -> Value {
    json!({
        "version": 2,
        "input": {"urls": ["s3://data/a.csv", "s3://data/b.csv"], "format": "csv", "where": "petal_width > 0.5 AND note IS NOT NULL",
                  "types": {"petal_width": "FP32"}},
        "inputs": {"measurements": ["sepal_length", "sepal_width", "petal_length", "petal_width"]},
        "outputs": {"species": "predicted: yes"}, "binary": ["thumbnail"], "keep": ["id", "0123"],
        "output": {"url": "s3://data/species", "format": "jsonl"}, "maxErrors": "0.5%", "rowsPerCall": 128, "batched": true,
        "retries": 5, "ttlSeconds": 3600,
        "pods": {"env": [{"name": "AWS_REGION", "value": "eu"}], "args": ["--calls", "8"]},
    })
}

fn model(package: &Value) -> Value {
    json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris", "namespace": "models"},
        "spec": {"pool": "default", "versions": [{"version": 1, "package": package, "weight": 1}, {"version": 2, "package": package}]},
        "status": {"versions": [{"version": 2, "digest": "sha256:aa"}]},
    })
}

fn given(more: &Value) -> Server {
    let server = Server::default();
    server.put("batchpredictions", &batch(more));
    server.put("models", &model(&json!({"oci": "oci://registry.example/iris:1"})));
    server.put("modelpools", &json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default", "namespace": "models"},
        "spec": {"pods": {
            "resources": {"limits": {"memory": "2Gi"}}, "nodeSelector": {"disk": "fast"}, "args": ["--trace-rate", "3"],
            "labels": {"team": "botany"},
        }},
    }));
    server
}

async fn seen(stage: &mut Stage) -> Value {
    stage.settle::<BatchPrediction>("flowers").await;
    stage.server.get("batchpredictions", "flowers").unwrap()
}

fn state(batch: &Value) -> &str {
    at(batch, "status.state").as_str().unwrap()
}

/// How the Job is, as Kubernetes says it.
fn job_is(stage: &Stage, status: &Value) {
    stage.server.patch("jobs", NAME, &json!({"status": status}));
}

fn ended(kind: &str, message: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": "True", "message": message}], "succeeded": 4})
}

fn pod(stage: &Stage, name: &str, code: i32, message: &str) {
    stage.server.put("pods", &json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"vespid.dev/batch": "flowers"}},
        "status": {"containerStatuses": [{
            "name": "vespid", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "message": message}},
        }]},
    }));
}

#[tokio::test]
async fn a_job_becomes_an_indexed_job_like_the_pods_of_its_pool() {
    let mut stage = Stage::new(given(&full()));
    let batch = seen(&mut stage).await;
    assert_eq!((state(&batch), at(&batch, "status.version")), ("Running", &json!(2)));
    assert_eq!(at(&batch, "status.workers"), "0/4");
    let mut job = stage.server.get("jobs", NAME).unwrap();
    assert_eq!(at(&job, "metadata.ownerReferences.0.kind"), "BatchPrediction");
    job["metadata"].as_object_mut().unwrap().retain(|field, _| field == "name" || field == "labels");
    golden("batch-job.yaml", &serde_saphyr::to_string(&in_order(job.clone())).unwrap());
    let config = stage.server.get("configmaps", NAME).unwrap();
    let yaml = config["data"]["job.yaml"].as_str().unwrap().to_owned();
    golden("job.yaml", &yaml);
    assert!(yaml.contains("oci://registry.example/iris@sha256:aa"), "{yaml}");
    assert!(events(&stage.server).contains(&format!("Created Job {NAME} was made, with 4 pods")));
}

#[tokio::test]
async fn nobody_reaches_the_pods_of_a_job_but_for_their_metrics() {
    let mut stage = Stage::new(given(&json!({})));
    for _ in 0..2 {
        assert_eq!(state(&seen(&mut stage).await), "Running");
        let policy = stage.server.get("networkpolicies", NAME).expect("it is put right while the job runs");
        assert_eq!(at(&policy, "spec.podSelector.matchLabels"), &json!({"vespid.dev/batch": "flowers"}));
        let rule =
            json!({"from": [{"namespaceSelector": {}}], "ports": [{"port": "admin", "protocol": "TCP"}]});
        assert_eq!(at(&policy, "spec.ingress"), &json!([rule]));
        stage.server.delete("networkpolicies", NAME);
    }
}

#[tokio::test]
async fn a_stored_and_an_uploaded_package_are_had_from_where_they_are() {
    for (package, expected) in [
        (json!({"store": "s3://models/production"}), "iris"),
        (
            json!({"upload": format!("sha256:{}", "0".repeat(64))}),
            "http://vespid-gateway-packages:8003/packages/iris/1?digest=sha256:0000",
        ),
    ] {
        let server = given(&json!({}));
        server.put("models", &model(&package));
        let mut stage = Stage::new(server);
        assert_eq!(state(&seen(&mut stage).await), "Running");
        let config = stage.server.get("configmaps", NAME).unwrap();
        assert!(config["data"]["job.yaml"].as_str().unwrap().contains(expected));
        let job = stage.server.get("jobs", NAME).unwrap();
        let args = at(&job, "spec.template.spec.containers.0.args").as_array().unwrap();
        assert_eq!(args.contains(&json!("s3://models/production")), expected == "iris");
    }
}

#[tokio::test]
async fn a_job_waits_for_its_model_and_says_so() {
    let server = Server::default();
    server.put("batchpredictions", &batch(&json!({})));
    let mut stage = Stage::new(server);
    let batch = seen(&mut stage).await;
    assert_eq!((state(&batch), condition(&batch, "Complete").1.as_str()), ("Waiting", "ModelMissing"));
    assert!(stage.server.get("jobs", NAME).is_none());
    stage.server.put("models", &model(&json!({"store": "s3://models"})));
    let batch = seen(&mut stage).await;
    assert_eq!(condition(&batch, "Complete").2, "there is no pool 'default', which the model 'iris' names");
    stage.server.put("modelpools", &json!({"apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default"}, "spec": {}}));
    assert_eq!(state(&seen(&mut stage).await), "Running");
}

#[tokio::test]
async fn the_version_that_was_chosen_is_kept() {
    let mut stage = Stage::new(given(&json!({})));
    assert_eq!(at(&seen(&mut stage).await, "status.version"), &json!(1), "it has the greatest weight");
    stage.server.patch(
        "models",
        "iris",
        &json!({"spec": {"versions": [{"version": 2, "weight": 1, "package": {"store": "s3://m"}}]}}),
    );
    // Somebody deletes the Job: it is made again, over the parts that are done.
    stage.server.delete("jobs", NAME);
    let batch = seen(&mut stage).await;
    assert_eq!(
        (state(&batch), condition(&batch, "Complete").2.as_str()),
        ("Waiting", "the model 'iris' has no version 1")
    );
}

#[tokio::test]
async fn a_job_is_held_and_goes_on() {
    let mut stage = Stage::new(given(&json!({"suspend": true})));
    let batch_ = seen(&mut stage).await;
    assert_eq!(state(&batch_), "Suspended");
    assert_eq!(at(&stage.server.get("jobs", NAME).unwrap(), "spec.suspend"), true);
    stage.server.patch("batchpredictions", "flowers", &json!({"spec": {"suspend": false, "ttlSeconds": 60}}));
    let batch_ = seen(&mut stage).await;
    assert_eq!(state(&batch_), "Running");
    let job = stage.server.get("jobs", NAME).unwrap();
    assert_eq!(
        (at(&job, "spec.suspend"), at(&job, "spec.ttlSecondsAfterFinished")),
        (&json!(false), &json!(60))
    );
    job_is(&stage, &json!({"active": 2, "succeeded": 1, "failed": 1}));
    let batch_ = seen(&mut stage).await;
    assert_eq!(at(&batch_, "status.workers"), "1/4");
    assert_eq!(
        condition(&batch_, "Complete").2,
        "1 of 4 pods are done, 2 at work, 1 pod failed and had another in its place"
    );
}

#[tokio::test]
async fn the_report_of_the_last_pod_is_in_the_status() {
    let mut stage = Stage::new(given(&full()));
    seen(&mut stage).await;
    pod(&stage, "flowers-batch-0-x", 0, "this worker's share is done; 3 parts are other workers'");
    let report = r#"{"model":{"name":"iris","version":"2","digest":"sha256:aa"},"rows":1000,"errors":3,"parts":7,"bytes":9,"seconds":1.5}"#;
    pod(&stage, "flowers-batch-1-x", 0, report);
    job_is(&stage, &ended("Complete", "Reached expected number of succeeded pods"));
    let batch_ = seen(&mut stage).await;
    assert_eq!(state(&batch_), "Complete");
    assert_eq!(at(&batch_, "status.report"), &json!({"rows": 997, "failed": 3, "parts": 7}));
    assert_eq!(
        condition(&batch_, "Complete"),
        ("True".into(), "Complete".into(), "997 rows were answered and 3 failed, in 7 parts".into())
    );
    assert!(events(&stage.server).iter().any(|event| event.starts_with("Complete")));
    // Its Job goes when its time is over; what is done is not done again.
    stage.server.delete("jobs", NAME);
    let before = stage.server.requests().len();
    stage.look::<BatchPrediction>("flowers").await.unwrap();
    assert_eq!(stage.server.requests().len(), before);
}

#[tokio::test]
async fn a_job_that_failed_says_what_its_pod_said() {
    let mut stage = Stage::new(given(&json!({})));
    seen(&mut stage).await;
    pod(&stage, "flowers-batch-0-x", 0, "done");
    pod(&stage, "flowers-batch-2-x", 2, "input.url: there are no files s3://data/flowers/*.parquet\n");
    job_is(
        &stage,
        &ended("Failed", "Container vespid for pod models/flowers-batch-2-x failed with exit code 2"),
    );
    let batch_ = seen(&mut stage).await;
    assert_eq!(state(&batch_), "Failed");
    let message = condition(&batch_, "Complete").2;
    assert!(
        message
            .ends_with("; pod flowers-batch-2-x: input.url: there are no files s3://data/flowers/*.parquet"),
        "{message}"
    );
}

#[tokio::test]
async fn what_the_cluster_refuses_is_told_and_an_error_is_tried_again() {
    let mut stage = Stage::new(given(&json!({})));
    stage.server.fail("POST jobs", 403, "exceeded quota: pods");
    stage.look::<BatchPrediction>("flowers").await.unwrap();
    let batch_ = stage.server.get("batchpredictions", "flowers").unwrap();
    assert_eq!(
        (state(&batch_), condition(&batch_, "Complete").2.as_str()),
        ("Waiting", "Job flowers-batch: exceeded quota: pods")
    );
    stage.server.fail("POST jobs", 500, "etcd is away");
    assert!(stage.look::<BatchPrediction>("flowers").await.is_err());
    assert_eq!(stage.server.get("batchpredictions", "flowers").unwrap(), batch_);
    assert_eq!(state(&seen(&mut stage).await), "Running");
}

#[tokio::test]
async fn with_a_job_all_that_was_made_of_it_goes() {
    let mut stage = Stage::new(given(&json!({})));
    seen(&mut stage).await;
    stage.server.delete("batchpredictions", "flowers");
    assert!(stage.server.get("jobs", NAME).is_none() && stage.server.get("configmaps", NAME).is_none());
}

#[tokio::test]
async fn an_operator_that_is_killed_anywhere_is_followed_by_one_that_ends_with_the_same() {
    killed_anywhere::<BatchPrediction>(&|| given(&full()), "flowers").await;
}

#[test]
fn no_column_is_kept_where_none_is_named() {
    let job: BatchPrediction = serde_json::from_value(batch(&json!({"keep": []}))).unwrap();
    let model = serde_json::from_value(model(&json!({"store": "s3://models"}))).unwrap();
    let yaml = super::job_yaml(&job, &package(&model, None, None).unwrap()).unwrap();
    assert!(yaml.contains("keep: none\n"), "{yaml}");
}
