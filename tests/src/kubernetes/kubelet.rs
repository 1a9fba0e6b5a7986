//! A node whose pods are processes of this machine.
//!
//! It takes each pod that no node has, and runs the first container's `command` and `args`; where there is no `command`,
//! what the image would run, `vespid`. A program of the name `vespid` is the built one; others are looked up on the path.
//! Each pod has an address of loopback of its own, so that all may listen on the same ports: `0.0.0.0` in arguments,
//! variables and configuration is that address, the paths of mounts are the folders that stand for the volumes, and `NAME:PORT`
//! of a service that is there before the pod is an address that hands connections on to pods that are ready.
//!
//! As a kubelet does, it asks the readiness probe, reports the pod's state, starts again what has ended, and on deletion runs
//! `preStop`, sends SIGTERM, and kills what is there after the grace period. Where the cluster serves slices of endpoints, it
//! writes those too. It differs in that it looks at pods every 100 ms and probes every 200 ms, whatever the probe says, and
//! numbers the pods of a Job itself, and knows neither init containers, nor other containers than the first, nor liveness probes, nor limits. A `ConfigMap` that
//! changes later does not change what a pod sees.

mod launch;
mod life;
mod pod;
mod services;
mod slices;
mod status;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use self::pod::Pod;
use self::services::Services;
use self::slices::Slices;
use super::api::Api;
use super::cluster::Cluster;
use super::process::tail;
use crate::wait;

/// The name of the node.
const NODE: &str = "processes";

const POLL: Duration = Duration::from_millis(100);

/// A running node. Dropping it kills its processes, and shows the end of their logs where a test fails.
pub struct Kubelet {
    node: Arc<Node>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads of a node share.
struct Node {
    api: Api,
    folder: TempDir,
    stops: AtomicBool,
    services: Services,
    /// By their identities, those too that are gone.
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
}

impl Kubelet {
    /// Adds the node to a cluster.
    #[must_use]
    pub fn start(cluster: &Cluster) -> Self {
        let api = cluster.api().clone();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        let answer = api.post("/api/v1/nodes", &node);
        assert!([201, 409].contains(&answer.status), "{answer}");
        let conditions = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]);
        let answer = api
            .merge(&format!("/api/v1/nodes/{NODE}/status"), &json!({"status": {"conditions": conditions}}));
        assert_eq!(answer.status, 200, "{answer}");
        let folder = tempfile::tempdir().unwrap();
        let node = Arc::new(Node {
            api,
            folder,
            stops: AtomicBool::new(false),
            services: Services::default(),
            pods: Mutex::default(),
        });
        let own = Arc::clone(&node);
        Self { node, thread: Some(thread::spawn(move || run(&own))) }
    }

    /// Kills a pod's process, as a crash does. It is started again where the pod says so.
    pub fn kill(&self, pod: &str) {
        self.node.find(pod).kill();
    }

    /// Kills a pod's process and removes the pod, as it comes to pass when a node is lost.
    pub fn lose(&self, pod: &str) {
        let pod = self.node.find(pod);
        pod.lose();
        pod.kill();
        wait::until("the pod is removed", || life::delete(&self.node, &pod).then_some(()));
    }

    /// Sends a signal such as `STOP` to a pod's process.
    pub fn signal(&self, pod: &str, name: &str) {
        self.node.find(pod).signal(name);
    }

    /// What a pod's process has written, over all its starts, where it is gone too.
    #[must_use]
    pub fn log(&self, pod: &str) -> String {
        self.node.find(pod).log()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.node.stops.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if thread::panicking() {
            for pod in self.node.pods.lock().unwrap().values() {
                eprintln!("--- pod {}\n{}---", pod.path(), tail(&pod.log_file()));
            }
        }
    }
}

impl Node {
    fn stops(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    /// The pod of that name, the latest where there were several.
    fn find(&self, name: &str) -> Arc<Pod> {
        let pods = self.pods.lock().unwrap();
        let mut named: Vec<_> = pods.values().filter(|pod| pod.name() == name).collect();
        named.sort_by_key(|pod| !pod.is_gone());
        Arc::clone(named.last().unwrap_or_else(|| panic!("the node has no pod {name}")))
    }

    /// A list of everything of a kind. Nothing where the server is away: it will be asked again.
    fn list(&self, path: &str) -> Option<Vec<Value>> {
        let answer = self.api.try_send("GET", path, "application/json", "").ok()?;
        let Value::Array(items) = answer.json()["items"].take() else { return None };
        (answer.status == 200).then_some(items)
    }

    /// Tells the pods what has become of them; those that are new.
    fn observe(&self, list: &[Value]) -> Vec<Arc<Pod>> {
        let mut new = Vec::new();
        let mut pods = self.pods.lock().unwrap();
        let mut seen = BTreeSet::new();
        for manifest in list {
            let uid = manifest["metadata"]["uid"].as_str().unwrap();
            seen.insert(uid);
            match pods.get(uid) {
                Some(pod) => pod.observe(manifest),
                None if [None, Some(NODE)].contains(&manifest["spec"]["nodeName"].as_str()) => {
                    let folder: PathBuf = self.folder.path().join(uid);
                    let pod = Arc::new(Pod::new(manifest, folder));
                    pod.observe(manifest);
                    pods.insert(uid.to_owned(), Arc::clone(&pod));
                    new.push(pod);
                }
                None => {}
            }
        }
        for (_, pod) in pods.iter().filter(|(uid, _)| !seen.contains(uid.as_str())) {
            pod.lose();
        }
        new
    }
}

fn run(node: &Arc<Node>) {
    let mut threads = Vec::new();
    let mut slices = Slices::default();
    while !node.stops() {
        if let Some(pods) = node.list("/api/v1/pods") {
            // First, so that a pod finds the services that are older than it.
            slices.update(node, &pods);
            for pod in node.observe(&pods) {
                let node = Arc::clone(node);
                threads.push(thread::spawn(move || life::live(&node, &pod)));
            }
        }
        thread::sleep(POLL);
    }
    for thread in threads {
        let _ = thread.join();
    }
}
