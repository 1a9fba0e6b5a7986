//! Names, labels and owners of what is made.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

/// What everything that the operator has made bears, and what it watches by.
pub(crate) const MANAGED: &str = "app.kubernetes.io/managed-by=vespid-operator";

/// What things are made of, and what they are called for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    Pool,
    Batch,
    Stream,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Batch => "batch",
            Self::Stream => "stream",
        }
    }

    /// The label with the name of what a thing was made of.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pool => vespid_resources::names::POOL_LABEL,
            Self::Batch => vespid_resources::names::BATCH_LABEL,
            Self::Stream => vespid_resources::names::STREAM_LABEL,
        }
    }
}

/// The labels of what is made of a resource.
pub(crate) fn labels(component: Component, owner: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "vespid"),
        ("app.kubernetes.io/component", component.name()),
        ("app.kubernetes.io/instance", owner),
        ("app.kubernetes.io/managed-by", "vespid-operator"),
        (component.label(), owner),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// What selects the pods of a resource: the one label that never changes.
pub(crate) fn selector(component: Component, owner: &str) -> LabelSelector {
    let labels = BTreeMap::from([(component.label().to_owned(), owner.to_owned())]);
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

/// The same as text, for status.
pub(crate) fn selector_text(component: Component, owner: &str) -> String {
    format!("{}={owner}", component.label())
}

/// The head of an object that is made of `owner`.
pub(crate) fn of<K: Resource<DynamicType = ()>>(owner: &K, component: Component, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: owner.namespace(),
        labels: Some(labels(component, &owner.name_any())),
        owner_references: Some(owner.controller_owner_ref(&()).into_iter().collect::<Vec<OwnerReference>>()),
        ..ObjectMeta::default()
    }
}
