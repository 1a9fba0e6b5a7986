//! A stream: a Deployment whose pods are the members of a consumer group, as many as the lag asks for.

mod ask;
mod deployment;
mod render;
mod scaling;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use vespid_resources::{StreamPrediction, names};

pub(crate) use self::ask::{Answer, Asker};
pub use self::render::stream_yaml;
pub(crate) use self::scaling::Memory;
use self::scaling::{Measured, decide};
use crate::apply::{Making, apply_status};
use crate::batch::model_and_pool;
use crate::context::Context;
use crate::controller::Reconcile;
use crate::metadata::{self, Component};
use crate::network::policy;
use crate::package::package;
use crate::pods::is_ready;
use crate::{OperatorError, pods};

/// How often pods are asked how far behind they are, where that decides how many there are, and where it is only told.
const ASKED: Duration = Duration::from_secs(10);
const TOLD: Duration = Duration::from_secs(30);

impl Reconcile for StreamPrediction {
    const KIND: &'static str = "streamprediction";

    async fn reconcile(self: Arc<Self>, context: Arc<Context>) -> Result<Action, OperatorError> {
        let name = self.name_any();
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let deployment = context.find(&context.stores.deployments, &names::of_stream(&name));
        let pods = own_pods(&self, &context);
        let answers =
            context.asker.ask(&name, pods.iter().filter(|pod| is_ready(pod)).map(|pod| &**pod)).await;
        let measured = Measured::of(&self, &answers);
        let current = deployment.as_ref().and_then(|deployment| deployment.spec.as_ref()?.replicas);
        let (replicas, again) = self.replicas(&context, current, measured.as_ref());
        let made = match model_and_pool(&context, &self.spec.model) {
            Ok((model, pool)) => {
                let package = package(&model, self.spec.version, context.options.packages.as_deref());
                let settings = pods::over(&self.spec.pods, &pool.spec.pods);
                match package {
                    Ok(package) => {
                        let mut making = Making::of(&*self, &context);
                        let config = config(&self, &stream_yaml(&self, &package)?);
                        making.apply(&config).await?;
                        let (name, peers) = (names::of_stream(&name), &context.options.peers);
                        making.apply(&policy(&*self, Component::Stream, name, peers)).await?;
                        let deployed = deployment::deployment(
                            &self,
                            &package,
                            &config,
                            &settings,
                            replicas,
                            &context.options,
                        );
                        making.apply(&deployed).await?;
                        tell(&self, &context, current, replicas).await;
                        Ok((package.version, making.refused()))
                    }
                    Err(reason) => Err(reason),
                }
            }
            Err(reason) => Err(reason),
        };
        let seen = status::Seen {
            deployment: deployment.as_deref(),
            pods: &pods,
            answers: &answers,
            measured,
            replicas,
        };
        let status = status::status(&self, &seen, made);
        if self.status.as_ref() != Some(&status) {
            apply_status(&context, &*self, &status, None).await?;
        }
        Ok(Action::requeue(again))
    }
}

trait Scaled {
    fn replicas(
        &self,
        context: &Context,
        current: Option<i32>,
        measured: Option<&Measured>,
    ) -> (i32, Duration);
}

impl Scaled for StreamPrediction {
    /// How many pods there are to be, and when to look again.
    fn replicas(
        &self,
        context: &Context,
        current: Option<i32>,
        measured: Option<&Measured>,
    ) -> (i32, Duration) {
        let mut streams = context.streams();
        let Some(scaling) = &self.spec.scaling else {
            streams.remove(&self.name_any());
            return (self.spec.replicas.unwrap_or(1), TOLD);
        };
        let memory = streams.entry(self.name_any()).or_default();
        // What was decided last counts: a watch may not have told of it yet.
        let current = memory.decided.or(current);
        let replicas = decide(scaling, memory, current, measured, Timestamp::now());
        memory.decided = Some(replicas);
        (replicas, ASKED)
    }
}

fn own_pods(stream: &StreamPrediction, context: &Context) -> Vec<Arc<Pod>> {
    let name = stream.name_any();
    let own = |pod: &Pod| pod.labels().get(names::STREAM_LABEL) == Some(&name);
    let mut pods = context.stores.pods.state_filter(|pod| own(pod));
    pods.sort_by_key(|pod| pod.name_any());
    pods
}

fn config(stream: &StreamPrediction, yaml: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata::of(stream, Component::Stream, names::of_stream(&stream.name_any())),
        data: Some([(deployment::FILE.to_owned(), yaml.to_owned())].into()),
        ..ConfigMap::default()
    }
}

async fn tell(stream: &StreamPrediction, context: &Context, current: Option<i32>, replicas: i32) {
    let Some(current) = current.filter(|current| *current != replicas && stream.spec.scaling.is_some())
    else {
        return;
    };
    let (reason, note) = match (current, replicas) {
        (_, 0) => ("ScaledToZero", "nothing waits, and the last pods go".to_owned()),
        (0, _) => ("Woken", "a pod looks for messages".to_owned()),
        (before, now) => ("Scaled", format!("from {before} to {now} pods")),
    };
    context.tell(stream, EventType::Normal, reason, note).await;
}

/// What a Deployment says of its pods.
fn counted(deployment: Option<&Deployment>) -> (i32, i32) {
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    let replicas = status.and_then(|status| status.replicas).unwrap_or(0);
    (replicas, status.and_then(|status| status.ready_replicas).unwrap_or(0))
}
