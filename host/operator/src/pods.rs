//! Pods: what those of pools, jobs and streams have in common.
//!
//! Contract: a pod meets Kubernetes' `restricted` standard whatever its resource says: not root, nothing written but to its own
//! volumes, no capabilities. What a resource says goes before what the operator was told, but for the names that pods know
//! themselves by.

mod state;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler, LocalObjectReference,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecretVolumeSource, SecurityContext, SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;
use vespid_resources::{PodSettings, names};

pub(crate) use self::state::{is_ready, why_not};
use crate::OperatorOptions;
use crate::metadata::{self, Component};

/// What a container is called.
pub(crate) const CONTAINER: &str = "vespid";

/// Who runs in a container: nobody that a distribution has given a number.
const USER: i64 = 65_532;

/// How much longer than it asks for a pod is given to go.
const MARGIN: i64 = 10;

/// What a pod keeps for itself, and where.
const DATA: &str = "/var/lib/vespid";

/// The pods of a resource.
pub(crate) struct Pods<'a> {
    pub(crate) options: &'a OperatorOptions,
    pub(crate) settings: &'a PodSettings,
    pub(crate) component: Component,
    pub(crate) owner: &'a str,
    /// The command's words.
    pub(crate) args: Vec<String>,
    /// Variables that nobody else may set.
    pub(crate) env: Vec<EnvVar>,
    pub(crate) ports: &'a [(&'static str, u16)],
    pub(crate) volumes: Vec<(Volume, VolumeMount)>,
    /// The most that what it keeps for itself may take up.
    pub(crate) size: Option<Quantity>,
    /// How long what is in hand may take when it goes.
    pub(crate) drain: i64,
    /// How long it still answers before that.
    pub(crate) pre_stop: i64,
    /// Whether it talks to the API server, and as whom.
    pub(crate) token: bool,
    pub(crate) account: Option<String>,
    pub(crate) restart: &'static str,
    pub(crate) probes: bool,
    /// Annotations that are the operator's.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Pods<'_> {
    pub(crate) fn template(self) -> PodTemplateSpec {
        let container = self.container();
        let Self { options, settings, component, owner, token, account, restart, size, .. } = self;
        let mut labels = settings.labels.clone();
        labels.extend(metadata::labels(component, owner));
        let mut annotations = settings.annotations.clone();
        annotations.extend(self.annotations);
        let mut volumes = vec![scratch("data", size), scratch("tmp", None)];
        volumes.extend(self.volumes.into_iter().map(|(volume, _)| volume));
        let secrets = match settings.image_pull_secrets.is_empty() {
            true => options
                .image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
            false => settings.image_pull_secrets.clone(),
        };
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                annotations: some(annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                containers: vec![container],
                volumes: Some(volumes),
                image_pull_secrets: Some(secrets).filter(|secrets| !secrets.is_empty()),
                node_selector: some(settings.node_selector.clone()),
                tolerations: Some(settings.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
                affinity: settings.affinity.clone(),
                priority_class_name: settings.priority_class_name.clone(),
                runtime_class_name: settings.runtime_class_name.clone(),
                service_account_name: settings.service_account_name.clone().or(account),
                automount_service_account_token: Some(token),
                enable_service_links: Some(false),
                restart_policy: Some(restart.to_owned()),
                security_context: Some(pod_security()),
                termination_grace_period_seconds: Some(self.drain + self.pre_stop + MARGIN),
                topology_spread_constraints: Some(
                    ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                        .map(|key| spread(key, component, owner))
                        .to_vec(),
                ),
                ..PodSpec::default()
            }),
        }
    }

    fn container(&self) -> Container {
        let Self { options, settings, probes, .. } = self;
        let port = |(name, number): &(&str, u16)| ContainerPort {
            name: Some((*name).to_owned()),
            container_port: i32::from(*number),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        };
        let mut mounts = vec![mount("data", DATA, false), mount("tmp", "/tmp", false)];
        mounts.extend(self.volumes.iter().map(|(_, mount)| mount.clone()));
        let sleep = (self.pre_stop > 0).then_some(SleepAction { seconds: self.pre_stop });
        Container {
            name: CONTAINER.to_owned(),
            image: settings.image.clone().or_else(|| options.image.clone()),
            image_pull_policy: settings
                .image_pull_policy
                .clone()
                .or_else(|| options.image_pull_policy.clone()),
            args: Some(self.args.iter().chain(&settings.args).cloned().collect()),
            env: Some(self.environment()),
            env_from: Some(settings.env_from.clone()).filter(|env| !env.is_empty()),
            ports: Some(self.ports.iter().map(port).collect()),
            resources: settings.resources.clone(),
            volume_mounts: Some(mounts),
            security_context: Some(security()),
            startup_probe: probes.then(|| probe("/v2/health/live", 2, 90)),
            liveness_probe: probes.then(|| probe("/v2/health/live", 10, 6)),
            readiness_probe: probes.then(|| probe("/v2/health/ready", 3, 2)),
            lifecycle: sleep.map(|sleep| Lifecycle {
                pre_stop: Some(LifecycleHandler { sleep: Some(sleep), ..LifecycleHandler::default() }),
                ..Lifecycle::default()
            }),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    /// Each variable once, as server-side apply has it: what pods know themselves by, else the resource's, else the operator's.
    fn environment(&self) -> Vec<EnvVar> {
        let own = [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_IP", "status.podIP"),
            EnvVar {
                name: "VESPID_CACHE".to_owned(),
                value: Some(format!("{DATA}/cache")),
                ..EnvVar::default()
            },
        ];
        let mut all: Vec<EnvVar> = Vec::new();
        for variable in own.iter().chain(&self.env).chain(&self.settings.env).chain(&self.options.env) {
            if !all.iter().any(|known| known.name == variable.name) {
                all.push(variable.clone());
            }
        }
        all
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: Some("v1".to_owned()) };
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

fn some<T>(map: BTreeMap<String, T>) -> Option<BTreeMap<String, T>> {
    (!map.is_empty()).then_some(map)
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    let port = IntOrString::String(names::ADMIN_PORT.0.to_owned());
    Probe {
        http_get: Some(HTTPGetAction { path: Some(path.to_owned()), port, ..HTTPGetAction::default() }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(3),
        ..Probe::default()
    }
}

fn spread(key: &str, component: Component, owner: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(metadata::selector(component, owner)),
        ..TopologySpreadConstraint::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// A volume that goes with the pod.
fn scratch(name: &str, size: Option<Quantity>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: size, medium: None }),
        ..Volume::default()
    }
}

pub(crate) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A Secret's keys, each a file of a folder; one of them alone where it is named, as `file`.
pub(crate) fn secret(
    volume: &str,
    secret: &str,
    key: Option<(&str, &str)>,
    folder: &str,
) -> (Volume, VolumeMount) {
    let item = |(key, file): (&str, &str)| {
        vec![KeyToPath { key: key.to_owned(), path: file.to_owned(), mode: None }]
    };
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        items: key.map(item),
        default_mode: Some(0o440),
        optional: None,
    };
    let volume = Volume { name: volume.to_owned(), secret: Some(source), ..Volume::default() };
    let mount = mount(&volume.name, folder, true);
    (volume, mount)
}

/// A ConfigMap's keys, each a file of a folder.
pub(crate) fn config(name: &str, folder: &str) -> (Volume, VolumeMount) {
    let source = ConfigMapVolumeSource { name: name.to_owned(), ..ConfigMapVolumeSource::default() };
    let volume = Volume { name: "config".to_owned(), config_map: Some(source), ..Volume::default() };
    (volume, mount("config", folder, true))
}

/// Where listeners of a pod listen.
pub(crate) fn everywhere((_, port): (&str, u16)) -> String {
    format!("0.0.0.0:{port}")
}

/// How pods of jobs and streams are made: as is said of them, else as those of the model's pool. A pool's options and labels are its own.
pub(crate) fn over(own: &PodSettings, pool: &PodSettings) -> PodSettings {
    fn or<T: Clone>(own: &[T], pool: &[T]) -> Vec<T> {
        if own.is_empty() { pool.to_vec() } else { own.to_vec() }
    }
    let own = own.clone();
    PodSettings {
        image: own.image.or_else(|| pool.image.clone()),
        image_pull_policy: own.image_pull_policy.or_else(|| pool.image_pull_policy.clone()),
        image_pull_secrets: or(&own.image_pull_secrets, &pool.image_pull_secrets),
        resources: own.resources.or_else(|| pool.resources.clone()),
        env: or(&own.env, &pool.env),
        env_from: or(&own.env_from, &pool.env_from),
        args: own.args,
        node_selector: if own.node_selector.is_empty() {
            pool.node_selector.clone()
        } else {
            own.node_selector
        },
        tolerations: or(&own.tolerations, &pool.tolerations),
        affinity: own.affinity.or_else(|| pool.affinity.clone()),
        priority_class_name: own.priority_class_name.or_else(|| pool.priority_class_name.clone()),
        runtime_class_name: own.runtime_class_name.or_else(|| pool.runtime_class_name.clone()),
        labels: own.labels,
        annotations: own.annotations,
        service_account_name: own.service_account_name.or_else(|| pool.service_account_name.clone()),
    }
}
