//! Where a server's jobs may read and write.
//!
//! Contract: a path or URL is below an allowed one by whole segments, and has no `..`. Left out on purpose: symbolic links, which who may put
//! them below an allowed folder is trusted with.

use std::path::{Component, Path, PathBuf};

use vespid_package::{PackageError, StoreLocation};
use vespid_types::{Error, ErrorCode};

/// Folders and places in buckets. None is allowed where there is none.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<StoreLocation>);

impl FromIterator<StoreLocation> for Roots {
    fn from_iter<I: IntoIterator<Item = StoreLocation>>(roots: I) -> Self {
        Self(roots.into_iter().collect())
    }
}

impl Roots {
    /// Sees that `url` is below one of them.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` with the field; also where it is no place at all.
    pub(super) fn allow(&self, field: &str, url: &str) -> Result<(), Error> {
        let denied = |message: String| Error::new(ErrorCode::PermissionDenied, format!("{field}: {message}"));
        let location: StoreLocation = url.parse().map_err(|error: PackageError| denied(error.to_string()))?;
        if self.0.iter().any(|root| is_below(&location, root)) {
            return Ok(());
        }
        Err(denied(format!(
            "jobs may not use '{}': the server's --batch-root says where they may read and write",
            url.chars().take(255).collect::<String>()
        )))
    }
}

fn is_below(location: &StoreLocation, root: &StoreLocation) -> bool {
    match (location, root) {
        (StoreLocation::Folder(path), StoreLocation::Folder(root)) => {
            match (absolute(path), absolute(root)) {
                (Some(path), Some(root)) => path.starts_with(root),
                _ => false,
            }
        }
        (StoreLocation::Bucket(url), StoreLocation::Bucket(root)) => {
            let same = url.scheme() == root.scheme() && url.host_str() == root.host_str();
            let segments = |url: &url::Url| -> Vec<String> {
                let segments = url.path().split('/').filter(|segment| !segment.is_empty());
                segments.map(str::to_owned).collect()
            };
            same && segments(url).starts_with(&segments(root))
        }
        _ => false,
    }
}

fn absolute(path: &Path) -> Option<PathBuf> {
    let climbs = path.components().any(|component| component == Component::ParentDir);
    if climbs { None } else { std::path::absolute(path).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_is_allowed_and_nothing_else() {
        let roots: Roots =
            ["/data", "s3://bucket/in"].map(|root| root.parse().unwrap()).into_iter().collect();
        for url in
            ["/data", "/data/a/*.csv", "file:///data/a", "s3://bucket/in", "s3://bucket/in/a/*.parquet"]
        {
            assert!(roots.allow("input.url", url).is_ok(), "{url}");
        }
        for url in
            ["/database", "/data/../etc", "data", "s3://bucket/inner", "s3://other/in", "gs://bucket/in", "/"]
        {
            let error = roots.allow("input.url", url).unwrap_err();
            assert_eq!(error.code(), ErrorCode::PermissionDenied, "{url}");
        }
        assert_eq!(roots.allow("output.url", "http://x").unwrap_err().code(), ErrorCode::PermissionDenied);
        assert!(Roots::default().allow("input.url", "/data").is_err());
    }
}
