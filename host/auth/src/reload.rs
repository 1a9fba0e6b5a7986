//! Files that are read again while the process runs.
//!
//! Contract: what they have is looked at every two seconds; where it has changed and is good it takes the place of what was, as a
//! whole; where it is not, or is away, what was goes on, the error is logged and counted once, and what comes next is tried. By their
//! content and not by their times: a file that is put in place of another, as Kubernetes does, may be older. Cost: the files are read, in a thread
//! that may wait. Left out on purpose: the system's notices of changes, which do not come over network file systems.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::AccessError;
use crate::count::{Count, Counts};
use crate::fingerprint::{self, Fingerprint, Fingerprinter};
use crate::keys::KeyRing;
use crate::policy::{self, Document, Policies};

/// Something made of files.
pub(crate) struct Followed<T> {
    place: PathBuf,
    read: fn(&Path) -> Result<Vec<Document>, AccessError>,
    make: fn(&[Document]) -> Result<T, AccessError>,
    value: ArcSwap<T>,
    /// Of what was tried last.
    tried: Mutex<Fingerprint>,
}

impl<T> Followed<T> {
    fn open(
        place: PathBuf,
        read: fn(&Path) -> Result<Vec<Document>, AccessError>,
        make: fn(&[Document]) -> Result<T, AccessError>,
    ) -> Result<Self, AccessError> {
        let documents = read(&place)?;
        let value = ArcSwap::from_pointee(make(&documents)?);
        Ok(Self { place, read, make, value, tried: Mutex::new(of_all(&documents)) })
    }

    /// What was good last.
    pub(crate) fn get(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// Whether there is something new. Reads files, and those that have changed twice: amid a change of several, the two differ, and
    /// what is half of each is not taken.
    fn refresh(&self) -> Result<bool, AccessError> {
        let (_, seen) = self.look();
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if *tried == seen {
            return Ok(false);
        }
        let (documents, now) = self.look();
        if now != seen {
            return Ok(false);
        }
        *tried = now;
        let value = (self.make)(&documents?)?;
        self.value.store(Arc::new(value));
        Ok(true)
    }

    fn look(&self) -> (Result<Vec<Document>, AccessError>, Fingerprint) {
        let documents = (self.read)(&self.place);
        let fingerprint = match &documents {
            Ok(documents) => of_all(documents),
            Err(error) => fingerprint::of(error.to_string().as_bytes()),
        };
        (documents, fingerprint)
    }
}

fn of_all(documents: &[Document]) -> Fingerprint {
    let mut fingerprinter = Fingerprinter::new();
    fingerprinter.length(documents.len());
    for Document { file, text } in documents {
        fingerprinter.text(&file.to_string_lossy()).text(text);
    }
    fingerprinter.finish()
}

/// The files that `access.yaml` names.
pub(crate) struct Files {
    pub(crate) policies: Followed<Policies>,
    pub(crate) keys: Option<Followed<KeyRing>>,
    counts: Arc<Counts>,
}

impl Files {
    pub(crate) fn open(
        policies: PathBuf,
        keys: Option<PathBuf>,
        counts: Arc<Counts>,
    ) -> Result<Self, AccessError> {
        let read_one = |file: &Path| Document::read(file).map(|document| vec![document]);
        let make_keys = |documents: &[Document]| match documents {
            [Document { file, text }] => KeyRing::parse(file, text),
            _ => Ok(KeyRing::default()),
        };
        Ok(Self {
            policies: Followed::open(policies, policy::read, Policies::parse)?,
            keys: keys.map(|keys| Followed::open(keys, read_one, make_keys)).transpose()?,
            counts,
        })
    }

    /// Reads them again.
    pub(crate) fn refresh(&self) {
        match self.policies.refresh() {
            Ok(true) => tracing::info!(count = self.policies.get().len(), "new policies are in force"),
            Ok(false) => {}
            Err(error) => self.failed("policies", &error),
        }
        match self.keys.as_ref().map(Followed::refresh) {
            Some(Ok(true)) => tracing::info!("new API keys are in force"),
            Some(Err(error)) => self.failed("API keys", &error),
            Some(Ok(false)) | None => {}
        }
    }

    fn failed(&self, what: &str, error: &AccessError) {
        self.counts.add(Count::ReloadFailed);
        tracing::error!(%error, "{what} cannot be read again: those from before stay in force");
    }

    /// Reads them again and again.
    pub(crate) async fn run(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let files = Arc::clone(&self);
            // It does not panic, and where the runtime ends, so does this.
            let _ = tokio::task::spawn_blocking(move || files.refresh()).await;
        }
    }
}
