//! Makes a component of a plugin's source: of Rust by cargo, of Python and JavaScript by a tool in the user's cache.
//!
//! Contract: a folder's files say what language it is in, and no setting does: `Cargo.toml` for Rust, `plugin.py` for
//! Python, `plugin.js` for JavaScript; a folder with none of them holds its `.wasm` ready-made.

mod cargo;
mod script;
mod sources;

use std::path::{Path, PathBuf};

use vespid_toolchain::Tool;

use crate::failure::Failure;
use crate::manifest::Manifest;

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
    JavaScript,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::JavaScript];

    /// The language of the plugin in a folder; none where the folder holds no source.
    pub(crate) fn of(folder: &Path) -> Result<Option<Self>, Failure> {
        let mut found = Self::ALL.into_iter().filter(|language| folder.join(language.file()).is_file());
        let first = found.next();
        match (first, found.next()) {
            (Some(first), Some(second)) => Err(Failure::new(format!(
                "{} holds both {} and {}",
                folder.display(),
                first.file(),
                second.file()
            ))
            .hint("a folder is one plugin in one language: move one of them to a folder of its own")),
            _ => Ok(first),
        }
    }

    /// The file that says it.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "plugin.py",
            Self::JavaScript => "plugin.js",
        }
    }
}

/// Builds the plugin in `folder` from its source, if it has any; the path of what came out.
pub(crate) fn build(folder: &Path, manifest: &Manifest) -> Result<Option<PathBuf>, Failure> {
    let tool = match Language::of(folder)? {
        None => return Ok(None),
        Some(Language::Rust) => return cargo::build(folder).map(Some),
        Some(Language::Python) => Tool::ComponentizePy,
        Some(Language::JavaScript) => Tool::ComponentizeQjs,
    };
    script::build(folder, manifest, tool).map(Some)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folders_files_say_its_language() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Language::of(folder.path()).unwrap(), None);
        fs::write(folder.path().join("plugin.js"), "").unwrap();
        assert_eq!(Language::of(folder.path()).unwrap(), Some(Language::JavaScript));
        fs::write(folder.path().join("plugin.py"), "").unwrap();
        let error = Language::of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("plugin.py and plugin.js"), "{error}");
    }
}
