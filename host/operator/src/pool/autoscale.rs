//! How many pods there are at which load, and how many may be away.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use vespid_resources::{Autoscaling, ModelPool, names};

use crate::metadata::{self, Component};

/// The autoscaler, where the pool has one. It has at least one pod: with none it stands still, which is how a pool sleeps.
pub(super) fn autoscaler(pool: &ModelPool) -> Option<HorizontalPodAutoscaler> {
    let Autoscaling { min_replicas, max_replicas, cpu_utilization, metrics, .. } =
        pool.spec.autoscaling.as_ref()?;
    let name = names::of_pool(&pool.name_any());
    let metrics = if metrics.is_empty() { vec![cpu(*cpu_utilization)] } else { metrics.clone() };
    Some(HorizontalPodAutoscaler {
        metadata: metadata::of(pool, Component::Pool, name.clone()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            min_replicas: Some((*min_replicas).max(1)),
            max_replicas: *max_replicas,
            metrics: Some(metrics),
            behavior: None,
        }),
        status: None,
    })
}

fn cpu(utilization: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(utilization),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// How many pods may be away at once while nodes are emptied: one where the pool does not say it.
pub(super) fn budget(pool: &ModelPool) -> PodDisruptionBudget {
    let max_unavailable = pool
        .spec
        .disruption
        .as_ref()
        .map_or(IntOrString::Int(1), |disruption| disruption.max_unavailable.clone());
    PodDisruptionBudget {
        metadata: metadata::of(pool, Component::Pool, names::of_pool(&pool.name_any())),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(max_unavailable),
            selector: Some(metadata::selector(Component::Pool, &pool.name_any())),
            // One that is not ready serves nobody, and must not keep its node from being emptied.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
