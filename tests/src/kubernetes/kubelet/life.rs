//! What a node does with a pod from its first to its last moment, in a thread for each.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use ureq::Agent;

use super::launch::Launch;
use super::pod::Pod;
use super::status::{Phase, State, Status};
use super::{NODE, Node};

const TICK: Duration = Duration::from_millis(20);
const PROBES: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(200);

/// How long a process that has ended rests before it is started again: so long times the number of its starts.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: u32 = 20;

struct Life<'a> {
    node: &'a Node,
    pod: &'a Pod,
    launch: Launch,
    status: Status,
    /// What the cluster has been told last.
    told: Value,
    next_start: Option<Instant>,
    next_probe: Instant,
    failures: u64,
    ending: Option<Ending>,
}

struct Ending {
    deadline: Instant,
    /// What `preStop` is at.
    hook: Option<JoinHandle<()>>,
    asked: bool,
}

/// Returns when the pod is gone, or the node ends.
pub(super) fn live(node: &Node, pod: &Pod) {
    let mut status = Status::new(pod);
    let mut told = Value::Null;
    let mut launch = None;
    while launch.is_none() && !node.stops() && !pod.is_gone() {
        if pod.grace().is_some() && delete(node, pod) {
            return;
        }
        if bind(node, pod) {
            match Launch::of(node, pod) {
                Ok(ready) => launch = Some(ready),
                // Something that it needs is not there yet.
                Err(reason) => {
                    status.state = State::Waiting(reason);
                    tell(node, pod, &status, &mut told);
                }
            }
        }
        if launch.is_none() {
            thread::sleep(RETRY);
        }
    }
    let Some(launch) = launch else { return };
    let now = Instant::now();
    let mut life = Life {
        node,
        pod,
        launch,
        status,
        told,
        next_start: Some(now),
        next_probe: now,
        failures: 0,
        ending: None,
    };
    while !node.stops() && !pod.is_gone() {
        if life.step() {
            return;
        }
        thread::sleep(TICK);
    }
    pod.kill();
}

impl Life<'_> {
    /// Looks at everything once; whether the pod is gone.
    fn step(&mut self) -> bool {
        if let Some(status) = self.pod.ended() {
            self.end_of_process(status);
        }
        self.begin_ending();
        if let Some(ending) = &mut self.ending {
            proceed(ending, self.pod);
        } else if self.next_start.is_some_and(|at| Instant::now() >= at) {
            self.next_start = None;
            self.pod.start(&mut self.launch.command());
            self.status.phase = Phase::Running;
            self.status.state = State::Running(SystemTime::now());
            // Without a probe it is ready at once.
            self.failures = 0;
            self.next_probe = Instant::now();
            let probed = !self.launch.container()["readinessProbe"].is_null();
            self.status.set_ready(!probed);
        }
        self.probe();
        let told = tell(self.node, self.pod, &self.status, &mut self.told);
        let over = self.ending.is_some() && !matches!(self.status.state, State::Running(_));
        told && over && delete(self.node, self.pod)
    }

    fn end_of_process(&mut self, exit: ExitStatus) {
        // As shells and containers count it.
        let code = exit.code().unwrap_or_else(|| 128 + exit.signal().unwrap_or_default());
        self.status.state = State::Ended { code, since: SystemTime::now() };
        self.status.set_ready(false);
        let again = match self.pod.manifest()["spec"]["restartPolicy"].as_str() {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        };
        if again && self.ending.is_none() {
            self.status.restarts += 1;
            self.next_start = Some(Instant::now() + BACKOFF * self.status.restarts.min(LONGEST_BACKOFF));
        } else {
            self.status.phase = if code == 0 { Phase::Succeeded } else { Phase::Failed };
        }
    }

    fn begin_ending(&mut self) {
        let Some(grace) = self.pod.grace() else { return };
        if self.ending.is_some() {
            return;
        }
        let hook = &self.launch.container()["lifecycle"]["preStop"];
        let running = matches!(self.status.state, State::Running(_));
        let hook = (running && !hook.is_null()).then(|| self.launch.hook(hook, self.pod.ip()));
        self.ending = Some(Ending { deadline: Instant::now() + grace, hook, asked: false });
    }

    fn probe(&mut self) {
        let probe = &self.launch.container()["readinessProbe"];
        let running = matches!(self.status.state, State::Running(_));
        if probe.is_null() || !running || Instant::now() < self.next_probe {
            return;
        }
        let limit = Duration::from_secs(probe["timeoutSeconds"].as_u64().unwrap_or(1));
        if self.passes(probe, limit) {
            self.failures = 0;
            self.status.set_ready(true);
        } else {
            self.failures += 1;
            if self.failures >= probe["failureThreshold"].as_u64().unwrap_or(3) {
                self.status.set_ready(false);
            }
        }
        self.next_probe = Instant::now() + PROBES;
    }

    fn passes(&self, probe: &Value, limit: Duration) -> bool {
        if probe["httpGet"].is_object() {
            return get(&self.launch.url(&probe["httpGet"], self.pod.ip()), limit)
                .is_some_and(|status| (200..400).contains(&status));
        }
        if probe["tcpSocket"].is_object() {
            let port = self.launch.port(&probe["tcpSocket"]["port"]);
            return TcpStream::connect_timeout(&SocketAddr::from((self.pod.ip(), port)), limit).is_ok();
        }
        let command = self.launch.exec(&probe["exec"]["command"]);
        command.is_some_and(|mut command| command.status().is_ok_and(|status| status.success()))
    }
}

/// Asks the process to end when the hook is through, and kills it when its time is.
fn proceed(ending: &mut Ending, pod: &Pod) {
    let over = Instant::now() >= ending.deadline;
    if over {
        pod.kill();
    } else if !ending.asked && ending.hook.as_ref().is_none_or(JoinHandle::is_finished) {
        ending.asked = true;
        pod.signal("TERM");
    }
}

/// The status of an answer, where there is one.
pub(super) fn get(url: &str, limit: Duration) -> Option<u16> {
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(limit))
        .build()
        .new_agent();
    Some(agent.get(url).call().ok()?.status().as_u16())
}

/// Says that the pod is on this node; whether it is.
fn bind(node: &Node, pod: &Pod) -> bool {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name(), "namespace": pod.namespace()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    });
    let path = format!("{}/binding", pod.path());
    let answer = node.api.try_send("POST", &path, "application/json", &binding.to_string());
    // It is on it already where this was asked before.
    answer.is_ok_and(|answer| [201, 409].contains(&answer.status))
}

/// Tells the cluster the status where it is another; whether the cluster knows it.
fn tell(node: &Node, pod: &Pod, status: &Status, told: &mut Value) -> bool {
    let status = status.json();
    if *told == status {
        return true;
    }
    let body = json!({"metadata": {"uid": pod.manifest()["metadata"]["uid"]}, "status": status}).to_string();
    let path = format!("{}/status", pod.path());
    let answer = node.api.try_send("PATCH", &path, "application/strategic-merge-patch+json", &body);
    // A pod that is gone need not be told of.
    let known = answer.is_ok_and(|answer| [200, 404, 409].contains(&answer.status));
    if known {
        *told = status;
    } else {
        thread::sleep(RETRY);
    }
    known
}

/// Removes the pod from the cluster; whether it is gone.
pub(super) fn delete(node: &Node, pod: &Pod) -> bool {
    let path = format!("{}?gracePeriodSeconds=0", pod.path());
    let answer = node.api.try_send("DELETE", &path, "application/json", "");
    answer.is_ok_and(|answer| [200, 404].contains(&answer.status))
}
