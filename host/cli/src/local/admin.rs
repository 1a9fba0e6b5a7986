//! The admin port of commands that are no server.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytesize::ByteSize;
use vespid_auth::Access;
use vespid_ingress::Api;
use vespid_serving::Sources;
use vespid_stream::Streams;
use vespid_telemetry::{Telemetry, TelemetryOptions};

use super::Local;
use crate::allocator;
use crate::registry::RegistryArgs;

/// How long a client may leave a connection without a request.
const IDLE: Duration = Duration::from_secs(75);

/// The streams of a process.
pub(crate) struct Tended {
    /// From when their models are loaded.
    pub(crate) streams: Arc<OnceLock<Streams>>,
    /// Who may look after them; everybody where nothing is said.
    pub(crate) access: Option<Access>,
}

impl Local {
    /// Serves the metrics of the models and those that `register` adds, probes, and what looks after streams, until the process ends;
    /// where.
    pub(crate) async fn admin(
        &self,
        address: SocketAddr,
        registries: &RegistryArgs,
        register: impl FnOnce(&Telemetry) -> anyhow::Result<()>,
        tended: Option<Tended>,
    ) -> anyhow::Result<SocketAddr> {
        let (streams, access) = match tended {
            Some(Tended { streams, access }) => (Some(streams), access),
            None => (None, None),
        };
        let options =
            TelemetryOptions { allocator: Some(allocator::statistics), ..TelemetryOptions::default() };
        let telemetry = Telemetry::new(self.predictor.clone(), options)?;
        register(&telemetry)?;
        if let Some(access) = access.clone() {
            telemetry.register(Box::new(vespid_auth::Metrics::new(access, "vespid_access")?))?;
        }
        let listener = crate::serve::bind(address).await?;
        let bound = listener.local_addr()?;
        tracing::info!(admin = %bound, "listening");
        let (always, never) = tokio::sync::watch::channel(false);
        let api = Api {
            predictor: self.predictor.clone(),
            telemetry,
            repository: self.repository.clone(),
            sources: Sources::new(self.repository.clone(), registries.open(ByteSize(0))?, Vec::new()),
            jobs: None,
            streams,
            access,
            max_body: ByteSize(0),
            stopping: never.clone(),
        };
        let router = vespid_ingress::admin_router(api);
        tokio::spawn(async move {
            let _never_told_to_stop = always;
            crate::serve::listener::listen(listener, router, IDLE, None, never).await
        });
        Ok(bound)
    }
}
