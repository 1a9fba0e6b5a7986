//! The routing table: which pods answer for which model.
//!
//! Contract: a table never changes; a new one is made of all objects, and takes over what has not changed, so that calls go on over
//! the one that they began with. Whoever waits for a change is told of it. Cost: a change of a model ranks the pods for that model,
//! one of a pool's pods for all of its models; looking a model up is a search in a map.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::uri::Authority;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use tokio::sync::watch;
use vespid_limits::{Limited, Limits, Origin, Place};
use vespid_resources::{Model, ModelVersion, Placement, PodVersionState, names};
use vespid_types::{Error, ModelName};

use crate::authorize;
use crate::objects::Objects;
use crate::pods::{Member, Pod, Pool, PoolState, RetryBudget};
use crate::versions::{Split, Standing};

/// What a Service's EndpointSlices say of it.
const SERVICE: &str = "kubernetes.io/service-name";

/// The table that counts, and a way to wait for the next.
#[derive(Debug)]
pub(crate) struct Routes {
    table: ArcSwap<Table>,
    changed: watch::Sender<u64>,
    limits: Limits,
}

impl Routes {
    /// An empty table, whose routes will be under these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { table: ArcSwap::default(), changed: watch::Sender::new(0), limits }
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Table>> {
        self.table.load()
    }

    /// Told of each new table. Subscribe before looking at one, so that none is missed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts a table of these objects in place of the one that counts.
    pub(crate) fn rebuild(&self, objects: &Objects, budget: RetryBudget) {
        self.limits.set_tenants(objects.models.now.values().filter_map(|model| {
            Some((model.metadata.name.as_deref()?.parse().ok()?, authorize::tenant(model)?.to_owned()))
        }));
        let table = Table::new(objects, &self.table.load(), budget, &self.limits);
        self.table.store(Arc::new(table));
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Whether it is made of all that there is.
    pub(crate) is_whole: bool,
    pub(crate) routes: BTreeMap<String, Arc<Route>>,
    pub(crate) pools: BTreeMap<String, Arc<Pool>>,
}

impl Table {
    /// The same with those models alone whose names this says yes to.
    pub(crate) fn only(&self, is_there: impl Fn(&str) -> bool) -> Self {
        let routes = self.routes.iter().filter(|(name, _)| is_there(name));
        let routes = routes.map(|(name, route)| (name.clone(), Arc::clone(route))).collect();
        Self { is_whole: self.is_whole, routes, pools: self.pools.clone() }
    }

    /// The names of all models.
    pub(crate) fn model_names(&self) -> Vec<&str> {
        self.routes.keys().map(String::as_str).collect()
    }
}

/// The way to a model.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) model: Model,
    pub(crate) pool: Arc<Pool>,
    /// The positions of the pool's pods in the model's order.
    pub(crate) order: Vec<usize>,
    pub(crate) versions: BTreeMap<u64, VersionRoute>,
    pub(crate) split: Split,
    /// Where the model, or its tenant, is limited.
    pub(crate) limited: Option<Arc<Limited>>,
}

/// A version of a model.
#[derive(Debug)]
pub(crate) struct VersionRoute {
    pub(crate) standing: Standing,
    /// Which of the pool's pods have it in memory, by their positions.
    pub(crate) warm: Vec<bool>,
    /// Why it does not load, where a pod says so.
    pub(crate) message: Option<String>,
}

impl Table {
    fn new(objects: &Objects, before: &Self, budget: RetryBudget, limits: &Limits) -> Self {
        let pools = pools(objects, before, budget);
        let route = |(name, model): (&String, &Model)| {
            let pool = Arc::clone(pools.get(&model.spec.pool)?);
            let route = before.routes.get(name).filter(|route| route.is_of(model, &pool)).cloned();
            Some((name.clone(), route.unwrap_or_else(|| Arc::new(Route::new(model.clone(), pool, limits)))))
        };
        let routes = objects.models.now.iter().filter_map(route).collect();
        Self { is_whole: objects.are_whole(), routes, pools }
    }
}

/// The pools that there are, that have pods, or that models name.
fn pools(objects: &Objects, before: &Table, budget: RetryBudget) -> BTreeMap<String, Arc<Pool>> {
    let mut members: BTreeMap<&str, BTreeMap<String, Member>> = BTreeMap::new();
    let known: HashMap<_, _> = before
        .pools
        .values()
        .flat_map(|pool| {
            pool.members.iter().map(|member| ((pool.name.as_str(), member.pod.name.as_str()), &member.pod))
        })
        .collect();
    for slice in objects.slices.now.values() {
        let Some(pool) = pool_of(slice) else { continue };
        let pods = members.entry(pool).or_default();
        for (name, member) in endpoints(slice, |name| known.get(&(pool, name)).copied()) {
            // While a pod moves from one slice to another it is in both.
            if member.is_open() || !pods.contains_key(&name) {
                pods.insert(name, member);
            }
        }
    }
    let named = objects.models.now.values().map(|model| model.spec.pool.as_str());
    let names = objects.pools.now.keys().map(String::as_str).chain(members.keys().copied()).chain(named);
    let names: std::collections::BTreeSet<String> = names.map(str::to_owned).collect();
    let pool = |name: String| {
        let spec = objects.pools.now.get(&name).map(|pool| &pool.spec);
        let scaling = spec.and_then(|spec| spec.autoscaling.as_ref());
        let earlier = before.pools.get(&name);
        let pool = Pool {
            is_known: spec.is_some(),
            may_sleep: scaling.is_some_and(|scaling| scaling.min_replicas == 0),
            members: members.remove(name.as_str()).unwrap_or_default().into_values().collect(),
            shared: earlier.map_or_else(|| Arc::new(PoolState::new(budget)), |pool| Arc::clone(&pool.shared)),
            name: name.clone(),
        };
        let same = earlier.filter(|earlier| earlier.is_same(&pool)).cloned();
        (name, same.unwrap_or_else(|| Arc::new(pool)))
    };
    names.into_iter().map(pool).collect()
}

/// The pool whose Service a slice belongs to.
fn pool_of(slice: &EndpointSlice) -> Option<&str> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE)?;
    // What `names::of_pool` puts after the name.
    let suffix = names::of_pool("");
    service.strip_suffix(suffix.as_str()).filter(|pool| !pool.is_empty())
}

/// The pods of a slice. `known` finds one that is there already.
fn endpoints<'a>(
    slice: &'a EndpointSlice,
    known: impl Fn(&str) -> Option<&'a Arc<Pod>>,
) -> Vec<(String, Member)> {
    let port = |name: &str| {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| port.name.as_deref() == Some(name))?.port?;
        u16::try_from(port).ok()
    };
    let (http, grpc) = (port(names::HTTP_PORT.0), port(names::GRPC_PORT.0));
    let member = |endpoint: &Endpoint| {
        // The first address is the one to use; the others mean the same.
        let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let place = |port: Option<u16>| -> Option<Authority> {
            SocketAddr::new(address, port?).to_string().parse().ok()
        };
        let name = endpoint.target_ref.as_ref().and_then(|target| target.name.clone());
        let name = name.unwrap_or_else(|| address.to_string());
        let (http, grpc) = (place(http), place(grpc));
        let same = known(&name).filter(|pod| pod.http == http && pod.grpc == grpc).cloned();
        let pod = same.unwrap_or_else(|| Arc::new(Pod::new(name.clone(), http, grpc)));
        let conditions = endpoint.conditions.as_ref();
        // What is not said is so of ready and serving, and not of terminating.
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
        Some((name, Member { pod, ready, serving, terminating }))
    };
    slice.endpoints.iter().filter_map(member).collect()
}

impl Route {
    fn new(model: Model, pool: Arc<Pool>, limits: &Limits) -> Self {
        let name = model.metadata.name.as_deref().unwrap_or_default();
        let limited = name.parse::<ModelName>().ok().and_then(|name| limits.of(&name));
        let placement = Placement::of(name);
        let mut order: Vec<_> = (0..)
            .zip(&pool.members)
            .map(|(position, member)| {
                let name = member.pod.name.as_str();
                (placement.score(name), name, position)
            })
            .collect();
        // As `vespid_resources::rank` has it.
        order.sort_unstable_by(|one, other| other.cmp(one));
        let order = order.into_iter().map(|(_, _, position)| position).collect();
        let version = |version: &ModelVersion| {
            Some((u64::try_from(version.version).ok()?, VersionRoute::new(version, &model, &pool)))
        };
        let versions: BTreeMap<_, _> = model.spec.versions.iter().filter_map(version).collect();
        let standings: Vec<_> = versions.iter().map(|(version, route)| (*version, route.standing)).collect();
        let split = Split::new(&standings, model.spec.replicas == 0);
        Self { model, pool, order, versions, split, limited }
    }

    /// Whether a new one would be the same.
    fn is_of(&self, model: &Model, pool: &Arc<Pool>) -> bool {
        let version = |model: &Model| (model.metadata.uid.clone(), model.metadata.resource_version.clone());
        Arc::ptr_eq(&self.pool, pool)
            && model.metadata.resource_version.is_some()
            && version(&self.model) == version(model)
    }

    /// Admits a call, as far as the limits of its model and of its tenant go.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub(crate) fn admit(&self) -> Result<Option<Place>, Error> {
        let admit = |limited: &Arc<Limited>| limited.admit(Origin::Caller, vespid_limits::now());
        self.limited.as_ref().map(admit).transpose()
    }

    pub(crate) fn name(&self) -> &str {
        self.model.metadata.name.as_deref().unwrap_or_default()
    }
}

impl VersionRoute {
    fn new(version: &ModelVersion, model: &Model, pool: &Pool) -> Self {
        let mut standing = Standing { weight: version.weight, ..Standing::default() };
        let mut message = None;
        let said = model.status.iter().flat_map(|status| &status.pods);
        let said: HashMap<_, _> = said
            .filter_map(|pod| {
                let said = pod.versions.iter().find(|said| said.version == version.version)?;
                Some((pod.pod.as_str(), said))
            })
            .collect();
        let warm = |member: &Member| {
            // What a pod said that is gone counts for nothing.
            let Some(said) = said.get(member.pod.name.as_str()).filter(|_| member.is_open()) else {
                return false;
            };
            match said.state {
                PodVersionState::Ready => standing.ready += 1,
                PodVersionState::Listed => standing.listed += 1,
                PodVersionState::Loading => standing.loading += 1,
                PodVersionState::Failed => {
                    standing.failed += 1;
                    message = message.take().or_else(|| said.message.clone());
                }
            }
            said.state == PodVersionState::Ready
        };
        let warm = pool.members.iter().map(warm).collect();
        Self { standing, warm, message }
    }
}

#[cfg(test)]
mod tests;
