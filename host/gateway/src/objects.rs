//! What the API server has told: the objects that the table is made of.
//!
//! Contract: a list that begins anew takes effect when it is whole, so that a watch that was lost never empties the table.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use vespid_resources::{Model, ModelPool};

/// All objects of the namespace, by their names.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) models: Kept<Model>,
    pub(crate) pools: Kept<ModelPool>,
    pub(crate) slices: Kept<EndpointSlice>,
}

impl Objects {
    /// Whether each kind has been listed once.
    pub(crate) fn are_whole(&self) -> bool {
        self.models.is_whole && self.pools.is_whole && self.slices.is_whole
    }
}

/// The objects of a kind.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) now: BTreeMap<String, T>,
    coming: BTreeMap<String, T>,
    is_whole: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { now: BTreeMap::new(), coming: BTreeMap::new(), is_whole: false }
    }
}

impl<T: ResourceExt> Kept<T> {
    /// Takes in what a watch tells. Says whether something has changed.
    pub(crate) fn take(&mut self, event: Event<T>) -> bool {
        match event {
            Event::Init => self.coming.clear(),
            Event::InitApply(object) => drop(self.coming.insert(object.name_any(), object)),
            Event::InitDone => {
                self.now = std::mem::take(&mut self.coming);
                self.is_whole = true;
                return true;
            }
            Event::Apply(object) => {
                self.now.insert(object.name_any(), object);
                return true;
            }
            Event::Delete(object) => return self.now.remove(&object.name_any()).is_some(),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_effect_when_it_is_whole() {
        let pool = |name: &str| ModelPool::new(name, vespid_resources::ModelPoolSpec::default());
        let mut kept = Kept::default();
        assert!(!kept.take(Event::Init) && !kept.take(Event::InitApply(pool("a"))) && !kept.is_whole);
        assert!(kept.take(Event::InitDone) && kept.is_whole);
        assert!(kept.take(Event::Apply(pool("b"))));
        // The watch is lost, and its list comes anew.
        assert!(!kept.take(Event::Init) && !kept.take(Event::InitApply(pool("b"))));
        assert_eq!(kept.now.len(), 2);
        assert!(kept.take(Event::InitDone));
        assert_eq!(kept.now.keys().collect::<Vec<_>>(), ["b"]);
        assert!(kept.take(Event::Delete(pool("b"))) && !kept.take(Event::Delete(pool("b"))));
    }
}
