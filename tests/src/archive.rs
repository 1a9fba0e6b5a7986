//! Tar archives, as `vespid build` makes them and as it never would.

use std::fs;
use std::path::Path;

pub use tar::EntryType;

use crate::built;

/// A package that is put together entry by entry.
#[derive(Clone, Default)]
pub struct Archive {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    name: String,
    kind: EntryType,
    data: Vec<u8>,
}

impl Archive {
    /// The entries of the package that was built from the folder `model`.
    #[must_use]
    pub fn built(model: &str) -> Self {
        Self::read(&built::package(model))
    }

    /// The entries of an archive in a file.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let read = |entry: Result<tar::Entry<'_, &[u8]>, _>| {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
            Entry { name: entry.path().unwrap().display().to_string(), kind: EntryType::Regular, data }
        };
        Self { entries: archive.entries().unwrap().map(read).collect() }
    }

    /// With one more file, or with other content in one that it has.
    #[must_use]
    pub fn file(mut self, name: &str, data: impl Into<Vec<u8>>) -> Self {
        match self.entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => {
                entry.data = data.into();
                self
            }
            None => self.entry(name, EntryType::Regular, data),
        }
    }

    /// With one more entry of any kind. A link leads to its data.
    #[must_use]
    pub fn entry(mut self, name: &str, kind: EntryType, data: impl Into<Vec<u8>>) -> Self {
        self.entries.push(Entry { name: name.to_owned(), kind, data: data.into() });
        self
    }

    /// With the entries of another one after its own.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// Without the file of that name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.entries.retain(|entry| entry.name != name);
        self
    }

    /// With another text in place of one in `model.toml`.
    #[must_use]
    pub fn manifest(self, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.data("model.toml").to_vec()).unwrap();
        assert!(text.contains(from), "'{from}' is not in\n{text}");
        self.file("model.toml", text.replace(from, to))
    }

    /// As another version.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.manifest("version = \"1\"", &format!("version = \"{version}\""))
    }

    /// What a file holds.
    #[must_use]
    pub fn data(&self, name: &str) -> &[u8] {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        &entry.unwrap_or_else(|| panic!("the package holds no {name}")).data
    }

    /// The archive's bytes. Names go in as they are, for the usual way refuses what is tested here.
    #[must_use]
    pub fn to_tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for Entry { name, kind, data } in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            let linked = matches!(kind, EntryType::Link | EntryType::Symlink);
            if linked {
                header.set_link_name(std::str::from_utf8(data).unwrap()).unwrap();
            }
            let data = if linked { &[] } else { data.as_slice() };
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }
}
