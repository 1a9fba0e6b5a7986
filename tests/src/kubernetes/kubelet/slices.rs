//! The slices of endpoints that a controller keeps for services, of the pods as the cluster has them. The services' own ports
//! are kept in line with them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::launch::{container_port, list};
use super::{NODE, Node, services};

/// What the cluster has been told, by namespace and service.
#[derive(Default)]
pub(super) struct Slices(BTreeMap<(String, String), Value>);

impl Slices {
    /// Brings the slices in line with services and pods, where the cluster serves slices. What fails is tried again.
    pub(super) fn update(&mut self, node: &Node, pods: &[Value]) {
        let Some(services) = node.list("/api/v1/services") else { return };
        let mut wanted = BTreeMap::new();
        for service in services.iter().filter(|service| service["spec"]["selector"].is_object()) {
            let slice = slice(service, pods);
            node.services.observe(service, &slice);
            wanted.insert(services::key(service), slice);
        }
        for ((namespace, name), slice) in &wanted {
            let key = (namespace.clone(), name.clone());
            if self.0.get(&key) != Some(slice) && put(node, namespace, name, slice) {
                self.0.insert(key, slice.clone());
            }
        }
        self.0.retain(|key, _| {
            let path = format!("{}/{}", collection(&key.0), key.1);
            wanted.contains_key(key) || node.api.try_send("DELETE", &path, "application/json", "").is_err()
        });
    }
}

fn collection(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// Whether it is there afterwards.
fn put(node: &Node, namespace: &str, name: &str, slice: &Value) -> bool {
    let path = collection(namespace);
    let (body, object) = (slice.to_string(), format!("{path}/{name}"));
    let changed = node.api.try_send("PATCH", &object, "application/merge-patch+json", &body);
    match changed.map(|answer| answer.status) {
        Ok(200) => true,
        Ok(404) => {
            let created = node.api.try_send("POST", &path, "application/json", &body);
            created.is_ok_and(|answer| answer.status == 201)
        }
        _ => false,
    }
}

/// The slice of a service.
fn slice(service: &Value, pods: &[Value]) -> Value {
    let selector = service["spec"]["selector"].as_object().unwrap();
    let selected = |pod: &&Value| {
        pod["metadata"]["namespace"] == service["metadata"]["namespace"]
            && selector.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value)
            && pod["status"]["podIP"].is_string()
            && !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
    };
    let mut pods: Vec<&Value> = pods.iter().filter(selected).collect();
    pods.sort_by_key(|pod| pod["metadata"]["name"].as_str());
    let early = service["spec"]["publishNotReadyAddresses"] == true;
    let ports = list(&service["spec"]["ports"]).iter().filter_map(|port| {
        let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
        let containers = pods.iter().flat_map(|pod| list(&pod["spec"]["containers"]));
        let number = match target.as_str() {
            None => container_port(&Value::Null, target),
            Some(_) => containers.into_iter().find_map(|container| container_port(container, target)),
        };
        let name = port["name"].as_str().unwrap_or_default();
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        Some(json!({"name": name, "port": number?, "protocol": protocol, "appProtocol": port["appProtocol"]}))
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service["metadata"]["name"],
            "namespace": service["metadata"]["namespace"],
            "labels": {
                "kubernetes.io/service-name": service["metadata"]["name"],
                "endpointslice.kubernetes.io/managed-by": NODE,
            },
        },
        "addressType": "IPv4",
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": pods.iter().map(|pod| endpoint(pod, early)).collect::<Vec<_>>(),
    })
}

fn endpoint(pod: &Value, early: bool) -> Value {
    let ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
    let serving = list(&pod["status"]["conditions"]).iter().any(ready);
    let terminating = pod["metadata"]["deletionTimestamp"].is_string();
    json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": early || serving && !terminating,
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": NODE,
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    })
}
