//! Where the packages of a pod's models come from: registries, stores in buckets, and the gateway's uploads.
//!
//! Contract: a package is brought into the pod's own store when its version is to be loaded, and not before. What the store
//! holds is used where it is what is wanted, by its digest; else it is taken from what the servers of the machine share, else
//! fetched, and in the store only when name, version and digest are right. A tag is resolved once: from then on the digest
//! counts, here and, through the model's status, in all pods. Cost: a look at the
//! package's files for each load.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytesize::ByteSize;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use tokio::task::spawn_blocking;
use url::Url;
use vespid_package::oci::{Progress, Reference, Registry};
use vespid_package::{
    ArchiveLimits, MAX_FILES, Package, PackageError, Permissions, SharedCache, Store, Verified, download,
};
use vespid_resources::PackageSource;
use vespid_serving::{Supplier, Supply};
use vespid_types::{Digest, Error, ModelName, Result, Version};

use super::plan::{Plan, Source, Wanted};
use super::state::Key;

/// Packages that are fetched at once.
const FETCHES: usize = 8;

/// What packages are fetched with.
pub(super) struct Origins {
    pub(super) registry: Registry,
    /// Where the gateway gives uploads.
    pub(super) uploads: Option<Url>,
    pub(super) shared: Option<SharedCache>,
    pub(super) max_package: ByteSize,
}

/// Brings packages into the pod's store.
pub(super) struct Packages {
    store: Arc<Store>,
    permissions: Permissions,
    origins: Origins,
    table: Mutex<Table>,
    /// The stores that packages come from, by their locations.
    stores: Mutex<HashMap<String, Arc<Store>>>,
    turns: Mutex<HashMap<Key, Weak<AsyncMutex<()>>>>,
    room: Semaphore,
}

/// What is known of versions.
#[derive(Default)]
struct Table {
    sources: BTreeMap<Key, Source>,
    /// What is wrong with what models are said to reach.
    refused: BTreeMap<ModelName, String>,
    /// What the store holds.
    digests: BTreeMap<Key, Digest>,
}

impl Packages {
    pub(super) fn new(store: Arc<Store>, permissions: Permissions, origins: Origins) -> Arc<Self> {
        Arc::new(Self {
            store,
            permissions,
            origins,
            table: Mutex::default(),
            stores: Mutex::default(),
            turns: Mutex::default(),
            room: Semaphore::new(FETCHES),
        })
    }

    /// Says where versions come from now, and what models may reach.
    pub(super) fn adopt(&self, plan: &Plan) {
        let mut refused = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for (name, Wanted { versions, grants, .. }) in plan {
            let set = match grants {
                Ok(grants) => self.permissions.set(name, Some(grants)).map_err(|error| error.to_string()),
                Err(reason) => {
                    let reason = reason.clone();
                    Err(PackageError::Grants { name: name.clone(), reason }.to_string())
                }
            };
            if let Err(error) = set {
                // Nothing of its own: what cannot be read allows nothing.
                let _ = self.permissions.set(name, None);
                refused.insert(name.clone(), error);
            }
            let of = |(version, source): (&Version, &Source)| ((name.clone(), *version), source.clone());
            sources.extend(versions.iter().map(of));
        }
        let mut table = self.table();
        for (name, _) in table.sources.keys().filter(|(name, _)| !plan.contains_key(name)) {
            let _ = self.permissions.set(name, None);
        }
        (table.sources, table.refused) = (sources, refused);
    }

    /// What the store holds of a version, as far as anybody has asked.
    pub(super) fn digest(&self, key: &Key) -> Option<Digest> {
        self.table().digests.get(key).copied()
    }

    /// Removes what nobody wants any more from the store. What is being fetched goes when it has come.
    pub(super) async fn remove(&self, key: &Key) {
        let _turn = self.turn(key).await;
        if self.table().sources.contains_key(key) {
            return;
        }
        self.table().digests.remove(key);
        let (name, version) = key;
        match self.store.remove(name, *version).await {
            Ok(()) => tracing::info!(model = %name, %version, "removed"),
            Err(PackageError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(model = %name, %version, "it is left in the store: {error}"),
        }
    }

    /// Removes what an earlier life of the pod has left and nobody wants.
    pub(super) async fn clear(&self) {
        match self.store.list().await {
            Ok(listed) => {
                for key in listed.into_iter().map(|listed| (listed.name, listed.version)) {
                    self.remove(&key).await;
                }
            }
            Err(error) => tracing::warn!("what was left in the store stays there: {error}"),
        }
        if let Err(error) = self.store.sweep().await {
            tracing::warn!("what downloads have left stays in the store: {error}");
        }
    }

    async fn bring(&self, key: &Key) -> Result<()> {
        let _turn = self.turn(key).await;
        let (name, version) = key;
        let has = self.stored(key).await?;
        let (source, refused) = {
            let table = self.table();
            (table.sources.get(key).cloned(), table.refused.get(name).cloned())
        };
        if let Some(reason) = refused {
            return Err(Error::invalid(reason));
        }
        let Some(Source { package, digest }) = source else {
            // One that goes when another has come is served until then.
            let gone = || PackageError::NotFound { name: name.clone(), version: *version };
            return has.map(drop).ok_or_else(|| gone().into());
        };
        let wanted = match digest {
            Some(digest) => Some(digest),
            None => self.resolve(key, &package).await?,
        };
        if let Some(has) = has.filter(|has| Some(*has) == wanted) {
            self.table().digests.insert(key.clone(), has);
            return Ok(());
        }
        // It is never closed; and if it were, there would be as much room as one likes.
        let _room = self.room.acquire().await.ok();
        let mut fetched = self.fetch(key, &package, wanted).await;
        if let Err(PackageError::Blob { .. }) = &fetched {
            // A blob that two packages have went with the other one meanwhile.
            fetched = self.fetch(key, &package, wanted).await;
        }
        let digest = fetched.map_err(Error::from)?;
        tracing::info!(model = %name, %version, %digest, "fetched");
        self.table().digests.insert(key.clone(), digest);
        Ok(())
    }

    /// What the store holds of a version, whole. What is damaged there is removed.
    async fn stored(&self, (name, version): &Key) -> Result<Option<Digest>, PackageError> {
        match self.store.fetch(name, *version).await {
            Ok(stored) => Ok(Some(stored.digest)),
            Err(PackageError::NotFound { .. }) => Ok(None),
            Err(
                error @ (PackageError::Blob { .. }
                | PackageError::Record { .. }
                | PackageError::Misplaced { .. }),
            ) => {
                tracing::warn!(model = %name, %version, "what the store holds of it is fetched anew: {error}");
                self.store.remove(name, *version).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Which package it is, where nobody has read it before; none where it takes reading it all to know.
    async fn resolve(&self, (name, version): &Key, package: &PackageSource) -> Result<Option<Digest>> {
        if let Some(reference) = &package.oci {
            let reference: Reference = parsed(reference)?;
            return match reference.digest() {
                Some(digest) => Ok(Some(digest)),
                None => Ok(Some(self.origins.registry.digest(&reference).await?)),
            };
        }
        match &package.store {
            Some(location) => Ok(self.opened(location)?.digest(name, *version).await?),
            None => Ok(None),
        }
    }

    /// Brings a package into the store, in the place of another one.
    async fn fetch(
        &self,
        key: &Key,
        package: &PackageSource,
        wanted: Option<Digest>,
    ) -> Result<Digest, PackageError> {
        let (name, version) = key;
        let (verified, digest) = match self.shared(wanted).await? {
            Some(package) => self.verified(package).await?,
            None => self.from(key, package, wanted).await?,
        };
        verified.expect(name, *version)?;
        if let Some(expected) = wanted.filter(|wanted| *wanted != digest) {
            return Err(PackageError::OtherDigest { from: said(package), expected, found: digest });
        }
        match self.store.remove(name, *version).await {
            Err(PackageError::NotFound { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        self.store.commit(verified).await?;
        self.share(key);
        Ok(digest)
    }

    async fn from(
        &self,
        (name, version): &Key,
        package: &PackageSource,
        wanted: Option<Digest>,
    ) -> Result<(Verified, Digest), PackageError> {
        let Origins { registry, max_package, .. } = &self.origins;
        if let Some(reference) = &package.oci {
            let mut reference: Reference =
                reference.parse().map_err(vespid_package::oci::RegistryError::from)?;
            if let Some(digest) = wanted {
                reference = reference.pinned(digest);
            }
            let unseen: Arc<dyn Progress> = Arc::new(());
            let pulled = registry.pull(&reference, self.store.cache(), &unseen).await?;
            return self.verified(pulled.package).await;
        }
        self.check_unsigned(package)?;
        if let Some(location) = &package.store {
            let package = self.opened(location)?.package(name, *version).await?;
            if package.record.size() > max_package.as_u64() {
                return Err(PackageError::TooLarge { limit: *max_package });
            }
            return self.verified(package).await;
        }
        let staged = self.store.stage()?;
        download(&self.upload(name, *version, wanted)?, &staged.archive(), *max_package).await?;
        let limits = ArchiveLimits { size: *max_package, entries: MAX_FILES };
        blocking(move || staged.verify(limits)?.recorded()).await
    }

    /// Where the gateway gives an upload.
    fn upload(
        &self,
        name: &ModelName,
        version: Version,
        wanted: Option<Digest>,
    ) -> Result<Url, PackageError> {
        let place = |reason: &str| PackageError::Location {
            location: format!("packages/{name}/{version}"),
            reason: reason.to_owned(),
        };
        let uploads = self.origins.uploads.as_ref();
        let mut url = uploads
            .ok_or_else(|| place("the server was not told with --packages where uploads are"))?
            .clone();
        let mut path = url.path_segments_mut().map_err(|()| place("--packages is no URL of a server"))?;
        path.pop_if_empty().extend(["packages", name.as_str(), &version.to_string()]);
        drop(path);
        if let Some(digest) = wanted {
            url.query_pairs_mut().append_pair("digest", &digest.to_string());
        }
        Ok(url)
    }

    /// What does not come from a registry bears no signature.
    fn check_unsigned(&self, package: &PackageSource) -> Result<(), PackageError> {
        if self.origins.registry.allows_uploads() {
            return Ok(());
        }
        Err(PackageError::Unsigned { from: said(package) })
    }

    async fn verified(&self, package: Package) -> Result<(Verified, Digest), PackageError> {
        let (staged, cache) = (self.store.stage()?, Arc::clone(self.store.cache()));
        blocking(move || staged.verify_package(package, &cache)?.recorded()).await
    }

    /// A package that another server of the machine has fetched.
    async fn shared(&self, wanted: Option<Digest>) -> Result<Option<Package>, PackageError> {
        let (Some(shared), Some(digest)) = (self.origins.shared.clone(), wanted) else { return Ok(None) };
        let cache = Arc::clone(self.store.cache());
        // What others left cannot keep this one from fetching it.
        let taken = blocking(move || Ok(shared.take(digest, &cache))).await?;
        Ok(taken.unwrap_or_else(|error| {
            tracing::warn!("nothing is taken from --shared-cache: {error}");
            None
        }))
    }

    /// Leaves a package for the other servers of the machine. Nobody waits for it.
    fn share(&self, (name, version): &Key) {
        let Some(shared) = self.origins.shared.clone() else { return };
        let (store, name, version) = (Arc::clone(&self.store), name.clone(), *version);
        tokio::spawn(async move {
            let shared = async {
                let Package { record, .. } = store.package(&name, version).await?;
                let cache = Arc::clone(store.cache());
                blocking(move || shared.keep(&record, &cache)).await
            };
            if let Err(error) = shared.await {
                tracing::warn!(model = %name, %version, "it is not put into --shared-cache: {error}");
            }
        });
    }

    /// A store that packages come from.
    fn opened(&self, location: &str) -> Result<Arc<Store>, PackageError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(location) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(Store::beside(&location.parse()?, Arc::clone(self.store.cache()))?);
        stores.insert(location.to_owned(), Arc::clone(&store));
        Ok(store)
    }

    async fn turn(&self, key: &Key) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(key.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supplier for Packages {
    fn supply<'a>(&'a self, name: &'a ModelName, version: Version) -> Supply<'a> {
        Box::pin(async move { self.bring(&(name.clone(), version)).await })
    }
}

fn parsed(reference: &str) -> Result<Reference> {
    reference.parse().map_err(|error| Error::invalid(format!("package.oci: {error}")))
}

fn said(package: &PackageSource) -> String {
    let PackageSource { oci, store, .. } = package;
    oci.as_ref().or(store.as_ref()).cloned().unwrap_or_else(|| "the gateway's upload".to_owned())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    let ended = |error| PackageError::Io {
        action: "finish work on",
        path: "".into(),
        source: std::io::Error::other(error),
    };
    spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(error)))
}
