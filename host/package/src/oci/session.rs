//! One registry while it is asked about one repository.
//!
//! Contract: what fails for the moment is tried again a few times, waiting longer each time; what the registry refuses is
//! not. Plain HTTP is spoken with this machine, and with hosts that were named for it, alone. The registry is trusted with
//! nothing: sizes are limited while they are read, and digests are checked by whoever asked. Cost: a client, which reads
//! the system's certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, try_unfold};
use futures_util::{Stream, StreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;
use vespid_types::Digest;

use super::error::{CONNECT, PAUSE, RegistryError, shortened};
use super::reference::Reference;
use super::{Progress, RegistryOptions, credentials};
use crate::record::MAX_RECORD;

/// Tries after the first one, and how long the first of them waits.
const RETRIES: usize = 4;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How much of a refusal is read.
const MAX_REFUSAL: usize = 64 << 10;

const CHUNK: usize = 256 << 10;

/// What a manifest may be, so that one that we do not take is told from one that is not there.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry that is asked about the repository of a reference.
pub(super) struct Session {
    reference: Reference,
    client: Client,
    /// For what the client does not limit.
    http: reqwest::Client,
    scheme: &'static str,
    auth: RegistryAuth,
    retries: ExponentialBuilder,
}

impl Session {
    /// Finds out who asks and how; asks nothing yet.
    pub(super) async fn open(
        options: &RegistryOptions,
        reference: &Reference,
        purpose: RegistryOperation,
    ) -> Result<Self, RegistryError> {
        let reference = reference.clone();
        let host = reference.host().to_owned();
        let plain = reference.is_loopback() || options.insecure.contains(&host);
        let auth = spawn_blocking(move || credentials::find(&host))
            .await
            .map_err(|error| failed(&reference, "looking for credentials", error))??;
        let client = Client::try_from(client_config(plain, reference.is_loopback(), &purpose))
            .map_err(|error| failed(&reference, "making a client", error))?;
        let mut http =
            reqwest::Client::builder().user_agent(USER_AGENT).connect_timeout(CONNECT).read_timeout(PAUSE);
        if reference.is_loopback() {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| failed(&reference, "making a client", error))?;
        let session = Self {
            client,
            http,
            scheme: if plain { "http" } else { "https" },
            auth,
            retries: ExponentialBuilder::default()
                .with_min_delay(FIRST_WAIT)
                .with_max_delay(LONGEST_WAIT)
                .with_max_times(RETRIES)
                .with_jitter(),
            reference,
        };
        let place = session.tagged("latest");
        session.client.store_auth_if_needed(place.resolve_registry(), &session.auth).await;
        Ok(session)
    }

    pub(super) fn host(&self) -> &str {
        self.reference.host()
    }

    /// What is asked about.
    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// In the client's words. Of what has no tag, any will do.
    fn tagged(&self, tag: &str) -> oci_client::Reference {
        let [host, repository] = [self.reference.host(), self.reference.repository()].map(str::to_owned);
        oci_client::Reference::with_tag(host, repository, tag.to_owned())
    }

    /// Does what may fail for the moment until it does not, or has failed often enough.
    pub(super) async fn retried<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        attempt
            .retry(self.retries)
            .when(RegistryError::is_transient)
            .notify(|error, wait| tracing::info!(%error, ?wait, "the registry is asked again"))
            .await
    }

    /// How long to wait before each further try.
    pub(super) fn waits(&self) -> impl Iterator<Item = Duration> + use<> {
        self.retries.build()
    }

    /// Asks whether the registry lets us push, so that this is told before anything is sent.
    pub(super) async fn may_push(&self) -> Result<(), RegistryError> {
        let place = self.tagged("latest");
        self.retried(|| async {
            let answer = self.client.auth(&place, &self.auth, RegistryOperation::Push).await;
            answer.map(drop).map_err(|error| self.wrong("pushing", error))
        })
        .await
    }

    /// The manifest of this tag or digest, if there is one.
    pub(super) async fn manifest(&self, name: &str) -> Result<Option<Bytes>, RegistryError> {
        self.retried(|| self.try_manifest(name)).await
    }

    async fn try_manifest(&self, name: &str) -> Result<Option<Bytes>, RegistryError> {
        const ACTION: &str = "pulling a manifest";
        let place = self.tagged("latest");
        let token = self.client.auth(&place, &self.auth, RegistryOperation::Pull).await;
        let token = token.map_err(|error| self.wrong(ACTION, error))?;
        let url = format!(
            "{}://{}/v2/{}/manifests/{name}",
            self.scheme,
            place.resolve_registry(),
            self.reference.repository()
        );
        let request = self.http.get(url).header(ACCEPT, MANIFESTS);
        let request = match (token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        };
        let response = request.send().await.map_err(|error| self.cut(ACTION, error))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let limit =
            if status.is_success() { usize::try_from(MAX_RECORD).unwrap_or(usize::MAX) } else { MAX_REFUSAL };
        let body = self.read_limited(response, limit, ACTION).await?;
        if status.is_success() {
            return Ok(Some(body));
        }
        Err(self.refusal(status, &body, ACTION))
    }

    async fn read_limited(
        &self,
        mut response: reqwest::Response,
        limit: usize,
        action: &'static str,
    ) -> Result<Bytes, RegistryError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.cut(action, error))? {
            if body.len() + chunk.len() > limit {
                let limit = bytesize::ByteSize(limit as u64);
                return Err(RegistryError::TooLarge {
                    reference: self.reference.clone(),
                    what: "the manifest",
                    limit,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn refusal(&self, status: StatusCode, body: &[u8], action: &'static str) -> RegistryError {
        let host = self.host().to_owned();
        let message = match serde_json::from_slice::<OciEnvelope>(body) {
            Ok(envelope) => {
                let messages: Vec<_> = envelope.errors.into_iter().map(|error| error.message).collect();
                messages.join("; ")
            }
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let message = shortened(&message);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Denied { host, action, reason: message }
            }
            status => RegistryError::Answer { host, status: status.as_u16(), action, message },
        }
    }

    /// Puts a manifest under a tag.
    pub(super) async fn put_manifest(
        &self,
        tag: &str,
        manifest: &Bytes,
        media_type: &'static str,
    ) -> Result<(), RegistryError> {
        let place = self.tagged(tag);
        self.retried(|| async {
            let media_type = HeaderValue::from_static(media_type);
            let put = self.client.push_manifest_raw(&place, manifest.clone(), media_type).await;
            put.map(drop).map_err(|error| self.wrong("pushing a manifest", error))
        })
        .await
    }

    /// Whether the repository has a blob.
    pub(super) async fn has(&self, digest: Digest) -> Result<bool, RegistryError> {
        let (place, digest) = (self.tagged("latest"), digest.to_string());
        self.retried(|| async {
            let there = self.client.blob_exists(&place, &digest).await;
            there.map_err(|error| self.wrong("looking for a blob", error))
        })
        .await
    }

    /// Puts a blob that is in memory.
    pub(super) async fn put_bytes(&self, digest: Digest, bytes: &Bytes) -> Result<(), RegistryError> {
        self.put(digest, bytes.len() as u64, || {
            let bytes = bytes.clone();
            futures_util::stream::once(async move { Ok(bytes) })
        })
        .await
    }

    /// Puts a blob that is in a file.
    pub(super) async fn put_file(
        &self,
        digest: Digest,
        size: u64,
        path: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        self.put(digest, size, || file(path.to_owned(), Arc::clone(progress))).await
    }

    async fn put<S>(&self, digest: Digest, size: u64, open: impl Fn() -> S) -> Result<(), RegistryError>
    where
        S: Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static,
    {
        let (place, digest) = (self.tagged("latest"), digest.to_string());
        self.retried(|| async {
            let put = self.client.push_blob_stream(&place, open(), &digest, Some(size)).await;
            put.map(drop).map_err(|error| self.wrong("pushing a blob", error))
        })
        .await
    }

    /// Begins to read a blob at an offset. Where the registry cannot do that, it begins at the start.
    pub(super) async fn blob(&self, digest: Digest, offset: u64) -> Result<Opened, RegistryError> {
        const ACTION: &str = "pulling a blob";
        let (place, digest) = (self.tagged("latest"), digest.to_string());
        let opened = self.client.pull_blob_stream_partial(&place, digest.as_str(), offset, None).await;
        let (offset, stream) = match opened.map_err(|error| self.wrong(ACTION, error))? {
            BlobResponse::Full(stream) => (0, stream),
            BlobResponse::Partial(stream) => (offset, stream),
        };
        let end = stream.content_length.map(|length| offset.saturating_add(length));
        let host = self.host().to_owned();
        let cut = move |error: std::io::Error| RegistryError::Transport {
            host: host.clone(),
            action: ACTION,
            source: error.into(),
        };
        Ok(Opened { offset, end, stream: stream.stream.map(move |chunk| chunk.map_err(&cut)).boxed() })
    }

    /// A blob that is little, such as what was signed; its size is in the manifest that names it.
    pub(super) async fn small_blob(&self, digest: Digest, size: u64) -> Result<Bytes, RegistryError> {
        let damaged = |found: String| RegistryError::Damaged {
            what: "a blob".to_owned(),
            host: self.host().to_owned(),
            expected: format!("{digest}, {size} bytes"),
            found,
        };
        let bytes = self
            .retried(|| async {
                let mut opened = self.blob(digest, 0).await?;
                let mut bytes = BytesMut::new();
                while let Some(chunk) = opened.stream.next().await {
                    bytes.extend_from_slice(&chunk?);
                    if bytes.len() as u64 > size {
                        return Err(damaged("is longer".to_owned()));
                    }
                }
                Ok(bytes.freeze())
            })
            .await?;
        let found = crate::digest_of(&bytes);
        if found == digest { Ok(bytes) } else { Err(damaged(format!("is {found}"))) }
    }

    fn wrong(&self, action: &'static str, error: OciDistributionError) -> RegistryError {
        RegistryError::of_client(self.host(), action, error)
    }

    fn cut(&self, action: &'static str, error: reqwest::Error) -> RegistryError {
        RegistryError::of_request(self.host(), action, error)
    }
}

/// A blob that is being read.
pub(super) struct Opened {
    /// Where it begins.
    pub(super) offset: u64,
    /// Where the registry says that it ends.
    pub(super) end: Option<u64>,
    pub(super) stream: BoxStream<'static, Result<Bytes, RegistryError>>,
}

const USER_AGENT: &str = concat!("vespid/", env!("CARGO_PKG_VERSION"));

fn client_config(plain: bool, loopback: bool, purpose: &RegistryOperation) -> ClientConfig {
    ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        // One request a blob, which every registry takes, and empty blobs too.
        use_monolithic_push: true,
        // Nothing is read while a blob is sent, however long that takes.
        read_timeout: matches!(purpose, RegistryOperation::Pull).then_some(PAUSE),
        connect_timeout: Some(CONNECT),
        user_agent: USER_AGENT,
        // A proxy for the outside world cannot reach this machine's own registry; to name one that is for no host is how
        // the client is told to pass by those of the environment.
        http_proxy: loopback.then(|| "http://localhost".to_owned()),
        no_proxy: loopback.then(|| "localhost,127.0.0.0/8,::1".to_owned()),
        ..ClientConfig::default()
    }
}

fn failed(
    reference: &Reference,
    action: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> RegistryError {
    RegistryError::Transport { host: reference.host().to_owned(), action, source: error.into() }
}

/// What a file holds, read as it is sent.
fn file(
    path: PathBuf,
    progress: Arc<dyn Progress>,
) -> impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static {
    try_unfold(None, move |file: Option<File>| {
        let (path, progress) = (path.clone(), Arc::clone(&progress));
        async move {
            let mut file = match file {
                Some(file) => file,
                None => File::open(path).await?,
            };
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let read = file.read_buf(&mut chunk).await?;
            progress.moved(read as u64);
            Ok((read > 0).then(|| (chunk.freeze(), Some(file))))
        }
    })
}
