//! Keys that artifacts are signed with, in the files that cosign reads and writes.
//!
//! Contract: a private key is cosign's (PEM, encrypted with a password) or PKCS8 without encryption; ECDSA on P-256, which
//! `cosign generate-key-pair` makes and [`SigningKey::generate`] too, Ed25519 or RSA. Left out: other curves, for which
//! cosign and the library here take different hash functions; certificates, and keys that a service keeps.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytesize::ByteSize;
use sigstore::crypto::signing_key::{SigStoreKeyPair, SigStoreSigner};
use sigstore::crypto::{CosignVerificationKey, Signature, SigningScheme};

use super::error::RegistryError;

const SUPPORTED: &str = "ECDSA keys on the curve P-256, Ed25519 keys and RSA keys are supported";

/// More than any key takes.
const MAX_KEY: u64 = 64 << 10;

/// A private key.
pub struct SigningKey {
    signer: SigStoreSigner,
}

/// A public key, and what it is called in messages.
#[derive(Clone)]
pub struct PublicKey {
    name: String,
    key: CosignVerificationKey,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn generate(file: &Path) -> Result<Self, RegistryError> {
        let signer = SigningScheme::ECDSA_P256_SHA256_ASN1.create_signer();
        Ok(Self { signer: signer.map_err(|error| wrong(file, error.to_string()))? })
    }

    /// Reads a private key; one that is encrypted takes a password.
    ///
    /// # Errors
    /// What is wrong with the file, or that the password is.
    pub fn read(file: &Path, password: &str) -> Result<Self, RegistryError> {
        let pem = read(file)?;
        let encrypted = pem.contains("-----BEGIN ENCRYPTED ");
        let pair = if encrypted {
            SigStoreKeyPair::from_encrypted_pem(pem.as_bytes(), password.as_bytes()).map_err(|_| {
                wrong(file, "it cannot be decrypted: COSIGN_PASSWORD is wrong, or this is no key of cosign's")
            })?
        } else {
            SigStoreKeyPair::from_pem(pem.as_bytes())
                .map_err(|_| wrong(file, "it is no private key: use cosign's, or PKCS8 in PEM"))?
        };
        let schemes = [
            SigningScheme::ECDSA_P256_SHA256_ASN1,
            SigningScheme::ED25519,
            // What cosign takes; the size is the key's own.
            SigningScheme::RSA_PKCS1_SHA256(0),
        ];
        let signer = schemes.iter().find_map(|scheme| pair.to_sigstore_signer(scheme).ok());
        Ok(Self { signer: signer.ok_or_else(|| wrong(file, SUPPORTED))? })
    }

    /// Writes the private key, encrypted with the password, to `PREFIX.key`, which its owner alone may read, and the public
    /// one to `PREFIX.pub`. Files that are there are not touched.
    ///
    /// # Errors
    /// Where one of the files is there, or cannot be written.
    pub fn write(&self, prefix: &Path, password: &str) -> Result<[PathBuf; 2], RegistryError> {
        let [private, public] = [".key", ".pub"].map(|extension| {
            let mut name = prefix.as_os_str().to_owned();
            name.push(extension);
            PathBuf::from(name)
        });
        let failed = |error: sigstore::errors::SigstoreError| wrong(prefix, error.to_string());
        let pair = self.signer.to_sigstore_keypair().map_err(failed)?;
        let public_pem = pair.public_key_to_pem().map_err(failed)?;
        let private_pem = pair.private_key_to_encrypted_pem(password.as_bytes()).map_err(failed)?;
        create(&private, 0o600, private_pem.as_bytes())?;
        create(&public, 0o644, public_pem.as_bytes()).inspect_err(|_| {
            // One half is of no use; that the other cannot be made is what the caller is told.
            let _ = fs::remove_file(&private);
        })?;
        Ok([private, public])
    }

    /// The public half, called `name`.
    ///
    /// # Errors
    /// Where the library cannot derive it.
    pub fn public(&self, name: &str) -> Result<PublicKey, RegistryError> {
        let key = self.signer.to_verification_key();
        Ok(PublicKey {
            name: name.to_owned(),
            key: key.map_err(|error| wrong(Path::new(name), error.to_string()))?,
        })
    }

    /// The signature of these bytes, in base64.
    pub(super) fn sign(&self, message: &[u8]) -> Result<String, RegistryError> {
        let signature = self.signer.sign(message);
        let signature = signature.map_err(|error| wrong(Path::new("--sign"), error.to_string()))?;
        Ok(STANDARD.encode(signature))
    }
}

impl PublicKey {
    /// Reads a public key in PEM; `name` is what it is called in messages.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(file: &Path, name: &str) -> Result<Self, RegistryError> {
        let pem = read(file)?;
        if !pem.contains("-----BEGIN PUBLIC KEY-----") {
            return Err(wrong(file, "it is no public key in PEM: use the file that ends in .pub"));
        }
        let key = CosignVerificationKey::try_from_pem(pem.as_bytes())
            .map_err(|error| wrong(file, error.to_string()))?;
        match key {
            CosignVerificationKey::ECDSA_P384_SHA384_ASN1(_)
            | CosignVerificationKey::ECDSA_P521_SHA512_ASN1(_) => Err(wrong(file, SUPPORTED)),
            key => Ok(Self { name: name.to_owned(), key }),
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this signature, in base64, is this key's of these bytes.
    pub(super) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        self.key.verify_signature(Signature::Base64Encoded(signature.as_bytes()), message).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.name).finish()
    }
}

fn wrong(file: &Path, reason: impl Into<String>) -> RegistryError {
    RegistryError::Key { file: file.to_owned(), reason: reason.into() }
}

fn read(file: &Path) -> Result<String, RegistryError> {
    let metadata = fs::metadata(file).map_err(|error| wrong(file, error.to_string()))?;
    if metadata.len() > MAX_KEY {
        return Err(wrong(file, format!("it is larger than {}: no key is", ByteSize(MAX_KEY))));
    }
    fs::read_to_string(file).map_err(|error| wrong(file, error.to_string()))
}

fn create(file: &Path, mode: u32, content: &[u8]) -> Result<(), RegistryError> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut opened = options.open(file).map_err(|error| wrong(file, error.to_string()))?;
    opened.write_all(content).and_then(|()| opened.sync_all()).map_err(|error| wrong(file, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_and_read_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("team");
        let [private, public] = SigningKey::generate(&prefix).unwrap().write(&prefix, "secret").unwrap();
        let signing = SigningKey::read(&private, "secret").unwrap();
        let public = PublicKey::read(&public, "team.pub").unwrap();
        let signature = signing.sign(b"message").unwrap();
        assert!(public.has_signed(b"message", &signature));
        assert!(!public.has_signed(b"massage", &signature));
        assert!(!public.has_signed(b"message", "bm8="));
        assert!(!public.has_signed(b"message", "no base64"));
        let other = SigningKey::generate(&prefix).unwrap();
        assert!(!other.public("other").unwrap().has_signed(b"message", &signature));

        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let error = SigningKey::read(&private, "wrong").unwrap_err().to_string();
        assert!(error.contains("COSIGN_PASSWORD is wrong"), "{error}");
        let error = other.write(&prefix, "").unwrap_err().to_string();
        assert!(error.contains("exists"), "{error}");
        let error = PublicKey::read(&private, "k").unwrap_err().to_string();
        assert!(error.contains("ends in .pub"), "{error}");
    }

    #[test]
    fn keys_without_encryption_are_read_and_other_curves_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k.pem");
        let key = SigningKey::generate(&file).unwrap();
        fs::write(&file, key.signer.to_sigstore_keypair().unwrap().private_key_to_pem().unwrap().as_str())
            .unwrap();
        let read = SigningKey::read(&file, "").unwrap();
        assert!(key.public("k").unwrap().has_signed(b"m", &read.sign(b"m").unwrap()));
        fs::write(&file, P384_PUBLIC).unwrap();
        let error = PublicKey::read(&file, "k.pub").unwrap_err().to_string();
        assert!(error.contains("P-256, Ed25519 keys and RSA keys are supported"), "{error}");
        fs::write(&file, "no key").unwrap();
        let error = SigningKey::read(&file, "").unwrap_err().to_string();
        assert!(error.contains("no private key"), "{error}");
    }

    const P384_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEdKFtnb/9XdyQlCmo+oHmF4GGc7BxRX1f
Ko0tDNkXq3ve2g+q3Fy9DwYUYB5XaQz+9JT6sj7EZ3gBDyV6jVAt7xV0g+TQUtKS
Tv4xyrv1xPC+rfA01OjQuVw6i8koWNuI
-----END PUBLIC KEY-----
";
}
