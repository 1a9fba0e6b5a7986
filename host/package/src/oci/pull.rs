//! Pulling: a package with all of its blobs, or one file of an artifact that a `model.toml` names as its source.
//!
//! Contract: the manifest is read first and checked against the digest that was asked for, the trust policy and the limits;
//! only then are blobs pulled, into the cache, which takes them when their size and digest are right. A connection that is
//! cut goes on where it ended, now or when the same is pulled again. Names of files come from the record, which admits
//! plain relative paths alone.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use bytesize::ByteSize;
use futures_util::{StreamExt, TryStreamExt};
use oci_client::RegistryOperation;
use serde::Deserialize;
use vespid_types::Digest;

use super::error::RegistryError;
use super::push::AT_ONCE;
use super::reference::Reference;
use super::session::Session;
use super::{Progress, Registry, signature};
use crate::record::{MAX_RECORD, TITLE};
use crate::{
    Blob, Cache, Finished, MediaType, Package, PackageError, PackagePath, Record, Writer, digest_of,
};

/// A package that is in the cache.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Where it came from, with its digest.
    pub reference: Reference,
    /// What it is made of.
    pub package: Package,
}

/// Which file of an artifact is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The one component or program.
    Plugin,
    /// The graph of that name, or the only graph.
    Graph(&'a PackagePath),
    /// The `model.toml` of a package.
    Manifest,
}

/// A manifest as far as any artifact has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Registry {
    /// Pulls a package into the cache.
    ///
    /// # Errors
    /// What the registry says, what is wrong with the artifact, or that the trust policy does not admit it.
    pub async fn pull(
        &self,
        reference: &Reference,
        cache: &Arc<Cache>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Pulled, PackageError> {
        let session = Session::open(self.options(), reference, RegistryOperation::Pull).await?;
        let (pinned, manifest) = self.resolve(&session).await?;
        let record = Record::parse(manifest.clone()).map_err(|error| foreign(&pinned, &manifest, error))?;
        let limit = self.options().max_package;
        if record.size() > limit.as_u64() {
            return Err(PackageError::TooLarge { limit });
        }
        // It is no file of the package, and is held in memory.
        if record.config().size > MAX_RECORD {
            let (what, limit) = ("the config", ByteSize(MAX_RECORD));
            return Err(RegistryError::TooLarge { reference: pinned, what, limit }.into());
        }
        let blobs = record.blobs();
        // What a record says may be anything.
        progress.total(blobs.iter().fold(0, |total: u64, (_, blob)| total.saturating_add(blob.size)));
        let pulling = futures_util::stream::iter(blobs)
            .map(|(name, blob)| download(&session, name, blob, cache, progress));
        pulling.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        let (own, config) = (Arc::clone(cache), record.config());
        let config = blocking(move || own.read("config", &config)).await?;
        Ok(Pulled { reference: pinned, package: Package { record, config } })
    }

    /// Which digest a reference has now; a tag may lead to another one later.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub async fn digest(&self, reference: &Reference) -> Result<Digest, PackageError> {
        let session = Session::open(self.options(), reference, RegistryOperation::Pull).await?;
        let (_, manifest) = self.resolve(&session).await?;
        Ok(digest_of(&manifest))
    }

    /// Pulls one file of an artifact, whoever made it, into the cache; returns where it is.
    ///
    /// # Errors
    /// As [`pull`](Self::pull); and where the reference is not pinned, or the artifact has no such file.
    pub async fn pull_file(
        &self,
        reference: &Reference,
        wanted: Wanted<'_>,
        cache: &Arc<Cache>,
        progress: &Arc<dyn Progress>,
    ) -> Result<PathBuf, PackageError> {
        if reference.digest().is_none() {
            return Err(RegistryError::Unpinned { reference: reference.clone() }.into());
        }
        let session = Session::open(self.options(), reference, RegistryOperation::Pull).await?;
        let (pinned, manifest) = self.resolve(&session).await?;
        let refused = |reason: String| RegistryError::Artifact { reference: pinned.clone(), reason };
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|error| refused(format!("its manifest cannot be read: {error}")))?;
        let layer = choose(&manifest, wanted).map_err(refused)?;
        let limit = self.options().max_package;
        if layer.size > limit.as_u64() {
            return Err(PackageError::TooLarge { limit });
        }
        progress.total(layer.size);
        let name = layer.annotations.get(TITLE).cloned().unwrap_or_else(|| layer.media_type.clone());
        let blob = Blob { digest: layer.digest, size: layer.size, media_type: MediaType::File };
        download(&session, name, blob, cache, progress).await
    }

    /// The manifest that a reference leads to, and the reference with its digest, once the policy admits it.
    async fn resolve(&self, session: &Session) -> Result<(Reference, Bytes), RegistryError> {
        let reference = session.reference();
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => return Err(RegistryError::Vague { reference: reference.clone() }),
        };
        let manifest = session.manifest(&name).await?;
        let manifest = manifest.ok_or_else(|| RegistryError::NotFound { reference: reference.clone() })?;
        let digest = digest_of(&manifest);
        if let Some(expected) = reference.digest().filter(|expected| *expected != digest) {
            return Err(RegistryError::Damaged {
                what: format!("the manifest of {reference}"),
                host: session.host().to_owned(),
                expected: expected.to_string(),
                found: format!("is {digest}"),
            });
        }
        if let Some(policy) = &self.options().trust {
            signature::check(session, policy, digest).await?;
        }
        Ok((reference.pinned(digest), manifest))
    }
}

/// What an artifact that is no package of ours lacks.
fn foreign(reference: &Reference, manifest: &Bytes, error: PackageError) -> PackageError {
    let Ok(Manifest { media_type, layers }) = serde_json::from_slice(manifest) else { return error };
    let reason = if media_type.ends_with("image.index.v1+json")
        || media_type.ends_with("manifest.list.v2+json")
    {
        "it is an index of several artifacts: name one of them, by its digest".to_owned()
    } else if layers.iter().any(|layer| layer.media_type == MediaType::Manifest.as_str()) {
        return error;
    } else {
        let kinds: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
        format!(
            "it is no package of Vespid's: it holds no model.toml (a layer of type {}), only {}; `vespid push` makes \
             such packages, and a component alone can be the `plugin_source` of one",
            MediaType::Manifest,
            if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
        )
    };
    RegistryError::Artifact { reference: reference.clone(), reason }.into()
}

fn choose<'a>(manifest: &'a Manifest, wanted: Wanted<'_>) -> Result<&'a Layer, String> {
    let only =
        |of: &dyn Fn(&&Layer) -> bool| -> Vec<&'a Layer> { manifest.layers.iter().filter(of).collect() };
    let held = || {
        let name = |layer: &Layer| layer.annotations.get(TITLE).unwrap_or(&layer.media_type).clone();
        let names: Vec<String> = manifest.layers.iter().map(name).collect();
        if names.is_empty() { "no layer".to_owned() } else { names.join(", ") }
    };
    let one = |kind: MediaType| match only(&|layer| layer.media_type == kind.as_str())[..] {
        [layer] => Ok(layer),
        [] => Err(format!("it holds no layer of type {kind}, but {}", held())),
        _ => Err(format!("it holds more than one layer of type {kind}: {}", held())),
    };
    match wanted {
        Wanted::Plugin => one(MediaType::Plugin),
        Wanted::Manifest => one(MediaType::Manifest),
        Wanted::Graph(file) => {
            let file_name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
            let wanted_name = file_name(file.as_str());
            let titled = only(&|layer| {
                layer.annotations.get(TITLE).is_some_and(|title| file_name(title) == wanted_name)
            });
            let graphs = only(&|layer| {
                let kind = layer.media_type.parse();
                matches!(kind, Ok(MediaType::OnnxGraph | MediaType::OpenvinoGraph))
            });
            match (&titled[..], &graphs[..]) {
                ([layer], _) | ([], [layer]) => Ok(layer),
                ([], []) => Err(format!("it holds no file '{wanted_name}' and no graph, but {}", held())),
                ([], _) => {
                    Err(format!("it holds several graphs, and none is called '{wanted_name}': {}", held()))
                }
                _ => Err(format!("it holds more than one file '{wanted_name}': {}", held())),
            }
        }
    }
}

/// Pulls a blob, called `name` in messages, unless the cache has it; returns where it is.
async fn download(
    session: &Session,
    name: String,
    blob: Blob,
    cache: &Arc<Cache>,
    progress: &Arc<dyn Progress>,
) -> Result<PathBuf, PackageError> {
    let (own, called) = (Arc::clone(cache), name.clone());
    let Some(mut writer) = blocking(move || own.writer(&called, &blob)).await? else {
        progress.moved(blob.size);
        let gone = || PackageError::Blob { file: name, digest: blob.digest, reason: "is missing".to_owned() };
        return cache.blob(&blob).ok_or_else(gone);
    };
    progress.moved(writer.offset());
    let mut waits = session.waits();
    loop {
        let before = writer.offset();
        match receive(session, &mut writer, &name, blob, progress).await {
            Ok(()) => {}
            Err(PackageError::Registry(error)) if error.is_transient() => {
                // Only what brings nothing counts.
                if writer.offset() > before {
                    waits = session.waits();
                }
                let Some(wait) = waits.next() else { return Err(error.into()) };
                tracing::info!(%error, file = name, from = writer.offset(), ?wait, "a download goes on");
                tokio::time::sleep(wait).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        match blocking(move || writer.finish()).await {
            Ok(Finished::Blob(place)) => return Ok(place),
            // What an earlier attempt had left may have been wrong.
            Ok(Finished::Anew(anew)) => {
                progress.lost(blob.size);
                writer = *anew;
            }
            Err(PackageError::Blob { file, digest, reason }) => {
                return Err(RegistryError::Damaged {
                    what: format!("'{file}'"),
                    host: session.host().to_owned(),
                    expected: digest.to_string(),
                    found: reason,
                }
                .into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Goes on with a blob until it is there, or the connection is cut.
async fn receive(
    session: &Session,
    writer: &mut Writer,
    name: &str,
    blob: Blob,
    progress: &Arc<dyn Progress>,
) -> Result<(), PackageError> {
    if writer.offset() == blob.size {
        return Ok(());
    }
    let mut opened = session.blob(blob.digest, writer.offset()).await?;
    if let Some(end) = opened.end.filter(|end| *end != blob.size) {
        return Err(RegistryError::Damaged {
            what: format!("'{name}'"),
            host: session.host().to_owned(),
            expected: format!("{} bytes", blob.size),
            found: format!("is {end} bytes"),
        }
        .into());
    }
    // A registry that cannot begin in the middle sends again what is there.
    let mut known = writer.offset().saturating_sub(opened.offset);
    while let Some(chunk) = opened.stream.next().await {
        let mut chunk = chunk?;
        let again = usize::try_from(known).unwrap_or(usize::MAX).min(chunk.len());
        chunk.advance(again);
        known -= again as u64;
        // Little at a time: the disk's cache takes it at once.
        writer.append(&chunk)?;
        progress.moved(chunk.len() as u64);
        // What the stream itself has to say of the digest at its end, the writer says better.
        if writer.offset() == blob.size {
            return Ok(());
        }
    }
    Err(RegistryError::Transport {
        host: session.host().to_owned(),
        action: "pulling a blob",
        source: format!("it ended after {} of {} bytes", writer.offset(), blob.size).into(),
    }
    .into())
}

/// Work that blocks on files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    let ended = |error| PackageError::io("finish work on", "")(std::io::Error::other(error));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layers: &[(&str, Option<&str>)]) -> Manifest {
        let layer = |(media_type, title): &(&str, Option<&str>)| Layer {
            media_type: (*media_type).to_owned(),
            digest: digest_of(media_type.as_bytes()),
            size: 1,
            annotations: title.iter().map(|title| (TITLE.to_owned(), (*title).to_owned())).collect(),
        };
        Manifest { media_type: String::new(), layers: layers.iter().map(layer).collect() }
    }

    #[test]
    fn a_source_s_file_is_found_or_missed_in_words() {
        const WASM: &str = "application/wasm";
        const ONNX: &str = "application/vnd.vespid.graph.v1+onnx";
        let file: PackagePath = "graphs/model.onnx".parse().unwrap();
        let (plugin, graph) = (Wanted::Plugin, Wanted::Graph(&file));
        for (layers, wanted, expected) in [
            (&[(WASM, None)][..], plugin, Ok(WASM)),
            (&[(WASM, Some("p.wasm")), (ONNX, Some("a.onnx"))], plugin, Ok(WASM)),
            (&[(WASM, Some("p.wasm")), (ONNX, Some("a.onnx"))], graph, Ok(ONNX)),
            (&[("text/plain", Some("model.onnx")), (ONNX, Some("a.onnx"))], graph, Ok("text/plain")),
            (&[(ONNX, Some("a.onnx")), (ONNX, Some("x/model.onnx"))], graph, Ok(ONNX)),
            (&[], plugin, Err("no layer of type application/wasm, but no layer")),
            (&[(WASM, None), (WASM, None)], plugin, Err("more than one layer of type application/wasm")),
            (&[(WASM, Some("p.wasm"))], graph, Err("no file 'model.onnx' and no graph, but p.wasm")),
            (&[(ONNX, Some("a")), (ONNX, Some("b"))], graph, Err("several graphs, and none is called")),
            (&[(ONNX, Some("a/model.onnx")), (ONNX, Some("b/model.onnx"))], graph, Err("more than one file")),
        ] {
            let manifest = manifest(layers);
            match (choose(&manifest, wanted), expected) {
                (Ok(layer), Ok(media_type)) => assert_eq!(layer.media_type, media_type),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, expected) => {
                    panic!("{:?}, expected {expected:?}", found.map(|layer| &layer.media_type))
                }
            }
        }
    }

    #[test]
    fn what_others_made_is_refused_with_what_is_missing() {
        let reference: Reference = "oci://r.example/a:1".parse().unwrap();
        let config = r#""config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"D","size":2}"#;
        let digest = digest_of(b"").to_string();
        for (manifest, expected) in [
            (
                format!(
                    r#"{{"schemaVersion":2,{config},"layers":[{{"mediaType":"application/wasm","digest":"D","size":1}}]}}"#
                ),
                "holds no model.toml (a layer of type application/vnd.vespid.model.v1+toml), only application/wasm",
            ),
            (
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#
                    .to_owned(),
                "an index of several artifacts",
            ),
            (format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#), "only nothing"),
            ("<html>".to_owned(), "not an OCI image manifest"),
        ] {
            let manifest = Bytes::from(manifest.replace('D', &digest));
            let error =
                foreign(&reference, &manifest, Record::parse(manifest.clone()).unwrap_err()).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
