//! What pods say of their streams, on their admin ports.
//!
//! Cost: a request to each pod that is ready, each time a stream is looked at. One that does not answer within two seconds has not
//! answered: then the lag is not known, and the number of pods stays as it is.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::Deserialize;
use vespid_resources::names;

/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer may be: some ten thousand partitions.
const MAX_ANSWER: usize = 4 << 20;

/// Asks pods.
pub(crate) struct Asker(Client<HttpConnector, Empty<Bytes>>);

impl Default for Asker {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build_http())
    }
}

/// What a pod says of a stream; nothing where it does not answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) pod: String,
    pub(crate) said: Option<Said>,
}

/// As it stands in `/v2/streams`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Said {
    name: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) lag: Option<i64>,
    pub(crate) partitions: Vec<Partition>,
}

/// One of its partitions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) position: Option<i64>,
    pub(crate) lag: Option<i64>,
}

#[derive(Deserialize)]
struct Listed {
    streams: Vec<Said>,
}

impl Asker {
    /// What each pod says of the stream.
    pub(crate) async fn ask<'a>(&self, stream: &str, pods: impl Iterator<Item = &'a Pod>) -> Vec<Answer> {
        join_all(pods.map(|pod| async move {
            let said = match tokio::time::timeout(PATIENCE, self.one(stream, pod)).await {
                Ok(Ok(said)) => said,
                Ok(Err(error)) => {
                    tracing::debug!(
                        stream,
                        pod = pod.name_any(),
                        "it does not say how far behind it is: {error}"
                    );
                    None
                }
                Err(_) => None,
            };
            Answer { pod: pod.name_any(), said }
        }))
        .await
    }

    async fn one(
        &self,
        stream: &str,
        pod: &Pod,
    ) -> Result<Option<Said>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) else {
            return Ok(None);
        };
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("http://{host}:{}/v2/streams", port(pod)).parse()?;
        let answer = self.0.get(url).await?;
        if !answer.status().is_success() {
            return Err(format!("it answers with {}", answer.status()).into());
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        let Listed { streams } = serde_json::from_slice(&body)?;
        Ok(streams.into_iter().find(|said| said.name == stream))
    }
}

/// The port that is called `admin`.
fn port(pod: &Pod) -> i32 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(names::ADMIN_PORT.0));
    named.map_or(i32::from(names::ADMIN_PORT.1), |port| port.container_port)
}
