//! Names that the operator, the gateway and the hosts have to agree on.

/// The label of everything that is made of a pool: its name.
pub const POOL_LABEL: &str = "vespid.dev/pool";

/// The label of everything that is made of a job: its name.
pub const BATCH_LABEL: &str = "vespid.dev/batch";

/// The label of everything that is made of a stream: its name.
pub const STREAM_LABEL: &str = "vespid.dev/stream";

/// The label of a Model that says which tenant it belongs to: policies ask for it.
pub const TENANT_LABEL: &str = "vespid.dev/tenant";

/// Who owns the fields that the operator applies.
pub const FIELD_MANAGER: &str = "vespid-operator";

/// The header, and gRPC metadata key, by which a client has its requests answered by one pod, as sequences need.
pub const AFFINITY_HEADER: &str = "vespid-affinity";

/// The port of a pod for HTTP clients, by its name and number.
pub const HTTP_PORT: (&str, u16) = ("http", 8000);

/// The port of a pod for gRPC clients.
pub const GRPC_PORT: (&str, u16) = ("grpc", 8001);

/// The port of a pod for probes, metrics and what looks after streams.
pub const ADMIN_PORT: (&str, u16) = ("admin", 8002);

/// The port of the gateway at which pods fetch uploaded packages.
pub const PACKAGES_PORT: (&str, u16) = ("packages", 8003);

/// What the Deployment, the Service and the rest of a pool are called.
#[must_use]
pub fn of_pool(pool: &str) -> String {
    format!("{pool}-pool")
}

/// What the Job and the ConfigMap of a batch prediction are called.
#[must_use]
pub fn of_batch(batch: &str) -> String {
    format!("{batch}-batch")
}

/// What the Deployment and the ConfigMap of a stream prediction are called.
#[must_use]
pub fn of_stream(stream: &str) -> String {
    format!("{stream}-stream")
}
