//! The Deployment of a stream.
//!
//! Pods are replaced one by one, the old before the new: a pod more than partitions has nothing to do, and each that joins or leaves a
//! consumer group has the partitions of all move. What waits meanwhile is answered afterwards; nothing is lost.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{ConfigMap, EnvVar, EnvVarSource, SecretKeySelector, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use vespid_resources::{PodSettings, SecretValue, StreamPrediction, names};
use xxhash_rust::xxh3::xxh3_64;

use super::render::{self, Side};
use crate::OperatorOptions;
use crate::metadata::{self, Component};
use crate::package::Package;
use crate::pods::{Pods, config, everywhere, secret};

/// The key of the ConfigMap that has the stream, and the folder where pods have it.
pub(super) const FILE: &str = "stream.yaml";
const FOLDER: &str = "/etc/vespid/stream";

/// The annotation of pods by which they are replaced when what they are told changes.
const CONFIG: &str = "vespid.dev/config";

pub(super) fn deployment(
    stream: &StreamPrediction,
    package: &Package,
    told: &ConfigMap,
    settings: &PodSettings,
    replicas: i32,
    options: &OperatorOptions,
) -> Deployment {
    let owner = stream.name_any();
    let name = names::of_stream(&owner);
    let mut volumes = vec![config(&name, FOLDER)];
    volumes.extend(credentials(stream));
    let text = told.data.iter().flat_map(BTreeMap::values).fold(String::new(), |all, text| all + text);
    let pods = Pods {
        options,
        settings,
        component: Component::Stream,
        owner: &owner,
        args: args(package),
        env: environment(stream),
        ports: &[names::ADMIN_PORT],
        volumes,
        size: None,
        drain: stream.spec.drain_seconds.into(),
        pre_stop: 0,
        token: false,
        account: None,
        restart: "Always",
        probes: true,
        annotations: [(CONFIG.to_owned(), format!("{:016x}", xxh3_64(text.as_bytes())))].into(),
    };
    Deployment {
        metadata: metadata::of(stream, Component::Stream, name),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: metadata::selector(Component::Stream, &owner),
            template: pods.template(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(0)),
                    max_unavailable: Some(IntOrString::Int(1)),
                }),
            }),
            revision_history_limit: Some(3),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn args(package: &Package) -> Vec<String> {
    // A NetworkPolicy says who reaches the admin port.
    let mut args = vec!["stream".to_owned(), "--no-authentication".to_owned()];
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    option("config", format!("{FOLDER}/{FILE}"));
    option("admin", everywhere(names::ADMIN_PORT));
    if let Some(store) = &package.store {
        option("store", store.clone());
    }
    args
}

/// Properties whose values are keys of Secrets.
fn environment(stream: &StreamPrediction) -> Vec<EnvVar> {
    let source = stream.spec.source.kafka.iter().map(|kafka| (Side::Source, &kafka.secret_properties));
    let sink = stream.spec.sink.kafka.iter().map(|kafka| (Side::Sink, &kafka.secret_properties));
    let variable = |side: Side, property: &str, SecretValue { secret, key }: &SecretValue| {
        let key = SecretKeySelector { name: secret.clone(), key: key.clone(), optional: None };
        EnvVar {
            name: render::variable(side, property),
            value_from: Some(EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() }),
            ..EnvVar::default()
        }
    };
    source
        .chain(sink)
        .flat_map(|(side, properties)| {
            properties.iter().map(move |(property, value)| variable(side, property, value))
        })
        .collect()
}

/// Files with credentials of NATS.
fn credentials(stream: &StreamPrediction) -> Vec<(Volume, VolumeMount)> {
    let source = stream.spec.source.nats.as_ref().and_then(|nats| nats.credentials.as_ref());
    let sink = stream.spec.sink.nats.as_ref().and_then(|nats| nats.credentials.as_ref());
    let file = |side: Side, value: &SecretValue| {
        let key = Some((value.key.as_str(), render::CREDENTIALS));
        secret(&format!("nats-{}", side.name()), &value.secret, key, &render::credentials_folder(side))
    };
    let source = source.map(|value| file(Side::Source, value));
    source.into_iter().chain(sink.map(|value| file(Side::Sink, value))).collect()
}
