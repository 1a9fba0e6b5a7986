//! Jobs of a running server: taken beside online requests, gone on with after a restart, cancelled.

use serde_json::{Value, json};
use vespid_tests::http;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

use super::Desk;

fn start(home: &Home, desk: &Desk) -> Server {
    home.start_with(&["--batch-root", &desk.text("")])
}

fn job(desk: &Desk, out: &str, rows_per_call: u32) -> Value {
    json!({
        "model": "iris",
        "input": {"url": desk.text("in.parquet")},
        "inputs": {"measurements": ["sepal_length", "sepal_width", "petal_length", "petal_width"]},
        "output": {"url": desk.text(out)},
        "rows_per_call": rows_per_call,
        "metadata": {"team": "botany"},
    })
}

fn create(server: &Server, job: &Value) -> String {
    let answer = server.post("/v2/batches", job);
    assert_eq!(answer.status, 202, "{answer}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn get(server: &Server, id: &str) -> Value {
    let answer = server.get(&format!("/v2/batches/{id}"));
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()
}

fn ended(server: &Server, id: &str) -> Value {
    wait::until("the job has ended", || {
        let batch = get(server, id);
        let running =
            ["validating", "in_progress", "cancelling"].contains(&batch["status"].as_str().unwrap());
        (!running).then_some(batch)
    })
}

#[test]
fn jobs_run_beside_requests_and_outlive_the_server() {
    let (desk, home) = (Desk::default(), Home::default());
    desk.flowers("parquet", "in.parquet", 40_000, 0, 2000);
    let server = start(&home, &desk);
    server.push("iris");
    let quick = create(&server, &job(&desk, "quick", 512));
    let slow = create(&server, &job(&desk, "slow", 4));
    let batch = ended(&server, &quick);
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 40_000, "completed": 40_000, "failed": 0}));
    assert_eq!((&batch["object"], &batch["metadata"]["team"]), (&json!("batch"), &json!("botany")));
    wait::until("the second job has done parts", || (desk.parts("slow").len() > 1).then_some(()));
    assert_setosa(&server.infer("iris", &flower()));
    let answer = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]);
    let metrics = String::from_utf8(answer.body).unwrap();
    assert!(metrics.contains("vespid_batch_rows_done{job=\"batch_"), "{metrics}");
    server.stop();
    let parts = desk.parts("slow").len();
    assert!(parts < 20, "{parts}");
    let server = start(&home, &desk);
    let batch = ended(&server, &slow);
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["report"]["rows"], 40_000);
    assert_eq!(desk.rows("slow"), desk.rows("quick"));
    let list = server.get("/v2/batches?limit=1").json();
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&json!(slow), &json!(true)));
    let rest = server.get(&format!("/v2/batches?after={slow}")).json();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!(quick), &json!(false)));
}

#[test]
fn jobs_are_cancelled_and_forgotten() {
    let (desk, home) = (Desk::default(), Home::default());
    desk.flowers("parquet", "in.parquet", 40_000, 0, 2000);
    let server = start(&home, &desk);
    server.push("iris");
    let id = create(&server, &job(&desk, "out", 2));
    let waiting = create(&server, &job(&desk, "waiting", 2));
    let path = |id: &str| format!("/v2/batches/{id}");
    wait::until("it runs", || (get(&server, &id)["status"] == "in_progress").then_some(()));
    for id in [&waiting, &id] {
        let answer = server.send("DELETE", &path(id), &[], b"");
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("cancelling")), "{answer}");
    }
    for id in [&id, &waiting] {
        assert_eq!(ended(&server, id)["status"], "cancelled");
    }
    assert!(desk.parts("waiting").is_empty());
    assert_eq!(server.send("DELETE", &path(&id), &[], b"").status, 200);
    server.get(&path(&id)).assert_error(404, "there is no job");
}

#[test]
fn what_a_job_may_not_do_is_refused() {
    let (desk, home) = (Desk::default(), Home::default());
    desk.flowers("parquet", "in.parquet", 10, 0, 10);
    let server = start(&home, &desk);
    server.push("iris");
    let refused = |change: &dyn Fn(&mut Value), status: u16, expected: &str| {
        let mut job = job(&desk, "out", 8);
        change(&mut job);
        server.post("/v2/batches", &job).assert_error(status, expected);
    };
    refused(
        &|job| job["input"]["url"] = json!("/etc/passwd"),
        403,
        "input.url: jobs may not use '/etc/passwd'",
    );
    refused(&|job| job["output"]["url"] = json!(desk.text("../out")), 403, "output.url");
    refused(&|job| job["output"]["format"] = json!("xml"), 400, "output.format");
    refused(&|job| job["rows_per_call"] = json!(0), 400, "rows_per_call: use 1 or more");
    let mut unknown = job(&desk, "out", 8);
    unknown["model"] = json!("rose");
    let batch = ended(&server, &create(&server, &unknown));
    assert_eq!(
        (&batch["status"], &batch["errors"]["data"][0]["code"]),
        (&json!("failed"), &json!("NOT_FOUND")),
        "{batch}"
    );
    let none = Server::with(&[]);
    none.get("/v2/batches").assert_error(501, "--batch-root");
}
