//! Objects that are made of a resource: put there by server-side apply, and taken away.
//!
//! Contract: an object is as it was asked for when this returns, or the resource is told why not. What the cluster refuses of one
//! object (it does not serve the kind, a value is wrong, a quota is used up) does not keep the others from being there; that the
//! cluster does not answer does, and is an error. Cost: no request for an object that nobody has changed since it was applied.

use std::fmt::Debug;
use std::hash::Hasher as _;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::ObjectMeta;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vespid_resources::ModelPool;
use vespid_resources::names::FIELD_MANAGER;
use xxhash_rust::xxh3::Xxh3;

use crate::OperatorError;
use crate::context::{Context, Stores};
use crate::error::code;

/// What was applied: a hash of it, and the version of the object that came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memo {
    hash: u64,
    version: Option<String>,
}

/// A kind of what is made.
pub(crate) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Serialize
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
    /// What the watch has told of the one with this name.
    fn seen(context: &Context, name: &str) -> Option<ObjectMeta>;
}

macro_rules! children {
    ($($kind:ty: $store:ident),* $(,)?) => {$(
        impl Child for $kind {
            fn seen(context: &Context, name: &str) -> Option<ObjectMeta> {
                let Stores { $store, .. } = &context.stores;
                Some(context.find($store, name)?.meta().clone())
            }
        }
    )*};
}

children! {
    ServiceAccount: accounts,
    RoleBinding: bindings,
    Service: services,
    NetworkPolicy: policies,
    ConfigMap: configs,
    HorizontalPodAutoscaler: autoscalers,
    PodDisruptionBudget: budgets,
    Deployment: deployments,
    ModelPool: pools,
}

/// What is being made of a resource, and what the cluster refuses of it.
pub(crate) struct Making<'a, O> {
    context: &'a Context,
    owner: &'a O,
    refused: Vec<String>,
}

impl<'a, O: Resource<DynamicType = ()>> Making<'a, O> {
    pub(crate) fn of(owner: &'a O, context: &'a Context) -> Self {
        Self { context, owner, refused: Vec::new() }
    }

    /// What was refused, in sentences; none where nothing was.
    pub(crate) fn refused(&self) -> Option<String> {
        (!self.refused.is_empty()).then(|| self.refused.join("; "))
    }

    /// Puts an object there.
    pub(crate) async fn apply<K: Child>(&mut self, object: &K) -> Result<(), OperatorError> {
        self.apply_as(object, object, FIELD_MANAGER).await
    }

    /// Puts an object there of which a field cannot be changed: where the cluster refuses that, another takes its place.
    pub(crate) async fn apply_anew<K: Child>(
        &mut self,
        object: &K,
        fixed: &str,
    ) -> Result<(), OperatorError> {
        let name = object.name_any();
        match self.send(object, object, FIELD_MANAGER).await? {
            Some(kube::Error::Api(status)) if status.code == 422 && status.message.contains(fixed) => {
                self.remove::<K>(&name).await?;
                self.apply(object).await
            }
            Some(error) => self.refuse::<K>(&name, error),
            None => Ok(()),
        }
    }

    /// Puts fields of an object there, as another manager. `object` is whose they are.
    pub(crate) async fn apply_as<K: Child, P: Serialize + Debug>(
        &mut self,
        object: &K,
        patch: &P,
        manager: &str,
    ) -> Result<(), OperatorError> {
        match self.send(object, patch, manager).await? {
            Some(error) => self.refuse::<K>(&object.name_any(), error),
            None => Ok(()),
        }
    }

    /// Sends what is to be there, where it is not known to be; why the cluster did not take it.
    async fn send<K: Child, P: Serialize + Debug>(
        &self,
        object: &K,
        patch: &P,
        manager: &str,
    ) -> Result<Option<kube::Error>, OperatorError> {
        let name = object.name_any();
        let key = (format!("{} by {manager}", K::kind(&())), name.clone());
        let seen = K::seen(self.context, &name);
        let hash = hash(&patch)?;
        let known = Memo { hash, version: seen.as_ref().and_then(version) };
        if known.version.is_some() && self.context.applied().get(&key) == Some(&known) {
            return Ok(None);
        }
        let params = PatchParams::apply(manager).force();
        match self.context.api::<K>().patch(&name, &params, &Patch::Apply(patch)).await {
            Ok(applied) => {
                let memo = Memo { hash, version: version(applied.meta()) };
                let changed = memo.version != known.version;
                let before = self.context.applied().insert(key, memo);
                if before.is_none_or(|before| before.hash != hash) || seen.is_none() {
                    self.tell::<K>(&name, seen.is_some(), changed).await;
                }
                Ok(None)
            }
            Err(error) => Ok(Some(error)),
        }
    }

    async fn tell<K: Child>(&self, name: &str, there: bool, changed: bool) {
        let (reason, what) = match (there, changed) {
            (false, _) => ("Created", "was made"),
            (true, true) => ("Changed", "was changed"),
            (true, false) => return,
        };
        let note = format!("{} {name} {what}", K::kind(&()));
        tracing::info!(owner = self.owner.name_any(), "{note}");
        self.context.tell(self.owner, EventType::Normal, reason, note).await;
    }

    /// Takes an object away, where there is one that was made of this resource.
    pub(crate) async fn remove<K: Child>(&mut self, name: &str) -> Result<(), OperatorError> {
        let Some(seen) = K::seen(self.context, name) else { return Ok(()) };
        let owned = seen
            .owner_references
            .iter()
            .flatten()
            .any(|owner| Some(&owner.uid) == self.owner.meta().uid.as_ref());
        if !owned {
            return Ok(());
        }
        let preconditions = Preconditions { uid: seen.uid, resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.context.api::<K>().delete(name, &params).await {
            Ok(_) => {
                let note = format!("{} {name} was deleted", K::kind(&()));
                tracing::info!(owner = self.owner.name_any(), "{note}");
                self.context.tell(self.owner, EventType::Normal, "Deleted", note).await;
                Ok(())
            }
            // Somebody else was quicker.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => self.refuse::<K>(name, error),
        }
    }

    /// What the cluster refuses is told; what else went wrong ends the look at the resource.
    fn refuse<K: Child>(&mut self, name: &str, error: kube::Error) -> Result<(), OperatorError> {
        let kind = K::kind(&());
        match &error {
            kube::Error::Api(status) if status.code == 404 && !status.message.contains("namespaces") => {
                let group = K::api_version(&());
                self.refused.push(format!("the cluster does not serve {kind} of {group}"));
                Ok(())
            }
            // An older cluster that does not know a field says so with 500.
            kube::Error::Api(status)
                if matches!(status.code, 400 | 403 | 422)
                    || status.message.contains("typed patch object") =>
            {
                self.refused.push(format!("{kind} {name}: {}", status.message));
                Ok(())
            }
            _ => Err(OperatorError::kube(format!("{kind} {name}"))(error)),
        }
    }
}

/// What moves when somebody changes what is asked for: the generation where the kind has one, else any change at all.
fn version(meta: &ObjectMeta) -> Option<String> {
    let generation = meta.generation.filter(|generation| *generation > 0);
    let version =
        generation.map(|generation| generation.to_string()).or_else(|| meta.resource_version.clone())?;
    Some(format!("{}/{version}", meta.uid.as_deref().unwrap_or_default()))
}

fn hash(object: &impl Serialize) -> Result<u64, OperatorError> {
    let render =
        |error: serde_json::Error| OperatorError::Render { file: "an object", reason: error.to_string() };
    let mut hasher = Xxh3::new();
    hasher.write(&serde_json::to_vec(object).map_err(render)?);
    Ok(hasher.finish())
}

/// Writes the status of a resource: the operator's fields of it. `version` is the one that it was made from, where it has to be.
pub(crate) async fn apply_status<K, S>(
    context: &Context,
    object: &K,
    status: &S,
    version: Option<String>,
) -> Result<(), OperatorError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let name = object.name_any();
    let mut metadata = serde_json::json!({"name": name});
    if let (Some(version), Some(metadata)) = (version, metadata.as_object_mut()) {
        metadata.insert("resourceVersion".to_owned(), version.into());
    }
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = context.api::<K>().patch_status(&name, &params, &Patch::Apply(&patch)).await;
    match written {
        // It was deleted meanwhile.
        Err(error) if code(&error) == Some(404) => Ok(()),
        written => {
            written.map(drop).map_err(OperatorError::kube(format!("the status of {} {name}", K::kind(&()))))
        }
    }
}
