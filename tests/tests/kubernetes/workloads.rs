//! Jobs and streams that are resources: their pods are processes, and their ends are in their statuses. How a job fails is not seen
//! here, for that is said in words which this release's controller of jobs does not know; the operator's own tests have it.

use std::fs;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::wait;

use crate::broker::{Kafka, Sent};
use crate::world::{RESOURCES, World};

const ROWS: usize = 600;
const FILES: usize = 6;

/// A folder that pods find where the test does: `/tmp` is their own.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn create(world: &World, plural: &str, kind: &str, name: &str, spec: &Value) {
    let object = json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec
    });
    let answer = world.cluster.api().post(&format!("{RESOURCES}/{plural}"), &object);
    assert_eq!(answer.status, 201, "{answer}");
}

#[test]
fn a_job_and_a_stream_come_to_their_ends() {
    let world = World::install(&json!({"replicas": 1}));
    world.hosts(1);
    let gateway = world.gateway();
    gateway.push("iris", "1", &Archive::built("iris"));
    a_job_is_shared_by_workers(&world);
    a_stream_answers_what_comes(&world);
}

fn a_job_is_shared_by_workers(world: &World) {
    let folder = folder();
    for file in 0..FILES {
        let row = |row: usize| format!("{},5.{},3.5,1.4,0.2\n", file * 100 + row, row % 10);
        let text = (0..ROWS / FILES).map(row).collect::<String>();
        fs::write(folder.path().join(format!("{file}.csv")), format!("id,a,b,c,d\n{text}")).unwrap();
    }
    let output = folder.path().join("out");
    let spec = json!({
        "model": "iris", "parallelism": 2,
        "input": {"urls": [format!("{}/*.csv", folder.path().display())]},
        "inputs": {"measurements": ["a", "b", "c", "d"]}, "keep": ["id"],
        "output": {"url": output.display().to_string(), "format": "jsonl"}
    });
    create(world, "batchpredictions", "BatchPrediction", "flowers", &spec);
    let said = world.condition("batchpredictions", "flowers", "Complete", "True");
    let job = world.resource("batchpredictions", "flowers");
    let status = &job["status"];
    assert_eq!(
        (&status["state"], &status["workers"], &status["version"]),
        (&json!("Complete"), &json!("2/2"), &json!(1))
    );
    assert_eq!(
        (&status["report"]["rows"], &status["report"]["failed"]),
        (&json!(ROWS), &json!(0)),
        "{said}: {status}"
    );
    let mut rows = 0;
    for entry in fs::read_dir(&output).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                assert_eq!(row["species"], "setosa", "{line}");
                rows += 1;
            }
        }
    }
    assert_eq!(rows, ROWS);
    // What was made of it goes with it.
    let answer = world.cluster.api().delete(&format!("{RESOURCES}/batchpredictions/flowers"));
    assert_eq!(answer.status, 200, "{answer}");
    wait::until("the job is gone", || {
        let jobs = world.cluster.api().get("/apis/batch/v1/namespaces/default/jobs").json();
        jobs["items"].as_array().unwrap().is_empty().then_some(())
    });
}

fn a_stream_answers_what_comes(world: &World) {
    const MESSAGES: usize = 1000;
    let kafka = Kafka::start();
    kafka.cluster.topics(&["flowers", "species"], 4);
    let brokers: Vec<&str> = kafka.cluster.brokers.split(',').collect();
    let spec = json!({
        "model": "iris", "replicas": 2,
        "source": {"kafka": {"brokers": brokers, "topics": ["flowers"], "group": "iris"}},
        "sink": {"kafka": {"topic": "species"}},
        "inputs": {"measurements": ["a", "b", "c", "d"]}, "keep": ["id"]
    });
    create(world, "streampredictions", "StreamPrediction", "species", &spec);
    world.pods("vespid.dev%2Fstream%3Dspecies", 2);
    world.condition("streampredictions", "species", "Ready", "True");
    let message = |id: usize| json!({"id": id, "a": 5.1, "b": 3.5, "c": 1.4, "d": 0.2}).to_string();
    kafka.cluster.send("flowers", (0..MESSAGES).map(|id| Sent::new((id % 4) as i32, message(id))));
    let answers = kafka.cluster.read("species", 4, MESSAGES);
    assert!(answers.len() >= MESSAGES, "{}", answers.len());
    wait::until("the status tells of no lag, and of all partitions", || {
        let status = world.resource("streampredictions", "species")["status"].clone();
        (status["lag"] == 0 && status["partitions"] == 4 && status["replicas"] == 2).then_some(())
    });
    let answer = world.cluster.api().delete(&format!("{RESOURCES}/streampredictions/species"));
    assert_eq!(answer.status, 200, "{answer}");
    wait::until("its pods are gone", || {
        world.all_pods("vespid.dev%2Fstream%3Dspecies").is_empty().then_some(())
    });
}
