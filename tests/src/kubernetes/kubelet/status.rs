//! What the node says of a pod.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::pod::Pod;
use super::volumes::pod_message;

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// What the container is at.
pub(super) enum State {
    /// For a reason.
    Waiting(String),
    Running(SystemTime),
    Ended {
        code: i32,
        since: SystemTime,
    },
}

pub(super) struct Status {
    pub(super) phase: Phase,
    pub(super) state: State,
    pub(super) restarts: u32,
    ready: bool,
    ready_since: SystemTime,
    began: SystemTime,
    ip: String,
    container: Value,
    /// Where it says why it has ended.
    message: PathBuf,
}

impl Status {
    pub(super) fn new(pod: &Pod) -> Self {
        let now = SystemTime::now();
        Self {
            phase: Phase::Pending,
            state: State::Waiting("ContainerCreating".to_owned()),
            restarts: 0,
            ready: false,
            ready_since: now,
            began: now,
            ip: pod.ip().to_string(),
            container: pod.container().clone(),
            message: pod_message(pod),
        }
    }

    pub(super) fn set_ready(&mut self, ready: bool) {
        if self.ready != ready {
            self.ready = ready;
            self.ready_since = SystemTime::now();
        }
    }

    /// As the field `status` of the pod.
    pub(super) fn json(&self) -> Value {
        let condition = |name: &str, met: bool, since: SystemTime| {
            let met = if met { "True" } else { "False" };
            json!({"type": name, "status": met, "lastTransitionTime": time(since)})
        };
        json!({
            "phase": format!("{:?}", self.phase),
            "hostIP": "127.0.0.1",
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "startTime": time(self.began),
            "conditions": [
                condition("PodScheduled", true, self.began),
                condition("Initialized", true, self.began),
                condition("ContainersReady", self.ready, self.ready_since),
                condition("Ready", self.ready, self.ready_since),
            ],
            "containerStatuses": [{
                "name": self.container["name"],
                "image": self.container["image"],
                "imageID": "",
                "containerID": "process://1",
                "ready": self.ready,
                "started": matches!(self.state, State::Running(_)),
                "restartCount": self.restarts,
                "state": self.state(),
            }],
        })
    }

    fn state(&self) -> Value {
        match &self.state {
            State::Waiting(reason) => json!({"waiting": {"reason": reason}}),
            State::Running(since) => json!({"running": {"startedAt": time(*since)}}),
            State::Ended { code, since } => {
                let reason = if *code == 0 { "Completed" } else { "Error" };
                json!({"terminated": {
                    "exitCode": code,
                    "reason": reason,
                    "message": fs::read_to_string(&self.message).unwrap_or_default(),
                    "startedAt": time(self.began),
                    "finishedAt": time(*since),
                }})
            }
        }
    }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
