//! Who reaches pods: the same NetworkPolicy for pools, jobs and streams, which differ in the ports that they have.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt as _};
use vespid_resources::names;

use crate::Peers;
use crate::metadata::{self, Component};

/// The policy of the pods of a resource. Pods of a pool are reached by the gateway and the operator; and the port with the metrics, by
/// which a stream is paused too, by the operator, or by all pods of the cluster where that is so.
pub(crate) fn policy<K: Resource<DynamicType = ()>>(
    owner: &K,
    component: Component,
    name: String,
    peers: &Peers,
) -> NetworkPolicy {
    let clients = (component == Component::Pool).then(|| {
        rule(&[names::HTTP_PORT, names::GRPC_PORT], vec![pods(&peers.gateway), pods(&peers.operator)])
    });
    let metrics = match peers.metrics {
        true => anybody(),
        false => pods(&peers.operator),
    };
    let rules = clients.into_iter().chain([rule(&[names::ADMIN_PORT], vec![metrics])]);
    NetworkPolicy {
        metadata: metadata::of(owner, component, name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(metadata::selector(component, &owner.name_any())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules.collect()),
            egress: None,
        }),
    }
}

fn pods(labels: &BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() }),
        ..NetworkPolicyPeer::default()
    }
}

fn anybody() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

fn rule(ports: &[(&str, u16)], from: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    let port = |(name, _): &(&str, u16)| NetworkPolicyPort {
        port: Some(IntOrString::String((*name).to_owned())),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    NetworkPolicyIngressRule { from: Some(from), ports: Some(ports.iter().map(port).collect()) }
}
