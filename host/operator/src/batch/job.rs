//! The Indexed Job of a job over files.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use kube::ResourceExt as _;
use kube::core::ObjectMeta;
use vespid_resources::{BatchPrediction, PodSettings, names};

use crate::OperatorOptions;
use crate::metadata::{self, Component};
use crate::package::Package;
use crate::pods::{CONTAINER, Pods, config, everywhere};

/// The key of the ConfigMap that has the job, and the folder where pods have it.
pub(super) const FILE: &str = "job.yaml";
const FOLDER: &str = "/etc/vespid/job";

/// Where a pod leaves its report, or why it failed, for its status.
const REPORT: &str = "/dev/termination-log";

/// How long a pod that is told to stop may take to end the parts in hand.
const GRACE: i64 = 60;

/// What a pod ends with that was stopped, and goes on when it is run again.
const RUN_AGAIN: i32 = 75;

/// What it ends with where the job is wrong.
const WRONG: i32 = 2;

/// The annotation of the Job with the version that is asked: what was chosen is kept, also where nobody came to write it into the
/// status.
const VERSION: &str = "vespid.dev/version";

/// The version that a Job's pods ask.
pub(super) fn version(job: &Job) -> Option<i64> {
    job.annotations().get(VERSION)?.parse().ok()
}

pub(super) fn job(
    batch: &BatchPrediction,
    package: &Package,
    settings: &PodSettings,
    options: &OperatorOptions,
) -> Job {
    let owner = batch.name_any();
    let name = names::of_batch(&owner);
    let pods = Pods {
        options,
        settings,
        component: Component::Batch,
        owner: &owner,
        args: args(batch, package),
        env: Vec::new(),
        ports: &[names::ADMIN_PORT],
        volumes: vec![config(&name, FOLDER)],
        size: None,
        drain: GRACE,
        pre_stop: 0,
        token: false,
        account: None,
        restart: "Never",
        // It ends by itself, and while it loads a model nobody needs to know whether it is ready.
        probes: false,
        annotations: BTreeMap::new(),
    };
    let annotations = [(VERSION.to_owned(), package.version.to_string())].into();
    Job {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..metadata::of(batch, Component::Batch, name)
        },
        spec: Some(JobSpec {
            completions: Some(batch.spec.parallelism),
            parallelism: Some(batch.spec.parallelism),
            completion_mode: Some("Indexed".to_owned()),
            backoff_limit_per_index: Some(batch.spec.retries),
            max_failed_indexes: Some(0),
            pod_failure_policy: Some(failures()),
            ttl_seconds_after_finished: batch.spec.ttl_seconds,
            suspend: Some(batch.spec.suspend),
            template: pods.template(),
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn args(batch: &BatchPrediction, package: &Package) -> Vec<String> {
    let mut args = vec!["batch".to_owned(), format!("{FOLDER}/{FILE}")];
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    option("of", batch.spec.parallelism.to_string());
    option("admin", everywhere(names::ADMIN_PORT));
    option("grace", format!("{GRACE}s"));
    option("report", "json".to_owned());
    option("report-file", REPORT.to_owned());
    if let Some(store) = &package.store {
        option("store", store.clone());
    }
    args
}

/// Which ends of a pod count as failures of its share. What is wrong with the job is wrong in every pod; one that was stopped, or
/// whose node went, has not failed.
fn failures() -> PodFailurePolicy {
    let exit = |action: &str, code| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values: vec![code],
        }),
        on_pod_conditions: None,
    };
    let disrupted = PodFailurePolicyOnPodConditionsPattern {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
    };
    let away = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![disrupted]),
    };
    PodFailurePolicy { rules: vec![exit("FailJob", WRONG), exit("Ignore", RUN_AGAIN), away] }
}
