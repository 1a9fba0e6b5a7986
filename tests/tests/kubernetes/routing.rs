//! Predictions through the gateway while everything behind it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use vespid_tests::{http, oip, wait};

use crate::world::{Gateway, Pod, World, iris_as};

const MODELS: usize = 50;
const CALLS: usize = 10_000;

/// Calls after each change of weights.
const SPAN: usize = 2500;

/// More than the pods that have a model take before others load it.
const CLIENTS: usize = 12;

/// Of ten calls so many are for one model.
const HOT: usize = 4;

/// What clients have seen, and how far they are.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    ended: AtomicUsize,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
    /// Of calls of the hot model: when it began, and the version that answered.
    versions: Mutex<Vec<(usize, String)>>,
}

impl Seen {
    /// Asks until it is told to stop.
    fn ask(&self, gateway: &Gateway) {
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.begun.fetch_add(1, Ordering::SeqCst);
            // Every model in its turn, and the hot one in between.
            let is_hot = number % 10 < HOT;
            let model = if is_hot { 0 } else { 1 + (number / 10 * 6 + number % 10 - HOT) % (MODELS - 1) };
            match gateway.infer(&name(model), &oip::flower()) {
                Ok(answer) if answer.status == 200 => {
                    let json = answer.json();
                    assert_eq!(json["outputs"][0]["data"], json!(["setosa"]), "{answer}");
                    if is_hot {
                        let version = json["model_version"].as_str().unwrap().to_owned();
                        self.versions.lock().unwrap().push((number, version));
                    }
                }
                Ok(answer) => {
                    self.failures.lock().unwrap().push(format!("{number} {}: {answer}", name(model)));
                }
                Err(error) => {
                    self.failures.lock().unwrap().push(format!("{number} {}: {error}", name(model)));
                }
            }
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until so many more calls have ended.
    fn more(&self, count: usize) {
        let until = self.ended.load(Ordering::SeqCst) + count;
        wait::until(&format!("{count} calls end"), || {
            (self.ended.load(Ordering::SeqCst) >= until).then_some(())
        });
    }

    /// How many calls have begun.
    fn now(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// The share of the second version in the calls of the hot model that began in this span, and their number.
    fn share(&self, span: std::ops::Range<usize>) -> (f64, f64) {
        let versions = self.versions.lock().unwrap();
        let inside: Vec<_> = versions.iter().filter(|(number, _)| span.contains(number)).collect();
        let second = inside.iter().filter(|(_, version)| version == "2").count();
        (second as f64 / inside.len() as f64, inside.len() as f64)
    }
}

/// Has clients stop.
struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn name(model: usize) -> String {
    format!("model-{model:02}")
}

/// How many answers each pod has given for a model.
fn answers(pods: &[Pod], model: &str) -> BTreeMap<String, u64> {
    let count = |pod: &Pod| {
        let answer = http::send("GET", &format!("http://{}:8000/v2/models/{model}/stats", pod.ip), &[], &[]);
        let stats = answer.json()["model_stats"].as_array().cloned().unwrap_or_default();
        stats.iter().filter_map(|stats| stats["inference_count"].as_u64()).sum()
    };
    pods.iter().map(|pod| (pod.name.clone(), count(pod))).collect()
}

#[test]
fn no_call_fails_while_pods_come_and_go_and_versions_shift() {
    let world = World::install(&json!({"replicas": 2, "drainSeconds": 10}));
    world.hosts(2);
    let gateway = world.gateway();
    for model in 0..MODELS {
        gateway.push(&name(model), "1", &iris_as(&name(model), "1"));
    }
    world.weights(&name(0), &[1]);
    gateway.push(&name(0), "2", &iris_as(&name(0), "2"));
    world.weights(&name(0), &[100, 0]);
    let seen = Seen::default();
    // Where the shares of the second version are 0, 10, 50 and 100 of a hundred.
    let mut shifts = Vec::new();
    thread::scope(|scope| {
        // Also where this thread fails.
        let stop = StopWhenDropped(&seen.stop);
        for _ in 0..CLIENTS {
            scope.spawn(|| seen.ask(&gateway));
        }
        seen.more(500);
        world.change("modelpools", "default", &json!({"spec": {"replicas": 3}}));
        let three = world.hosts(3);
        seen.more(500);
        world.kubelet.kill(&three[0].name);
        seen.more(500);
        world.hosts(3);
        shifts.push((0.1, seen.now()));
        world.weights(&name(0), &[90, 10]);
        seen.more(SPAN);
        world.change(
            "modelpools",
            "default",
            &json!({"spec": {"pods": {"annotations": {"rolled": "once"}}}}),
        );
        let old: BTreeSet<String> = three.into_iter().map(|pod| pod.name).collect();
        wait::until("all pods are new", || {
            let pods = world.all_pods("vespid.dev%2Fpool%3Ddefault");
            let is_new = |pod: &serde_json::Value| !old.contains(pod["metadata"]["name"].as_str().unwrap());
            (pods.len() == 3 && pods.iter().all(is_new)).then_some(())
        });
        shifts.push((0.5, seen.now()));
        world.weights(&name(0), &[50, 50]);
        seen.more(SPAN);
        shifts.push((1.0, seen.now()));
        world.weights(&name(0), &[0, 100]);
        seen.more(SPAN);
        drop(stop);
    });
    let calls = seen.ended.load(Ordering::SeqCst);
    assert!(calls >= CALLS, "{calls} calls");
    let failures = seen.failures.lock().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {calls} failed: {:#?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    check_shares(&seen, &shifts);
    let pods = world.hosts(3);
    let hot = answers(&pods, &name(0));
    assert!(hot.values().filter(|&&count| count > 0).count() > 1, "the hot model is spread: {hot:?}");
    let (warm, cold) =
        (gateway.counted("vespid_gateway_calls", "warm"), gateway.counted("vespid_gateway_calls", "cold"));
    println!("{calls} calls; {warm} calls to warm pods, {cold} to others; hot: {hot:?}");
    assert!(
        warm / (warm + cold) > 0.9,
        "{warm} calls were answered by pods that had the model, {cold} by others"
    );
}

/// The shares are those that were asked for, within four standard deviations, some calls after each change.
fn check_shares(seen: &Seen, shifts: &[(f64, usize)]) {
    /// The gateway hears of a change while calls go on.
    const SETTLE: usize = 400;
    let (first, _) = seen.share(0..shifts[0].1);
    assert!(first == 0.0, "{first} of the calls went to a version without a share");
    for (index, &(wanted, begin)) in shifts.iter().enumerate() {
        let end = shifts.get(index + 1).map_or(usize::MAX, |&(_, begin)| begin);
        let (share, count) = seen.share(begin + SETTLE..end);
        let tolerance = 4.0 * (wanted * (1.0 - wanted) / count).sqrt();
        println!("{share:.3} of {count} calls went to the second version, of which {wanted} were to");
        assert!((share - wanted).abs() <= tolerance, "{share} of {count} calls instead of {wanted}");
    }
}
