//! Signatures as cosign keeps them in a registry: beside the artifact, under a tag made of its digest.
//!
//! Contract: what is signed is a small JSON text that names the artifact's digest ("simple signing"), a layer of the
//! manifest under the tag `sha256-HEX.sig`; the signature is an annotation of that layer. Signatures that are there are
//! kept. What is checked is the key, the digest and the kind of text; the place that the text names is not, as cosign does
//! not, so that a mirror's copies are as good. Left out: certificates, transparency logs, the referrers API.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vespid_types::Digest;

use super::error::RegistryError;
use super::keys::{PublicKey, SigningKey};
use super::session::Session;
use super::trust::TrustPolicy;
use crate::digest_of;

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const KIND: &str = "cosign container image signature";
const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What a signed text may take, and how many signatures are looked at: each is a request.
const MAX_PAYLOAD: u64 = 64 << 10;
const MAX_SIGNATURES: usize = 64;

/// The text that is signed.
#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    optional: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// A text and its signature, as they were found.
struct Signed {
    payload: Bytes,
    signature: String,
}

impl Signed {
    fn is_by(&self, key: &PublicKey, digest: Digest) -> bool {
        key.has_signed(&self.payload, &self.signature) && vouches_for(&self.payload, digest)
    }
}

/// Whether a text, whose signature is good, is about this artifact.
fn vouches_for(payload: &[u8], digest: Digest) -> bool {
    serde_json::from_slice(payload).is_ok_and(|Payload { critical, .. }| {
        critical.kind == KIND && critical.image.docker_manifest_digest == digest.to_string()
    })
}

fn tag(digest: Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// Checks that the policy trusts the artifact with this digest.
pub(super) async fn check(
    session: &Session,
    policy: &TrustPolicy,
    digest: Digest,
) -> Result<(), RegistryError> {
    let reference = session.reference().pinned(digest);
    let keys = policy.keys(&reference)?;
    let found = match stored(session, digest).await? {
        Some(manifest) => read(session, &manifest).await?,
        None => Vec::new(),
    };
    if let Some(key) = keys.iter().find(|key| found.iter().any(|signed| signed.is_by(key, digest))) {
        tracing::info!(%reference, key = key.name(), "the signature is good");
        return Ok(());
    }
    let tried: BTreeSet<&str> = keys.iter().map(|key| key.name()).collect();
    let tried = tried.into_iter().collect::<Vec<_>>().join(", ");
    let reason = match found.len() {
        0 => format!("it is not signed; a signature by one of these keys is wanted: {tried}"),
        count => format!("it has {count} signature(s), and none is by one of these keys: {tried}"),
    };
    Err(RegistryError::Untrusted { reference, reason })
}

/// Signs the artifact with this digest. Where it bears this key's signature already, there is nothing to do.
pub(super) async fn sign(session: &Session, key: &SigningKey, digest: Digest) -> Result<(), RegistryError> {
    let mut manifest = stored(session, digest).await?.unwrap_or_else(|| OciImageManifest {
        media_type: Some(IMAGE_MANIFEST.to_owned()),
        ..OciImageManifest::default()
    });
    let public = key.public("--sign")?;
    if read(session, &manifest).await?.iter().any(|signed| signed.is_by(&public, digest)) {
        return Ok(());
    }
    let payload = payload(session, digest)?;
    let signature = key.sign(&payload)?;
    manifest.layers.push(OciDescriptor {
        annotations: Some(BTreeMap::from([(SIGNATURE.to_owned(), signature)])),
        ..descriptor(PAYLOAD, &payload)
    });
    let config = config(&manifest)?;
    manifest.config = descriptor(IMAGE_CONFIG, &config);
    session.put_bytes(digest_of(&payload), &payload).await?;
    session.put_bytes(digest_of(&config), &config).await?;
    session.put_manifest(&tag(digest), &bytes(session, &manifest)?, IMAGE_MANIFEST).await
}

async fn stored(session: &Session, digest: Digest) -> Result<Option<OciImageManifest>, RegistryError> {
    let Some(manifest) = session.manifest(&tag(digest)).await? else { return Ok(None) };
    let manifest = serde_json::from_slice(&manifest)
        .map_err(|error| wrong(session, digest, format!("its signatures cannot be read: {error}")))?;
    Ok(Some(manifest))
}

/// The signatures of a manifest. What is no signature is passed over, as cosign passes it over.
async fn read(session: &Session, manifest: &OciImageManifest) -> Result<Vec<Signed>, RegistryError> {
    let mut found = Vec::new();
    for layer in manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD) {
        let signature = layer.annotations.as_ref().and_then(|annotations| annotations.get(SIGNATURE));
        let size = u64::try_from(layer.size).ok().filter(|size| *size <= MAX_PAYLOAD);
        let (Some(signature), Some(size), Ok(digest)) = (signature, size, layer.digest.parse()) else {
            continue;
        };
        if found.len() == MAX_SIGNATURES {
            tracing::warn!(reference = %session.reference(), "only the first {MAX_SIGNATURES} signatures are looked at");
            break;
        }
        let payload = session.small_blob(digest, size).await?;
        found.push(Signed { payload, signature: signature.clone() });
    }
    Ok(found)
}

fn payload(session: &Session, digest: Digest) -> Result<Bytes, RegistryError> {
    bytes(
        session,
        &Payload {
            critical: Critical {
                identity: Identity { docker_reference: session.reference().place() },
                image: Image { docker_manifest_digest: digest.to_string() },
                kind: KIND.to_owned(),
            },
            optional: None,
        },
    )
}

/// What image tools read of the layers; cosign writes the same.
fn config(manifest: &OciImageManifest) -> Result<Bytes, RegistryError> {
    let layers: Vec<&str> = manifest.layers.iter().map(|layer| layer.digest.as_str()).collect();
    let never = "0001-01-01T00:00:00Z";
    let history: Vec<_> = layers.iter().map(|_| json!({ "created": never })).collect();
    let config = json!({
        "architecture": "",
        "created": never,
        "history": history,
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": layers },
        "config": {},
    });
    Ok(Bytes::from(config.to_string()))
}

fn descriptor(media_type: &str, content: &Bytes) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest_of(content).to_string(),
        size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

fn bytes(session: &Session, value: &impl Serialize) -> Result<Bytes, RegistryError> {
    let json = serde_json::to_vec(value);
    json.map(Bytes::from).map_err(|error| RegistryError::Artifact {
        reference: session.reference().clone(),
        reason: format!("its signature cannot be written: {error}"),
    })
}

fn wrong(session: &Session, digest: Digest, reason: String) -> RegistryError {
    RegistryError::Untrusted { reference: session.reference().pinned(digest), reason }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const DIGEST: &str = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";

    /// What cosign itself has signed: a payload, the signature and the key of sigstore's own tests.
    #[test]
    fn cosign_s_signatures_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cosign.pub");
        std::fs::write(&file, COSIGN_KEY).unwrap();
        let key = PublicKey::read(&file, "cosign.pub").unwrap();
        let signed =
            Signed { payload: Bytes::from_static(COSIGN_PAYLOAD), signature: COSIGN_SIGNATURE.to_owned() };
        assert!(signed.is_by(&key, DIGEST.parse().unwrap()));
        let other = DIGEST.replace("f3cf", "f3ce").parse().unwrap();
        assert!(!signed.is_by(&key, other), "a good signature of another artifact");
    }

    #[test]
    fn only_texts_of_the_kind_vouch() {
        let digest = DIGEST.parse().unwrap();
        let text = String::from_utf8(COSIGN_PAYLOAD.to_vec()).unwrap();
        assert!(vouches_for(text.as_bytes(), digest));
        for text in
            [text.replace(KIND, "atomic container signature"), text.replace("critical", "c"), String::new()]
        {
            assert!(!vouches_for(text.as_bytes(), digest), "{text}");
        }
        let key = SigningKey::generate(Path::new("k")).unwrap();
        let signed = Signed {
            payload: Bytes::from_static(COSIGN_PAYLOAD),
            signature: key.sign(COSIGN_PAYLOAD).unwrap(),
        };
        assert!(signed.is_by(&key.public("k").unwrap(), digest));
    }

    const COSIGN_PAYLOAD: &[u8] = br#"{"critical":{"identity":{"docker-reference":"registry-testing.svc.lan/busybox"},"image":{"docker-manifest-digest":"sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b"},"type":"cosign container image signature"},"optional":null}"#;
    const COSIGN_SIGNATURE: &str =
        "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";
    const COSIGN_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu
OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==
-----END PUBLIC KEY-----
";
}
