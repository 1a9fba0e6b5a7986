//! More requests than a server can do, sent by `vespid bench` in processes of its own, and what became of each.
//!
//! Contract: every request that was sent is counted once: answered, refused (503), too late (504), or otherwise, which no
//! load excuses. What the models' statistics say is held against it.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::server::Server;
use crate::{built, wait};

/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What is asked of a model, and how fast.
#[derive(Clone)]
pub struct Load {
    /// The model.
    pub model: String,
    /// The input, as arguments of `vespid bench`.
    pub input: Vec<String>,
    /// Requests a second, whatever becomes of them.
    pub rate: u32,
    /// Requests that may be under way at once; when so many are, the next is sent late.
    pub outstanding: u32,
}

/// What became of a load.
pub struct Outcome {
    /// The model.
    pub model: String,
    /// All that were sent.
    pub sent: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that the server had no room for.
    pub refused: u64,
    /// Those whose deadline passed.
    pub late: u64,
    /// What else became of one, with the count: no answer at all, or one that is an error of its own.
    pub otherwise: Vec<String>,
    /// From when a request was due until it was answered, in microseconds: the median, and what one in a hundred exceeds.
    pub latency: Option<[f64; 2]>,
    /// Those of which the model's statistics say that they were answered.
    pub counted: u64,
}

impl Load {
    /// A load of requests with this input.
    #[must_use]
    pub fn new(model: &str, input: &[&str], rate: u32, outstanding: u32) -> Self {
        let input = input.iter().map(|&argument| argument.to_owned()).collect();
        Self { model: model.to_owned(), input, rate, outstanding }
    }

    fn start(&self, server: &Server, time: Duration) -> Child {
        let mut bench = Command::new(built::vespid());
        bench.arg("bench").arg(&self.model).args(&self.input).args(["--server", &server.url()]);
        bench.args(["--rate", &self.rate.to_string(), "--max-outstanding", &self.outstanding.to_string()]);
        bench.args(["--duration", &format!("{}ms", time.as_millis()), "--warmup", "0s", "--output", "json"]);
        bench.env_remove("VESPID_SERVER").env_remove("VESPID_LOG").current_dir(built::repository(""));
        bench.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Puts loads on a server, all at once for so long, and waits for the last answer.
#[must_use]
pub fn run(server: &Server, loads: &[Load], time: Duration) -> Vec<Outcome> {
    let running: Vec<Child> = loads.iter().map(|load| load.start(server, time)).collect();
    running.into_iter().zip(loads).map(|(child, load)| outcome(load, child)).collect()
}

/// Does `work`; what it gives, and the most memory that the server had resident meanwhile, in bytes.
pub fn peak_memory<T>(server: &Server, work: impl FnOnce() -> T) -> (T, usize) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(server.resident());
                thread::sleep(LOOK);
            }
            peak
        });
        let given = work();
        done.store(true, Ordering::Relaxed);
        (given, looking.join().unwrap())
    })
}

fn outcome(load: &Load, child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // It ends with an error where nothing succeeded, and reports all the same.
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {errors}", load.model));
    let run = &report["runs"][0];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is no count: {run:#}"));
    let mut outcome = Outcome {
        model: load.model.clone(),
        sent: number(&run["requests"]),
        answered: number(&run["succeeded"]),
        refused: number(&run["refused"]),
        late: 0,
        otherwise: Vec::new(),
        latency: None,
        counted: 0,
    };
    for error in run["errors"].as_array().unwrap() {
        match error["status"].as_u64() {
            Some(503) => {}
            Some(504) => outcome.late = number(&error["count"]),
            _ => outcome.otherwise.push(error.to_string()),
        }
    }
    let latency = &run["latency_us"];
    outcome.latency =
        latency["p50"].as_f64().zip(latency["p99"].as_f64()).map(|(median, high)| [median, high]);
    outcome.counted =
        run["breakdown"]["requests"].as_u64().unwrap_or_else(|| panic!("no statistics: {run:#}"));
    outcome
}

impl Outcome {
    /// Checks that no request was lost and none counted twice.
    pub fn check(&self) {
        let Self { model, sent, answered, refused, late, otherwise, counted, .. } = self;
        assert!(otherwise.is_empty(), "{model}: {otherwise:?}");
        assert_eq!(*sent, answered + refused + late, "{model}: each request has one answer");
        assert_eq!(counted, answered, "{model}: its statistics count what was answered");
    }
}

/// Checks that a server has recovered: it is ready, its log tells of no panic, and the statistics of
/// its models, which have answered requests of one row alone, agree with themselves.
pub fn check_recovered(server: &Server) {
    wait::until("the server is ready", || (server.get("/v2/health/ready").status == 200).then_some(()));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let statistics = server.get("/v2/models/stats");
    assert_eq!(statistics.status, 200, "{statistics}");
    for model in statistics.json()["model_stats"].as_array().unwrap() {
        let number =
            |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is no count: {model:#}"));
        let spans = &model["inference_stats"];
        // One row in each of these requests.
        assert_eq!(model["inference_count"], spans["success"]["count"], "{model:#}");
        let batches = model["batch_stats"].as_array().unwrap();
        let runs: u64 = batches.iter().map(|batch| number(&batch["compute_infer"]["count"])).sum();
        let answers = number(&spans["success"]["count"]);
        // Of a plugin without a graph its answers are counted.
        let executions = if batches.is_empty() { answers } else { runs };
        assert_eq!(number(&model["execution_count"]), executions, "{model:#}");
        let parts = ["queue", "compute_input", "compute_infer", "compute_output"];
        for part in parts {
            assert_eq!(number(&spans[part]["count"]), answers, "{part}: {model:#}");
        }
        let sum: u64 = parts.iter().map(|part| number(&spans[part]["ns"])).sum();
        assert!(sum <= number(&spans["success"]["ns"]), "{model:#}");
    }
}
