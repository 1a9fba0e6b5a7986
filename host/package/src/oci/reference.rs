//! What a user writes for an artifact in a registry: `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
//!
//! Contract: nothing is filled in. The host is always there, and a reference with neither tag nor digest stays one: who
//! pulls refuses it, who pushes chooses a tag.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;
use vespid_types::{Digest, InvalidDigest};

/// How references begin.
pub const SCHEME: &str = "oci://";

/// A place in a registry, and perhaps which of the artifacts there. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Reference(Arc<Parts>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Parts {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a reference to a registry: {reason}")]
pub struct InvalidReference {
    text: String,
    reason: Wrong,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error("write it as {SCHEME}HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]")]
    Form,
    #[error("'{0}' is no host with a port or without one")]
    Host(String),
    #[error("it names no repository after the host")]
    NoRepository,
    #[error(
        "'{0}' is no repository: use small letters and digits, with '.', '_' or '-' between them and '/' between parts"
    )]
    Repository(String),
    #[error(
        "'{0}' is no tag: use at most 128 letters, digits, '.', '_' and '-', of which the first is no '.' or '-'"
    )]
    Tag(String),
    #[error(transparent)]
    Digest(InvalidDigest),
}

impl Reference {
    /// The host, with its port where it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The repository in that registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.0.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    /// The digest that the artifact must have.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest
    }

    /// Where the artifact is, without which one: `HOST/REPOSITORY`. What the patterns of policies are about.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.0.host, self.0.repository)
    }

    /// The artifact with this digest at the same place, under the same tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self(Arc::new(Parts { digest: Some(digest), ..Parts::clone(&self.0) }))
    }

    /// The same place with this tag, if it is one.
    ///
    /// # Errors
    /// [`InvalidReference`], which says what a tag may hold.
    pub fn tagged(&self, tag: &str) -> Result<Self, InvalidReference> {
        check_tag(tag).map_err(|reason| InvalidReference { text: format!("{self}:{tag}"), reason })?;
        Ok(Self(Arc::new(Parts { tag: Some(tag.to_owned()), ..Parts::clone(&self.0) })))
    }

    /// Whether the registry is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| InvalidReference { text: text.chars().take(512).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Reference, Wrong> {
    let rest = text.strip_prefix(SCHEME).ok_or(Wrong::Form)?;
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().map_err(Wrong::Digest)?)),
        None => (rest, None),
    };
    let (host, path) = rest.split_once('/').ok_or(Wrong::NoRepository)?;
    check_host(host)?;
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    check_repository(repository)?;
    tag.map_or(Ok(()), check_tag)?;
    let [host, repository] = [host, repository].map(str::to_owned);
    Ok(Reference(Arc::new(Parts { host, repository, tag: tag.map(str::to_owned), digest })))
}

fn check_host(host: &str) -> Result<(), Wrong> {
    let wrong = || Wrong::Host(host.to_owned());
    let url = Url::parse(&format!("https://{host}/")).map_err(|_| wrong())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    let ended = url.query().is_none() && url.fragment().is_none();
    // Other spellings of one host would be other hosts to a policy; a port of 443 is left out of the URL.
    let same = url.host_str().is_some_and(|name| {
        host == name || host.strip_prefix(name).is_some_and(|rest| rest.starts_with(':') && rest.len() > 1)
    });
    if bare && ended && same { Ok(()) } else { Err(wrong()) }
}

fn check_repository(repository: &str) -> Result<(), Wrong> {
    if repository.is_empty() {
        return Err(Wrong::NoRepository);
    }
    let wrong = || Wrong::Repository(repository.to_owned());
    if repository.len() > 255 || !repository.split('/').all(is_part) {
        return Err(wrong());
    }
    Ok(())
}

/// Runs of letters and digits, with one of the separators that OCI allows between them.
fn is_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| {
        matches!(text, "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|byte| byte == b'-'))
    };
    let separators = part.split(plain).filter(|text| !text.is_empty());
    part.starts_with(plain) && part.ends_with(plain) && separators.into_iter().all(separator)
}

fn check_tag(tag: &str) -> Result<(), Wrong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = (1..=128).contains(&tag.len()) && tag.chars().all(allowed) && !tag.starts_with(['.', '-']);
    if good { Ok(()) } else { Err(Wrong::Tag(tag.to_owned())) }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { host, repository, tag, digest } = &*self.0;
        write!(f, "{SCHEME}{host}/{repository}")?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_written() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, host, repository, tag, pinned) in [
            ("oci://registry.example/models/iris:1", "registry.example", "models/iris", Some("1"), false),
            ("oci://localhost:5000/iris", "localhost:5000", "iris", None, false),
            ("oci://[::1]:5000/a__b/c--d.e:v1.0-rc_1", "[::1]:5000", "a__b/c--d.e", Some("v1.0-rc_1"), false),
            (&format!("oci://r.example/m@{digest}"), "r.example", "m", None, true),
            (&format!("oci://r.example:443/m:2@{digest}"), "r.example:443", "m", Some("2"), true),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.host(), reference.repository()), (host, repository));
            assert_eq!((reference.tag(), reference.digest().is_some()), (tag, pinned));
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, expected) in [
            ("registry.example/iris", "write it as oci://"),
            ("https://registry.example/iris", "write it as oci://"),
            ("oci://registry.example", "names no repository"),
            ("oci://registry.example/", "names no repository"),
            ("oci:///iris", "'' is no host"),
            ("oci://user@host/iris", "'host/iris' is not a digest"),
            ("oci://EXAMPLE.com/iris", "'EXAMPLE.com' is no host"),
            ("oci://host:/iris", "'host:' is no host"),
            ("oci://host:99999/iris", "is no host"),
            ("oci://host?x/iris", "is no host"),
            ("oci://host/Iris", "'Iris' is no repository"),
            ("oci://host/../iris", "is no repository"),
            ("oci://host/a//b", "is no repository"),
            ("oci://host/a.-b", "is no repository"),
            ("oci://host/iris:", "'' is no tag"),
            ("oci://host/iris:a/b", "'a/b' is no tag"),
            ("oci://host/iris@sha256:12", "'sha256:12' is not a digest"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn registries_of_this_machine_are_known() {
        let loopback = |text: &str| text.parse::<Reference>().unwrap().is_loopback();
        for here in ["oci://localhost/a", "oci://localhost:5000/a", "oci://127.0.0.1:5000/a", "oci://[::1]/a"]
        {
            assert!(loopback(here), "{here}");
        }
        for elsewhere in ["oci://localhost.example/a", "oci://10.0.0.1:5000/a", "oci://[fd00::1]:5000/a"] {
            assert!(!loopback(elsewhere), "{elsewhere}");
        }
    }
}
