//! Where a store is: a folder, or a bucket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use crate::PackageError;

/// A folder, or a place in a bucket: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, and what the names in it begin with.
    Bucket(Url),
}

/// What is asked of a bucket is asked again this many times, where nothing came or the bucket said that it was its fault.
const RETRIES: usize = 5;

/// How long it is asked, and how long it may say nothing. A request as a whole may take longer, for it may be a large file.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const READ_TIMEOUT: &str = "30s";
const REQUEST_TIMEOUT: &str = "1h";

impl StoreLocation {
    /// The bucket with what its names begin with taken away, with the keys that the environment has for it.
    pub(super) fn open(url: &Url) -> Result<Arc<dyn ObjectStore>, PackageError> {
        let (bucket, prefix) = Self::bucket(url)?;
        if prefix.as_ref().is_empty() { Ok(bucket) } else { Ok(Arc::new(PrefixStore::new(bucket, prefix))) }
    }

    /// The bucket of a URL, with the keys that the environment has for it, and the path in it.
    ///
    /// # Errors
    /// [`PackageError::Location`], or what the client says of the environment's settings.
    pub fn bucket(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), PackageError> {
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..Default::default() };
        // The client's settings come first, so that the environment may say otherwise.
        macro_rules! bucket {
            ($builder:ty, $prefix:literal) => {{
                let settings = [
                    (ClientConfigKey::Timeout, REQUEST_TIMEOUT),
                    (ClientConfigKey::ReadTimeout, READ_TIMEOUT),
                ];
                let settings = settings.map(|(key, value)| (key.as_ref().to_owned(), value.to_owned()));
                let builder = settings
                    .into_iter()
                    .chain(environment($prefix))
                    .filter_map(|(key, value)| Some((key.parse().ok()?, value)))
                    .fold(<$builder>::new(), |builder, (key, value)| builder.with_config(key, value))
                    .with_url(url.as_str())
                    .with_retry(retry);
                builder.build().map(|bucket| Arc::new(bucket) as Arc<dyn ObjectStore>)
            }};
        }
        let bucket = match url.scheme() {
            "s3" => bucket!(AmazonS3Builder, "AWS_"),
            "gs" => bucket!(GoogleCloudStorageBuilder, "GOOGLE_"),
            _ => bucket!(MicrosoftAzureBuilder, "AZURE_"),
        };
        let bucket = bucket.map_err(PackageError::objects("use", url.as_str()))?;
        let prefix =
            Path::from_url_path(url.path()).map_err(|error| wrong(url.as_str(), &error.to_string()))?;
        Ok((bucket, prefix))
    }
}

fn environment(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(move |(key, value)| {
        let (key, value) = (key.to_str()?.to_owned(), value.to_str()?.to_owned());
        key.starts_with(prefix).then(|| (key.to_ascii_lowercase(), value))
    })
}

fn wrong(location: &str, reason: &str) -> PackageError {
    PackageError::Location { location: location.chars().take(255).collect(), reason: reason.to_owned() }
}

impl FromStr for StoreLocation {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(wrong(text, "it is empty"));
        }
        if !text.contains("://") {
            return Ok(Self::Folder(text.into()));
        }
        let url = Url::parse(text).map_err(|error| wrong(text, &error.to_string()))?;
        match url.scheme() {
            "file" => {
                let folder = url.to_file_path().map_err(|()| wrong(text, "it names another machine's file"));
                folder.map(Self::Folder)
            }
            "s3" | "gs" | "az" if url.host_str().is_none_or(str::is_empty) => {
                Err(wrong(text, "after :// comes the name of a bucket"))
            }
            "s3" | "gs" | "az" => {
                let more = [url.query(), url.fragment(), url.password()].iter().any(Option::is_some);
                if more || !url.username().is_empty() || url.port().is_some() {
                    let reason = "a bucket and a path are all that it may have; keys and endpoints are taken from \
                                  the environment";
                    return Err(wrong(text, reason));
                }
                Ok(Self::Bucket(url))
            }
            _ => Err(wrong(text, "use a folder, file://, s3://, gs:// or az://")),
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_told_apart() {
        for (text, expected) in [
            ("store", "store"),
            ("/var/lib/vespid", "/var/lib/vespid"),
            ("file:///var/lib/vespid", "/var/lib/vespid"),
            ("s3://models", "s3://models"),
            ("gs://models/team/a", "gs://models/team/a"),
            ("az://models/", "az://models/"),
        ] {
            let location: StoreLocation = text.parse().unwrap();
            assert_eq!(location.to_string(), expected);
            assert_eq!(
                matches!(location, StoreLocation::Bucket(_)),
                text.contains("s://") || text.contains('3') || text.starts_with("az")
            );
        }
        for (text, expected) in [
            ("", "it is empty"),
            ("http://127.0.0.1/models", "use a folder, file://, s3://, gs:// or az://"),
            ("s3:///models", "the name of a bucket"),
            ("s3://key:secret@models", "taken from the environment"),
            ("s3://models:9000/a", "taken from the environment"),
            ("s3://models?region=eu", "taken from the environment"),
            ("file://host/path", "another machine's"),
        ] {
            let error = text.parse::<StoreLocation>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
