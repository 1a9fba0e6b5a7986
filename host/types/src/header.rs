//! The headers, and gRPC metadata keys, that hosts and gateways have to agree on.

/// In which a gateway names the version for a request that names none.
pub const MODEL_VERSION: &str = "vespid-model-version";

/// By which a host says of a failure that another may take the same request: it refused it at its door
/// ([`Error::refused`](crate::Error::refused)). Its value is [`ELSEWHERE`].
pub const RETRY: &str = "vespid-retry";

/// The value of [`RETRY`].
pub const ELSEWHERE: &str = "elsewhere";
