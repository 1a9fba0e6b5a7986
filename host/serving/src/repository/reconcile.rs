//! Serving those of a model's versions that its policy selects.
//!
//! Contract: of the versions that can be loaded, as far as is known, those that the policy selects are loaded, or loaded
//! when they are asked; only when they are ready do the others end. A version that turns out not to load does not count, so
//! that with `latest` an older one serves in its place. Versions that were taken out of service by hand stay out.

use std::collections::BTreeSet;

use vespid_types::{ModelName, Result, Version};

use super::load::Loaded;
use super::task::Command;
use super::{Loading, Repository};
use crate::catalog::{Catalog, Entry, Idle, Model, Why};

impl Repository {
    /// Sees to it that a model is served as its policy says. The caller has the model's turn.
    pub(super) async fn reconcile(&self, name: &ModelName) -> Result<()> {
        loop {
            let missing = self.ask(|reply| Command::Missing { name: name.clone(), reply }).await?;
            if missing.is_empty() {
                break;
            }
            // One after the other, the greatest first: what it is not selected for need not be loaded.
            for version in missing.into_iter().rev() {
                let result = self.shared.load_stored(name, version, None).await;
                let result = result.and_then(|model| self.shared.check_fits(&model).map(|()| model));
                let loaded = vec![Loaded { version, result }];
                self.ask(|reply| Command::Settle { name: name.clone(), loaded, reply }).await?;
            }
        }
        self.ask(|reply| Command::Retire { name: name.clone(), reply }).await
    }
}

/// The versions that are to serve.
fn selected(model: &Model) -> BTreeSet<Version> {
    let may = |entry: &Entry| match entry {
        Entry::Ready(_) | Entry::Idle(_) | Entry::Loading | Entry::Unloaded { why: Why::Policy, .. } => true,
        Entry::Unloaded { why: Why::Asked, .. } | Entry::Unavailable { .. } => false,
    };
    let versions = model.versions.iter().filter(|(_, entry)| may(entry));
    model.route.traffic().versions.among(versions.map(|(version, _)| *version).collect())
}

/// Makes versions known. Those that serve stay as they are.
pub(super) fn found(catalog: &Catalog, name: &ModelName, versions: &[Version], served: bool) {
    let why = if served { Why::Policy } else { Why::Asked };
    catalog.change(name, |model| {
        for version in versions {
            if !model.versions.get(version).is_some_and(Entry::can_be_asked) {
                model.versions.insert(*version, Entry::Unloaded { last: std::sync::Weak::new(), why });
            }
        }
    });
}

/// Makes versions known that are loaded when they are asked. Those that can be asked stay as they are.
pub(super) fn list(catalog: &Catalog, name: &ModelName, versions: &[Version]) {
    catalog.change(name, |model| {
        for version in versions {
            if !model.versions.get(version).is_some_and(Entry::can_be_asked) {
                model.versions.insert(*version, Entry::Idle(Idle::default().into()));
            }
        }
    });
}

/// The versions that are to serve and do not. They show as loading from now on, unless they are loaded when they are asked.
pub(super) fn missing(catalog: &Catalog, name: &ModelName, loading: Loading) -> Vec<Version> {
    let Some(model) = catalog.model(name) else { return Vec::new() };
    let serves = |version: &Version| model.versions.get(version).is_some_and(Entry::can_be_asked);
    let missing: Vec<Version> = selected(&model).into_iter().filter(|version| !serves(version)).collect();
    for version in &missing {
        let entry = match loading {
            Loading::AtOnce => Entry::Loading,
            Loading::WhenAsked => Entry::Idle(Idle::default().into()),
        };
        catalog.set(name, *version, entry);
    }
    if loading == Loading::WhenAsked { Vec::new() } else { missing }
}

/// Takes those out of service that are not to serve.
pub(super) fn retire(catalog: &Catalog, name: &ModelName) {
    let Some(model) = catalog.model(name) else { return };
    let selected = selected(&model);
    for (version, _) in model.askable().filter(|(version, _)| !selected.contains(version)) {
        tracing::info!(model = %name, %version, "out of service: the model's policy does not select it");
        catalog.unload(name, version, Why::Policy);
    }
}
