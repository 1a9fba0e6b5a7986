use super::*;

/// As Vespid answers.
fn vespid(requests: u64, failed: u64) -> String {
    let executions = requests / 2;
    format!(
        r#"{{"model_stats":[{{"name":"embed","version":"1","last_inference":1700000000000,
        "inference_count":{requests},"execution_count":{executions},
        "inference_stats":{{"success":{{"count":{requests},"ns":{success}}},"fail":{{"count":{failed},"ns":7}},
        "queue":{{"count":{requests},"ns":{queue}}},"compute_input":{{"count":{requests},"ns":{input}}},
        "compute_infer":{{"count":{requests},"ns":{infer}}},"compute_output":{{"count":{requests},"ns":{output}}},
        "cache_hit":{{"count":0,"ns":0}},"cache_miss":{{"count":0,"ns":0}}}},
        "batch_stats":[{{"batch_size":1,"compute_infer":{{"count":3,"ns":9}}}},
            {{"batch_size":8,"compute_input":{{"count":0,"ns":0}},
              "compute_infer":{{"count":{executions},"ns":{infer}}},"compute_output":{{"count":0,"ns":0}}}}],
        "memory_usage":[],
        "vespid":{{"cpu":{{"count":1,"ns":1}},"graph":{{"count":{requests},"ns":{graph}}},
            "instances":{{"fresh":{fresh},"warm":{requests},"retired":1}}}}}}]}}"#,
        success = requests * 1000,
        queue = requests * 100,
        input = requests * 40,
        infer = requests * 350,
        graph = requests * 300,
        output = requests * 20,
        fresh = 2 + failed,
    )
}

fn snapshot(json: &str) -> Snapshot {
    serde_json::from_str(json).unwrap()
}

fn compared(before: &str, after: &str) -> Option<Breakdown> {
    breakdown(&Delta::between(&snapshot(before), &snapshot(after))?, 1700.0, 1200.0)
}

#[test]
fn counters_are_differenced() {
    let got = compared(&vespid(1000, 1), &vespid(1400, 3)).unwrap();
    let expected = Breakdown {
        requests: 400,
        failed: 2,
        wait: 500.0,
        network_and_client: 200.0,
        queue: Some(100.0),
        conversion: Some(60.0),
        compute: Some(300.0),
        guest: Some(50.0),
        server_other: 490.0,
        executions: 200,
        mean_batch: Some(8.0),
        instances: Some(Instances { fresh: 2, warm: 400, retired: 0 }),
    };
    assert_eq!(got, expected);
    assert_eq!(got.executions_per_request(), 0.5);
}

#[test]
fn what_began_anew_is_no_difference() {
    assert_eq!(compared(&vespid(1000, 0), &vespid(10, 0)), None);
    assert_eq!(compared(&vespid(10, 0), &vespid(10, 0)), None, "nothing was asked");
    let grown = compared(r#"{"model_stats":[]}"#, &vespid(10, 0)).unwrap();
    assert_eq!(grown.requests, 10, "the version was not there before");
}

#[test]
fn versions_are_added_up() {
    let stats = |version: &str, count: u64| {
        format!(
            r#"{{"name":"m","version":"{version}","inference_count":{count},"execution_count":{count},
            "inference_stats":{{"success":{{"count":{count},"ns":{}}}}}}}"#,
            count * 600
        )
    };
    let all = |one, two| format!(r#"{{"model_stats":[{},{}]}}"#, stats("1", one), stats("2", two));
    let got = compared(&all(5, 10), &all(5, 40)).unwrap();
    assert_eq!((got.requests, got.server_other, got.network_and_client), (30, 600.0, 600.0));
    // What is not told is not made up.
    assert_eq!((got.queue, got.compute, got.guest, got.instances), (None, None, None, None));
    assert_eq!(got.mean_batch, Some(1.0), "from the totals");
}

/// As Triton answers; its counters of a request include the whole batch's computing.
#[test]
fn tritons_own_statistics_are_read() {
    let stats = |n: u64| {
        format!(
            r#"{{"model_stats":[{{"name":"simple","version":"1","last_inference":1,"inference_count":{n},
            "execution_count":{n},"inference_stats":{{"success":{{"count":{n},"ns":{}}},"fail":{{"count":0,"ns":0}},
            "queue":{{"count":{n},"ns":{}}},"compute_input":{{"count":{n},"ns":{n}}},
            "compute_infer":{{"count":{n},"ns":{}}},"compute_output":{{"count":{n},"ns":{n}}},
            "cache_hit":{{"count":0,"ns":0}},"cache_miss":{{"count":0,"ns":0}}}},"response_stats":{{}},
            "batch_stats":[],"memory_usage":[]}}]}}"#,
            n * 100,
            n * 20,
            n * 30,
        )
    };
    let got = compared(&stats(0), &stats(4)).unwrap();
    assert_eq!((got.queue, got.compute, got.server_other), (Some(20.0), Some(30.0), 48.0));
    assert_eq!((got.guest, got.mean_batch), (None, Some(1.0)));
}

#[test]
fn rounding_makes_no_negative_times() {
    let delta = Delta::between(&snapshot(&vespid(0, 0)), &snapshot(&vespid(2, 0))).unwrap();
    let got = breakdown(&delta, 900.0, 950.0).unwrap();
    assert_eq!((got.wait, got.network_and_client), (0.0, 0.0));
}
