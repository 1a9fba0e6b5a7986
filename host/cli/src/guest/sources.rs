//! The files that a plugin in Python or JavaScript is made of.
//!
//! Contract: all of its folder, but what is hidden, what the package holds besides the plugin (graphs, labels, cases), what
//! was built of it, and environments. Each file's content counts, so that equal sources have equal digests wherever they
//! lie. Cost: one pass over the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::{Failure, Hint};
use crate::manifest::{self, Manifest};

/// More files than a plugin has; a folder with more is something else.
const MOST: usize = 20_000;

/// Folders that hold nothing of a plugin's source.
const OTHER_FOLDERS: [&str; 3] = ["__pycache__", "target", vespid_ingress::cases::FOLDER];

/// Where each file lies, by its path in the folder with `/` between the names.
pub(super) type Sources = BTreeMap<String, PathBuf>;

/// The sources in `folder`.
pub(super) fn collect(folder: &Path, manifest: &Manifest) -> Result<Sources, Failure> {
    let mut sources = Sources::new();
    walk(folder, "", manifest, &mut sources)?;
    Ok(sources)
}

fn walk(folder: &Path, prefix: &str, manifest: &Manifest, sources: &mut Sources) -> Result<(), Failure> {
    let unreadable = || format!("{} cannot be read", folder.display());
    for entry in fs::read_dir(folder).hint(unreadable(), "check its rights")? {
        let entry = entry.hint(unreadable(), "check its rights")?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Failure::new(format!("the name of {} is not UTF-8", entry.path().display()))
                .hint("give it another name"));
        };
        let path = entry.path();
        let relative = format!("{prefix}{name}");
        if name.starts_with('.') || manifest.holds(&relative) {
            continue;
        }
        if path.is_dir() {
            let other = OTHER_FOLDERS.contains(&name.as_str()) || path.join("pyvenv.cfg").is_file();
            if !other {
                walk(&path, &format!("{relative}/"), manifest, sources)?;
            }
        } else if path.is_file() && is_source(&relative) {
            sources.insert(relative, path);
        }
        if sources.len() > MOST {
            return Err(Failure::new(format!("{} holds more than {MOST} files", folder.display()))
                .hint("keep only what the plugin is made of beside model.toml"));
        }
    }
    Ok(())
}

fn is_source(relative: &str) -> bool {
    let built = Path::new(relative)
        .extension()
        .is_some_and(|extension| ["wasm", "tar", "pyc"].iter().any(|other| extension == *other));
    !built && relative != manifest::FILE
}

/// What tells these sources from others.
pub(super) fn digest(sources: &Sources, mut digest: Sha256) -> Result<Sha256, Failure> {
    for (name, path) in sources {
        let content =
            fs::read(path).hint(format!("{} cannot be read", path.display()), "check its rights")?;
        entry(&mut digest, name, &content);
    }
    Ok(digest)
}

/// Adds a file to a digest, so that no two lists of files give the same one.
pub(super) fn entry(digest: &mut Sha256, name: &str, content: &[u8]) {
    digest.update((name.len() as u64).to_le_bytes());
    digest.update(name);
    digest.update((content.len() as u64).to_le_bytes());
    digest.update(content);
}

/// Copies the sources into another folder, where nobody changes them; returns where they lie there.
pub(super) fn stage(sources: &Sources, into: &Path) -> Result<Sources, Failure> {
    let put = |(name, path): (&String, &PathBuf)| {
        let place = into.join(name);
        let copied = fs::create_dir_all(place.parent().unwrap_or(into)).and_then(|()| fs::copy(path, &place));
        copied.hint(
            format!("{} cannot be copied", path.display()),
            "check its rights, and the space in TMPDIR",
        )?;
        Ok((name.clone(), place))
    };
    sources.iter().map(put).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "[model]\nname = 'm'\nversion = '1'\nplugin = 'm.wasm'\n[[graph]]\nname = 'g'\nfile = \
                         'graphs/g.onnx'\nencoding = 'onnx'\n[labels]\ny = 'labels.txt'\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "model.toml",
            "plugin.py",
            "words.txt",
            "labels.txt",
            "m.wasm",
            "m-1.tar",
            ".git/config",
            "graphs/g.onnx",
            "graphs/notes.py",
            "cases/one.json",
            "__pycache__/plugin.pyc",
            "venv/pyvenv.cfg",
            "venv/lib.py",
            "package/__init__.py",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn digest_of(sources: &Sources) -> String {
        hex::encode(digest(sources, Sha256::new()).unwrap().finalize())
    }

    #[test]
    fn what_is_no_source_is_left_out() {
        let folder = folder();
        let sources = collect(folder.path(), &Manifest::parse(MODEL).unwrap()).unwrap();
        let names: Vec<&str> = sources.keys().map(String::as_str).collect();
        assert_eq!(names, ["graphs/notes.py", "package/__init__.py", "plugin.py", "words.txt"]);
    }

    #[test]
    fn equal_sources_have_equal_digests() {
        let (one, two) = (folder(), folder());
        let manifest = Manifest::parse(MODEL).unwrap();
        let [first, second] = [&one, &two].map(|folder| collect(folder.path(), &manifest).unwrap());
        assert_eq!(digest_of(&first), digest_of(&second));
        fs::write(two.path().join("words.txt"), "others").unwrap();
        assert_ne!(digest_of(&first), digest_of(&second));
        let staged = tempfile::tempdir().unwrap();
        stage(&second, staged.path()).unwrap();
        assert_eq!(fs::read(staged.path().join("words.txt")).unwrap(), b"others");
    }
}
