//! Where files lie: a path in a store.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::DataError;

/// A file or folder in a store.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The path in it.
    pub path: Path,
    /// The URL or local path, as the user would write it.
    pub shown: Arc<str>,
    /// The folder or file, where the store is the local file system.
    pub local: Option<PathBuf>,
}

impl Place {
    /// A file or folder of this machine.
    ///
    /// # Errors
    /// [`DataError::Setting`] where no path can be made of it.
    pub fn local(path: impl AsRef<std::path::Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let wrong = |reason: String| DataError::Setting {
            field: "url",
            reason: format!("{}: {reason}", path.display()),
        };
        let absolute = std::path::absolute(path).map_err(|error| wrong(error.to_string()))?;
        // A name that climbs would name another place in the store than on disk.
        let absolute = normal(&absolute);
        let in_store = Path::from_absolute_path(&absolute).map_err(|error| wrong(error.to_string()))?;
        let shown = path.display().to_string().into();
        Ok(Self { store: Arc::new(LocalFileSystem::new()), path: in_store, shown, local: Some(absolute) })
    }

    /// A file or folder below this one; `name` may have slashes.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let path = name.split('/').fold(self.path.clone(), Path::join);
        let shown = format!("{}/{name}", self.shown.trim_end_matches('/')).into();
        let local = self.local.as_ref().map(|folder| folder.join(name));
        Self { store: Arc::clone(&self.store), path, shown, local }
    }
}

/// Files to look for: a file, a folder (all that is below it), or a glob (`*`, `?`, `[...]`, and `**` for any folders).
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The store; its `path` is the longest folder before anything of a glob, or the file or folder itself.
    pub place: Place,
    /// The whole glob as a path in the store; none where it is none.
    pub glob: Option<glob::Pattern>,
    /// As the user wrote it.
    pub shown: Arc<str>,
}

impl Pattern {
    /// Files to look for at a place whose path may be a glob.
    ///
    /// # Errors
    /// [`DataError::Setting`] where a glob is not well formed.
    pub fn new(place: Place) -> Result<Self, DataError> {
        let shown = Arc::clone(&place.shown);
        let path = place.path.as_ref().to_owned();
        let Some(folders) = path.find(GLOB).map(|first| path.get(..first).unwrap_or_default()) else {
            return Ok(Self { place, glob: None, shown });
        };
        let wrong = |error: glob::PatternError| DataError::Setting {
            field: "input.url",
            reason: format!("{shown} is no glob: {error}"),
        };
        let glob = glob::Pattern::new(&path).map_err(wrong)?;
        let folder =
            |text: &str| text.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default();
        let first = shown.find(GLOB).unwrap_or(shown.len());
        let place = Place {
            store: Arc::clone(&place.store),
            path: Path::from(folder(folders)),
            shown: folder(shown.get(..first).unwrap_or_default()).into(),
            local: place.local.as_ref().map(|local| literal(local)),
        };
        Ok(Self { place, glob: Some(glob), shown })
    }
}

/// What makes a name a glob.
const GLOB: [char; 3] = ['*', '?', '['];

/// The folder before the first segment that is a glob.
fn literal(path: &std::path::Path) -> PathBuf {
    let is_literal = |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains(GLOB);
    path.components().take_while(is_literal).collect()
}

/// The path without `.` and `..`, as its text has it.
fn normal(path: &std::path::Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(normal.pop()),
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}
