//! Who asks a registry: what `docker login` has kept.
//!
//! Contract: the configuration is Docker's, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, with what it says of
//! helpers. Where there is none, or it does not know the registry, the registry is asked anonymously; where it knows the
//! registry and does not give the credentials, that is an error. Cost: a helper is a process; callers move this off the
//! async threads. Left out: identity tokens, which the client cannot exchange.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use super::error::RegistryError;

/// Docker's own name for the registry that it takes where none is named.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

pub(super) fn find(host: &str) -> Result<RegistryAuth, RegistryError> {
    let Some(file) = config_file() else { return Ok(RegistryAuth::Anonymous) };
    read(host, &file)
}

fn config_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")))?;
    Some(folder.join("config.json"))
}

fn read(host: &str, file: &Path) -> Result<RegistryAuth, RegistryError> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(RegistryAuth::Anonymous),
        opened => opened.map_err(RegistryError::io("read", file))?,
    };
    let refused =
        |reason: String| RegistryError::Credentials { host: host.to_owned(), file: file.to_owned(), reason };
    let server = if matches!(host, "docker.io" | "index.docker.io") { DOCKER_HUB } else { host };
    match docker_credential::get_credential_from_reader(BufReader::new(opened), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(_)) => Err(refused(
            "it holds an identity token, which is not supported: log in with a user and a password or an access token"
                .to_owned(),
        )),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        // A helper's way of saying that it does not know the registry.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.trim() == "credentials not found in native keychain" =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(CredentialRetrievalError::ConfigReadError) => Err(refused("it is not valid JSON".to_owned())),
        Err(error) => Err(refused(error.to_string().trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(config: &str, host: &str) -> Result<RegistryAuth, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, config).unwrap();
        read(host, &file).map_err(|error| error.to_string())
    }

    #[test]
    fn what_docker_login_keeps_is_found() {
        let config = r#"{"auths": {"r.example:5000": {"auth": "dXNlcjpwYXNz"}, "token.example": {"identitytoken": "t"}},
                         "credHelpers": {"helped.example": "no-such-helper"}}"#;
        let basic = RegistryAuth::Basic("user".to_owned(), "pass".to_owned());
        assert_eq!(ask(config, "r.example:5000"), Ok(basic));
        assert_eq!(ask(config, "r.example"), Ok(RegistryAuth::Anonymous));
        assert_eq!(read("r.example", Path::new("/nowhere/config.json")).unwrap(), RegistryAuth::Anonymous);
        for (config, host, expected) in [
            (config, "token.example", "identity token, which is not supported"),
            (config, "helped.example", "Unable to communicate with credential helper"),
            ("{", "r.example", "not valid JSON"),
            (r#"{"auths": {"r.example": {"auth": "!"}}}"#, "r.example", "Unable to decode credential"),
        ] {
            let error = ask(config, host).unwrap_err();
            assert!(error.contains(expected) && error.contains("config.json"), "{error}");
        }
    }
}
