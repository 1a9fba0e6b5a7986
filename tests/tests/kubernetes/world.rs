//! Vespid in a cluster, as a user installs it: the chart in an API server, and its pods as processes.

use std::path::PathBuf;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::http::Answer;
use vespid_tests::kubernetes::{Cluster, Kubelet};
use vespid_tests::server::repository_path;
use vespid_tests::{built, http, wait};

/// Where the resources are.
pub(crate) const RESOURCES: &str = "/apis/vespid.dev/v1alpha1/namespaces/default";

/// The installed chart. Its pods end with it.
pub(crate) struct World {
    // Dropped first: processes show their logs where a test fails.
    pub(crate) kubelet: Kubelet,
    pub(crate) cluster: Cluster,
}

/// A pod that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) ip: String,
}

impl World {
    /// A cluster with the release `vespid`, whose default pool is as `pool` says, and which takes uploads.
    pub(crate) fn install(pool: &Value) -> Self {
        Self::install_under(pool, &json!({}))
    }

    /// The same under these limits.
    pub(crate) fn install_under(pool: &Value, limits: &Value) -> Self {
        let cluster = Cluster::start();
        cluster.serve_endpoint_slices();
        let kubelet = Kubelet::start(&cluster);
        let world = Self { kubelet, cluster };
        let (chart, values) = (chart().display().to_string(), format!("pool.spec={pool},limits={limits}"));
        world.cluster.helm(&["install", "vespid", &chart, "--namespace", "default", "--set-json", &values]);
        world
    }

    /// The pods with a label that are ready, once there are so many and no others.
    pub(crate) fn pods(&self, label: &str, count: usize) -> Vec<Pod> {
        wait::until(&format!("{count} pods with {label} are ready"), || {
            let pods = self.all_pods(label);
            let ready: Vec<Pod> = pods.iter().filter(|pod| is_ready(pod)).map(pod).collect();
            (pods.len() == count && ready.len() == count).then_some(ready)
        })
    }

    /// The pods with a label, whatever they are.
    pub(crate) fn all_pods(&self, label: &str) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/default/pods?labelSelector={label}");
        self.cluster.api().get(&path).json()["items"].as_array().unwrap().clone()
    }

    /// Those of the default pool.
    pub(crate) fn hosts(&self, count: usize) -> Vec<Pod> {
        self.pods("vespid.dev%2Fpool%3Ddefault", count)
    }

    /// Where clients reach the gateway, once it answers.
    pub(crate) fn gateway(&self) -> Gateway {
        let pods = self.pods("app.kubernetes.io%2Fcomponent%3Dgateway", 1);
        let gateway = Gateway { ip: pods[0].ip.clone() };
        wait::until("the gateway is ready", || {
            let ready = http::try_send("GET", &format!("{}/v2/health/ready", gateway.url()), &[], &[]);
            ready.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        gateway
    }

    /// A resource.
    pub(crate) fn resource(&self, plural: &str, name: &str) -> Value {
        let answer = self.cluster.api().get(&format!("{RESOURCES}/{plural}/{name}"));
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    }

    /// Changes fields of a resource.
    pub(crate) fn change(&self, plural: &str, name: &str, fields: &Value) {
        let answer = self.cluster.api().merge(&format!("{RESOURCES}/{plural}/{name}"), fields);
        assert_eq!(answer.status, 200, "{answer}");
    }

    /// Waits until a condition of a resource holds or does not; what it says.
    pub(crate) fn condition(&self, plural: &str, name: &str, kind: &str, status: &str) -> String {
        wait::until(&format!("{kind} of {plural}/{name} is {status}"), || {
            let resource = self.resource(plural, name);
            let conditions = resource["status"]["conditions"].as_array()?.clone();
            let condition = conditions.into_iter().find(|condition| condition["type"] == kind)?;
            (condition["status"] == status).then(|| condition["message"].as_str().unwrap().to_owned())
        })
    }

    /// Gives the versions of a model these weights.
    pub(crate) fn weights(&self, model: &str, weights: &[u32]) {
        let mut versions = self.resource("models", model)["spec"]["versions"].clone();
        for (version, weight) in versions.as_array_mut().unwrap().iter_mut().zip(weights) {
            version["weight"] = json!(weight);
        }
        self.change("models", model, &json!({"spec": {"versions": versions}}));
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    pod["metadata"]["deletionTimestamp"].is_null()
        && ready.is_some_and(|condition| condition["status"] == "True")
}

fn pod(pod: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Pod { name: text(&pod["metadata"]["name"]), ip: text(&pod["status"]["podIP"]) }
}

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    built::repository("charts/vespid")
}

/// Where clients reach the gateway.
#[derive(Clone)]
pub(crate) struct Gateway {
    ip: String,
}

impl Gateway {
    pub(crate) fn url(&self) -> String {
        format!("http://{}:8000", self.ip)
    }

    /// Uploads a package.
    pub(crate) fn try_push(&self, model: &str, version: &str, package: &Archive) -> Answer {
        let url = self.url() + &repository_path(model, version);
        http::send("PUT", &url, &[], &package.to_tar())
    }

    /// Uploads a package; it is served when this returns.
    pub(crate) fn push(&self, model: &str, version: &str, package: &Archive) {
        let answer = self.try_push(model, version, package);
        assert_eq!(answer.status, 201, "{model} {version}: {answer}");
    }

    /// Asks a model.
    pub(crate) fn infer(&self, model: &str, body: &Value) -> Result<Answer, String> {
        let url = format!("{}/v2/models/{model}/infer", self.url());
        let headers = [("content-type", "application/json")];
        http::try_send("POST", &url, &headers, body.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    /// The sum of a counter over all series whose labels hold this text.
    pub(crate) fn counted(&self, metric: &str, labels: &str) -> f64 {
        let text = http::send("GET", &format!("http://{}:8002/metrics", self.ip), &[], &[]).body;
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(metric) && line.contains(labels));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// The package of `iris` under another name, as a version.
pub(crate) fn iris_as(name: &str, version: &str) -> Archive {
    Archive::built("iris")
        .manifest("[model]\nname = \"iris\"", &format!("[model]\nname = \"{name}\""))
        .version(version)
}
