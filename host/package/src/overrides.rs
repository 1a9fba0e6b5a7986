//! What a load may say in place of `model.toml`.
//!
//! Contract: what is not set stays as the manifest has it; what is set and does not suit the package is an error that
//! names it; the manifest that comes out is checked like one that is read. Left out on purpose: how clients write it
//! (`ingress`), and limits, grants and `[instances]`, which are the package's and the operator's affair.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use vespid_types::{BackendName, Device, Version};

use crate::{GraphManifest, Manifest, PackageError, PackagePath, Sequences};

/// What is to be otherwise than in `model.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// What runs the graph of a package without plugin.
    pub backend: Option<BackendName>,
    /// Rows of a batch, 1 for none. A plugin decides for itself how it batches: of its graphs only the number is changed.
    pub max_rows: Option<u64>,
    /// How calls wait for a batch, of all graphs.
    pub waiting: Option<Waiting>,
    /// How many sessions graphs have, and where.
    pub groups: Vec<InstanceGroup>,
    /// Sequences, of a package with a plugin: whether it has been given any or not.
    pub sequences: Option<SequenceOverride>,
    /// Files of `[labels]`, by output, besides those that the manifest has.
    pub labels: BTreeMap<String, PackagePath>,
    /// Values of `[config]`, besides those that the manifest has.
    pub config: BTreeMap<String, String>,
    /// Which of the model's versions are served.
    pub versions: VersionPolicy,
}

/// The part of `batching` that is about waiting. It replaces the manifest's as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long the first call of a batch waits for others.
    pub max_delay: Duration,
    /// Rows for which a batch waits no longer.
    pub preferred_rows: Option<u64>,
    /// How many calls of each priority class may wait; the manifest's where it is not said.
    pub queue_limit: Option<usize>,
}

/// `[sequences]`: what is not said is as in the manifest, or as usual where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceOverride {
    /// How long a sequence may go without a request.
    pub idle_timeout: Option<Duration>,
    /// Sequences that may be open at once.
    pub max: Option<NonZero<usize>>,
}

/// Sessions of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceGroup {
    /// The graph; all of them where none is named.
    pub graph: Option<String>,
    /// How many sessions.
    pub instances: Option<NonZero<usize>>,
    /// Where they run.
    pub device: Option<Device>,
}

/// Which of the versions that there are shall be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionPolicy {
    /// Every one.
    #[default]
    All,
    /// So many, the greatest.
    Latest(NonZero<u32>),
    /// These.
    Specific(BTreeSet<Version>),
}

impl VersionPolicy {
    /// Those of `versions` that shall be served.
    ///
    /// # Errors
    /// [`PackageError::Override`] for a version that is wanted and not there.
    pub fn select(&self, versions: BTreeSet<Version>) -> Result<BTreeSet<Version>, PackageError> {
        if let Self::Specific(wanted) = self
            && let Some(missing) = wanted.difference(&versions).next()
        {
            return Err(wrong(format!("version_policy: the model has no version {missing}")));
        }
        Ok(self.among(versions))
    }

    /// Those of `versions` that shall be served; of those that are wanted the ones that are there.
    #[must_use]
    pub fn among(&self, versions: BTreeSet<Version>) -> BTreeSet<Version> {
        match self {
            Self::All => versions,
            Self::Latest(number) => versions.into_iter().rev().take(number.get() as usize).collect(),
            Self::Specific(wanted) => versions.intersection(wanted).copied().collect(),
        }
    }
}

impl Overrides {
    /// The manifest of the package in `dir` with what is to be otherwise.
    ///
    /// # Errors
    /// [`PackageError::Override`], which names what the package cannot be given.
    pub fn apply(&self, mut manifest: Manifest, dir: &Path) -> Result<Manifest, PackageError> {
        let native = manifest.plugin.is_none();
        if let Some(backend) = self.backend {
            if !native {
                return Err(wrong(format!(
                    "backend: '{backend}' runs graphs, and the package's plugin loads its own: leave it out"
                )));
            }
            manifest.graphs.iter_mut().for_each(|graph| graph.backend = Some(backend));
        }
        for graph in &mut manifest.graphs {
            self.apply_batching(graph, native);
        }
        for group in &self.groups {
            group.apply(&mut manifest.graphs)?;
        }
        if let Some(SequenceOverride { idle_timeout, max }) = self.sequences {
            let Sequences { idle_timeout: usual, max: many } = manifest.sequences.unwrap_or_default();
            manifest.sequences =
                Some(Sequences { idle_timeout: idle_timeout.unwrap_or(usual), max: max.unwrap_or(many) });
        }
        for (output, file) in &self.labels {
            if !dir.join(file).is_file() {
                let reason = format!("output '{output}': label_filename: the package does not hold '{file}'");
                return Err(wrong(reason));
            }
            manifest.labels.insert(output.clone(), file.clone());
        }
        manifest.config.extend(self.config.clone());
        manifest.check().map_err(|error| match error {
            PackageError::Manifest { reason } => wrong(reason),
            other => other,
        })?;
        Ok(manifest)
    }

    fn apply_batching(&self, graph: &mut GraphManifest, native: bool) {
        let batching = &mut graph.batching;
        match self.max_rows {
            Some(rows) if rows > 1 => batching.max_rows = Some(rows),
            Some(_) if native => {
                batching.max_rows = Some(1);
                (batching.max_delay, batching.preferred_rows) = (Duration::ZERO, None);
            }
            _ => {}
        }
        if let Some(Waiting { max_delay, preferred_rows, queue_limit }) = self.waiting {
            (batching.max_delay, batching.preferred_rows) = (max_delay, preferred_rows);
            batching.queue_limit = queue_limit.unwrap_or(batching.queue_limit);
        }
    }
}

impl InstanceGroup {
    fn apply(&self, graphs: &mut [GraphManifest]) -> Result<(), PackageError> {
        let mut found = false;
        for graph in &mut *graphs {
            if self.graph.as_ref().is_none_or(|name| *name == graph.name) {
                found = true;
                graph.instances = self.instances.unwrap_or(graph.instances);
                graph.device = self.device.unwrap_or(graph.device);
            }
        }
        if found {
            return Ok(());
        }
        let names: Vec<&str> = graphs.iter().map(|graph| graph.name.as_str()).collect();
        Err(wrong(match (&self.graph, &names[..]) {
            (_, []) => "instance_group: the package has no graph that could have instances".to_owned(),
            (name, names) => format!(
                "instance_group '{}': with several, each is of a graph, and the package's graphs are {}",
                name.as_deref().unwrap_or_default(),
                names.join(", ")
            ),
        }))
    }
}

fn wrong(reason: String) -> PackageError {
    PackageError::Override { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = "[model]\nname = 'm'\nversion = '1'\n[[graph]]\nname = 'g'\nfile = 'g.onnx'\n\
        encoding = 'onnx'\nbatching = { max_rows = 32, preferred_rows = 16, max_delay = '2ms' }\n\
        [config]\na = 1\nb = 2\n";
    const PLUGIN: &str = "[model]\nname = 'm'\nversion = '1'\nplugin = 'p.wasm'\n";

    fn apply(manifest: &str, overrides: &Overrides) -> Result<Manifest, String> {
        let manifest = Manifest::parse(manifest).unwrap();
        overrides.apply(manifest, Path::new("/nowhere")).map_err(|error| error.to_string())
    }

    fn versions(numbers: &[&str]) -> BTreeSet<Version> {
        numbers.iter().map(|number| number.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_set_replaces_and_the_rest_stays() {
        let unchanged = apply(NATIVE, &Overrides::default()).unwrap();
        assert_eq!(unchanged.graphs[0].batching.max_rows, Some(32));
        let overrides = Overrides {
            backend: Some(BackendName::Onnxruntime),
            max_rows: Some(8),
            waiting: Some(Waiting { max_delay: Duration::ZERO, preferred_rows: None, queue_limit: Some(3) }),
            groups: vec![InstanceGroup { graph: None, instances: NonZero::new(2), device: None }],
            config: BTreeMap::from([("b".to_owned(), "3".to_owned())]),
            ..Overrides::default()
        };
        let manifest = apply(NATIVE, &overrides).unwrap();
        let graph = &manifest.graphs[0];
        assert_eq!((graph.backend, graph.instances.get()), (Some(BackendName::Onnxruntime), 2));
        let batching = graph.batching;
        assert_eq!((batching.max_rows, batching.preferred_rows, batching.queue_limit), (Some(8), None, 3));
        assert_eq!((&*manifest.config["a"], &*manifest.config["b"]), ("1", "3"));
    }

    #[test]
    fn sequences_are_a_plugin_s() {
        let second = Duration::from_secs(1);
        let sequences = Some(SequenceOverride { idle_timeout: Some(second), max: None });
        let overrides = Overrides { sequences, ..Overrides::default() };
        let changed = apply(PLUGIN, &overrides).unwrap().sequences.unwrap();
        assert_eq!((changed.idle_timeout, changed.max), (second, Sequences::default().max));
        let changed =
            apply(&format!("{PLUGIN}[sequences]\nmax = 3\n"), &overrides).unwrap().sequences.unwrap();
        assert_eq!((changed.idle_timeout, changed.max.get()), (second, 3));
        assert!(
            apply(NATIVE, &overrides).unwrap_err().starts_with("config: [sequences] is about a plugin's")
        );
    }

    #[test]
    fn no_batches_means_no_waiting_for_them() {
        let overrides = Overrides { max_rows: Some(1), ..Overrides::default() };
        let batching = apply(NATIVE, &overrides).unwrap().graphs[0].batching;
        assert_eq!((batching.max_rows, batching.max_delay), (Some(1), Duration::ZERO));
    }

    #[test]
    fn what_does_not_suit_the_package_is_named() {
        let group = |graph: Option<&str>| Overrides {
            groups: vec![InstanceGroup { graph: graph.map(str::to_owned), ..InstanceGroup::default() }],
            ..Overrides::default()
        };
        let backend = Overrides { backend: Some(BackendName::Embedded), ..Overrides::default() };
        let rows = Overrides { max_rows: Some(1 << 30), ..Overrides::default() };
        let labels = BTreeMap::from([("y".to_owned(), "labels.txt".parse().unwrap())]);
        let labels = Overrides { labels, ..Overrides::default() };
        for (manifest, overrides, expected) in [
            (PLUGIN, &group(None), "config: instance_group: the package has no graph"),
            (NATIVE, &group(Some("h")), "config: instance_group 'h': with several, each is of a graph"),
            (PLUGIN, &backend, "config: backend: 'embedded' runs graphs"),
            (NATIVE, &rows, "config: graph 'g': batching.max_rows: use 1"),
            (NATIVE, &labels, "config: output 'y': label_filename: the package does not hold 'labels.txt'"),
        ] {
            let error = apply(manifest, overrides).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn policies_select_versions() {
        let there = versions(&["1", "2", "10"]);
        let latest = |number| VersionPolicy::Latest(NonZero::new(number).unwrap());
        assert_eq!(VersionPolicy::All.select(there.clone()).unwrap(), there);
        assert_eq!(latest(2).select(there.clone()).unwrap(), versions(&["2", "10"]));
        assert_eq!(latest(9).select(there.clone()).unwrap(), there);
        let specific = VersionPolicy::Specific(versions(&["1"]));
        assert_eq!(specific.select(there.clone()).unwrap(), versions(&["1"]));
        let missing = VersionPolicy::Specific(versions(&["3"])).select(there).unwrap_err();
        assert_eq!(missing.to_string(), "config: version_policy: the model has no version 3");
    }
}
