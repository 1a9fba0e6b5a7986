//! The state that a model keeps for each key.
//!
//! Contract: the messages of a key are the requests of one sequence, answered by one instance in their order. Which first message a key has is
//! told by the header `vespid-session`: `start` where nothing was known of it, `resumed` where its state was saved and taken up, `reset` where
//! there was some and it is lost. A key that has no message for `idle_timeout`, by the messages' timestamps, begins anew, so that the same
//! messages give the same answers again; so does one whose last message had that header with the value `end`. At most `max` keys of a partition have an instance; the state of one that gives way is
//! saved, where the plugin can. With `snapshots`, the state of a partition's keys moves with it: it is saved at an offset when all before
//! that is committed, and whoever has the partition next begins there, answering again, silently, what was committed since. Cost: an
//! instance a key, a call a message; a snapshot stands still for one round of calls.

mod snapshot;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::{Notify, Semaphore};
use vespid_dataset::Place;
use vespid_serving::ReadyModel;
use vespid_types::{Error, ErrorCode, Sequence, SequenceId};

use crate::StreamError;
use crate::asker::{Asker, Known};
use crate::failure::{Class, Failure};
use crate::message::{Header, Message, Partition, Record};
use crate::source::Started;
use crate::spec::{SessionSpec, StreamSpec};
use crate::status::Told;

pub(crate) use snapshot::Snapshot;

/// The keys of one partition.
pub(crate) struct Sessions {
    spec: SessionSpec,
    /// What tells its sequences from those of others that ask the same model.
    prefix: String,
    store: Option<Place>,
    told: Arc<Told>,
    keys: Mutex<HashMap<Bytes, Key>>,
    /// Keys that are answered at once.
    room: Semaphore,
    /// Whose turn it is to make one give way; and tells that it has.
    evicting: tokio::sync::Mutex<()>,
    evicted: Notify,
    /// Of messages before this the answers are known already.
    silent: AtomicI64,
    clock: AtomicU64,
    /// The version that has the sequences.
    model: Mutex<Option<Arc<ReadyModel>>>,
}

/// What is known of a key.
#[derive(Clone, Debug, Default)]
struct Key {
    /// Whether it has an instance.
    live: bool,
    /// Whether a message of it is answered now.
    busy: bool,
    /// Its state, where it has no instance.
    saved: Option<Bytes>,
    /// Whether it had a state that is lost.
    lost: bool,
    /// The timestamp of its last message, in milliseconds.
    last: Option<i64>,
    /// When it was last used: the greater, the later.
    used: u64,
}

/// How many messages there are between two looks for keys that are over.
const SWEEP: u64 = 4096;

/// A message that is asked about.
struct Asked<'a> {
    known: &'a Known,
    model: &'a ReadyModel,
    key: &'a Bytes,
    message: &'a Message,
    rows: &'a RecordBatch,
}

/// What a key's next message goes on with.
enum Begin {
    Goes,
    Start,
    Resume(Bytes),
    Reset,
}

impl Sessions {
    /// The keys of a partition, where the stream's model keeps state.
    pub(crate) fn of(
        spec: &StreamSpec,
        partition: &Partition,
        told: &Arc<Told>,
    ) -> Result<Option<Arc<Self>>, StreamError> {
        let Some(sessions) = &spec.sessions else { return Ok(None) };
        let store = match &sessions.snapshots {
            Some(url) => Some(vespid_batch::place(url)?.child(&format!("{}/{partition}.json", spec.name))),
            None => None,
        };
        // Those of an earlier run of the same partition may not have ended yet.
        let run = fastrand::u64(..);
        let room = Semaphore::new(sessions.max as usize);
        Ok(Some(Arc::new(Self {
            spec: sessions.clone(),
            prefix: format!("{}/{partition}/{run:016x}/", spec.name),
            store,
            told: Arc::clone(told),
            keys: Mutex::default(),
            room,
            evicting: tokio::sync::Mutex::default(),
            evicted: Notify::new(),
            silent: AtomicI64::new(i64::MIN),
            clock: AtomicU64::new(0),
            model: Mutex::default(),
        })))
    }

    /// Whether the state of keys is saved.
    pub(crate) fn are_saved(&self) -> bool {
        self.store.is_some()
    }

    /// How often.
    pub(crate) fn every(&self) -> std::time::Duration {
        self.spec.every
    }

    /// Reads what was saved; returns the offset that it stands at.
    pub(crate) async fn load(&self) -> Result<Option<i64>, StreamError> {
        let Some(store) = &self.store else { return Ok(None) };
        let Some(text) = store.get().await? else { return Ok(None) };
        let snapshot = Snapshot::read(&store.shown, &text)?;
        let key = |saved: snapshot::SavedKey| {
            let key = Key { saved: Some(saved.state.into()), last: saved.last, ..Key::default() };
            (Bytes::from(saved.key), key)
        };
        *self.lock() = snapshot.keys.into_iter().map(key).collect();
        Ok(Some(snapshot.offset))
    }

    /// Takes note of where the partition begins.
    pub(crate) fn resume(&self, from: Option<i64>, started: Started) {
        let Some(from) = from else { return };
        if started.as_asked {
            self.silent.store(started.committed.unwrap_or(from), Ordering::Relaxed);
            return;
        }
        tracing::warn!(
            stream = %self.told.name,
            "the state of keys was saved at offset {from}, which is gone, or was not committed any more: they begin anew"
        );
        for key in self.lock().values_mut() {
            *key = Key { lost: true, ..Key::default() };
        }
    }

    /// The records for some messages, those of a key one after the other.
    ///
    /// # Errors
    /// As [`Asker::records`].
    pub(crate) async fn records(
        &self,
        asker: &Asker,
        partition: &Partition,
        messages: &[Message],
        max_bytes: Option<usize>,
    ) -> Result<Vec<Record>, StreamError> {
        let mut keys: HashMap<Bytes, Vec<usize>> = HashMap::new();
        for (index, message) in messages.iter().enumerate() {
            keys.entry(message.key.clone().unwrap_or_default()).or_default().push(index);
        }
        let answered = keys.into_iter().map(|(key, indices)| async move {
            let _room =
                self.room.acquire().await.map_err(|error| StreamError::Internal(error.to_string()))?;
            let mut records = Vec::with_capacity(indices.len());
            for index in indices {
                let Some(message) = messages.get(index) else { continue };
                records.push((index, self.one(asker, partition, &key, message, max_bytes).await?));
            }
            Ok::<_, StreamError>(records)
        });
        let mut records: Vec<_> = try_join_all(answered).await?.into_iter().flatten().collect();
        records.sort_by_key(|(index, _)| *index);
        Ok(records.into_iter().filter_map(|(_, record)| record).collect())
    }

    async fn one(
        &self,
        asker: &Asker,
        partition: &Partition,
        key: &Bytes,
        message: &Message,
        max_bytes: Option<usize>,
    ) -> Result<Option<Record>, StreamError> {
        let known = asker.known().await?;
        let model = self.model_of(&known);
        let id = self.id(key);
        let decoded = known.coding.decode(std::slice::from_ref(message))?;
        if let Some((_, failure)) = decoded.refused.into_iter().next() {
            // It is nothing to the key's state.
            return match message.offset < self.silent.load(Ordering::Relaxed) {
                true => Ok(None),
                false => asker.failed(partition, message, &failure, max_bytes),
            };
        }
        let begin = self.turn(key, message, &model, &id).await;
        let asked = Asked { known: &known, model: &model, key, message, rows: &decoded.batch };
        let outcome = asker.held(|| self.ask(&asked, &begin)).await?;
        self.end(key, message, &model, &id);
        let silent = message.offset < self.silent.load(Ordering::Relaxed);
        let told = match begin {
            Begin::Goes => None,
            Begin::Start => Some("start"),
            Begin::Resume(_) => Some("resumed"),
            Begin::Reset => {
                asker.counters.sessions_reset.inc();
                Some("reset")
            }
        };
        if silent {
            return Ok(None);
        }
        let outcome = match outcome {
            Ok(payload) if max_bytes.is_some_and(|max| payload.len() + message.overhead() > max) => Err(
                Failure::encode(format!("the answer has {} bytes, and the sink takes fewer", payload.len())),
            ),
            outcome => outcome,
        };
        match outcome {
            Ok(payload) => {
                let mut record = asker.answer(partition, message, payload, known.version);
                record.headers.extend(told.map(|told| Header::new("vespid-session", told)));
                Ok(Some(record))
            }
            Err(failure) => asker.failed(partition, message, &failure, max_bytes),
        }
    }

    async fn ask(&self, asked: &Asked<'_>, begin: &Begin) -> Result<Result<Bytes, Failure>, StreamError> {
        let Asked { known, model, key, message, rows } = asked;
        let id = self.id(key);
        let opens = !matches!(begin, Begin::Goes);
        if opens {
            self.make_room(model, false).await;
        }
        let outcome = async {
            if let Begin::Resume(state) = begin {
                model.restore_sequence(&id, state).await.map_err(StreamError::Model)?;
            }
            let start = matches!(begin, Begin::Start | Begin::Reset);
            let sequence = Sequence { id: id.clone(), start, end: is_last(message) };
            Ok::<_, StreamError>(known.answerer.ask_in(rows, sequence).await?)
        };
        let answers = match outcome.await {
            // As many are open as the model may have: others ask it, too.
            Err(StreamError::Model(error)) if opens && error.code() == ErrorCode::Unavailable => {
                self.make_room(model, true).await;
                return Err(StreamError::Model(error));
            }
            Err(StreamError::Model(error)) if !waits(&error) => {
                let mut failure = Failure::of_model(None, &error);
                failure.message = format!("the saved state of its key is not taken up: {}", failure.message);
                return Ok(Err(failure));
            }
            answers => answers?,
        };
        if let Some(fault) = answers.faults.first() {
            return Ok(Err(Failure::of_model(fault.column.as_deref(), &fault.error)));
        }
        let encoded = known.coding.encode(&answers.batch, |_| Some(message)).into_iter().next();
        Ok(encoded.unwrap_or_else(|| {
            Err(Failure { class: Class::Failed, ..Failure::encode("the model gave no answer") })
        }))
    }

    /// What the message goes on with, once its key is not giving way. The key is busy from then on.
    async fn turn(&self, key: &Bytes, message: &Message, model: &ReadyModel, id: &SequenceId) -> Begin {
        loop {
            let evicted = self.evicted.notified();
            tokio::pin!(evicted);
            // From here on none is missed.
            evicted.as_mut().enable();
            match self.begin(key, message, model, id) {
                Some(begin) => return begin,
                None => evicted.await,
            }
        }
    }

    fn id(&self, key: &Bytes) -> SequenceId {
        SequenceId::Text(format!("{}{}", self.prefix, hex(key)))
    }

    /// The version that has the sequences; what another one had is lost with it.
    fn model_of(&self, known: &Known) -> Arc<ReadyModel> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*model
            && Arc::ptr_eq(model, &known.model)
        {
            return Arc::clone(model);
        }
        *model = Some(Arc::clone(&known.model));
        Arc::clone(&known.model)
    }

    /// The same; none where it is giving way now.
    fn begin(&self, key: &Bytes, message: &Message, model: &ReadyModel, id: &SequenceId) -> Option<Begin> {
        let mut keys = self.lock();
        let known = keys.contains_key(key);
        let key = keys.entry(key.clone()).or_default();
        // Messages of a key come one after the other.
        if key.busy {
            return None;
        }
        key.busy = true;
        if key.live && !model.keeps(id) {
            // It was idle for too long there, or its version is gone.
            (key.live, key.lost) = (false, true);
            self.told.sessions(0, 1);
        }
        let gap = key.last.zip(message.timestamp).map(|(last, now)| now - last);
        let timeout = i64::try_from(self.spec.idle_timeout.as_millis()).unwrap_or(i64::MAX);
        if gap.is_some_and(|gap| gap > timeout) {
            if key.live {
                model.close_sequence(id);
                self.told.sessions(0, 1);
            }
            *key = Key { busy: true, ..Key::default() };
            return Some(Begin::Start);
        }
        Some(match (key.live, key.saved.take(), key.lost && known) {
            (true, _, _) => Begin::Goes,
            (false, Some(state), _) => Begin::Resume(state),
            (false, None, true) => Begin::Reset,
            (false, None, false) => Begin::Start,
        })
    }

    /// The message was answered, or not.
    fn end(&self, name: &Bytes, message: &Message, model: &ReadyModel, id: &SequenceId) {
        let mut keys = self.lock();
        let Some(key) = keys.get_mut(name) else { return };
        let live = model.keeps(id);
        match (key.live, live) {
            (false, true) => self.told.sessions(1, 0),
            (true, false) => self.told.sessions(0, 1),
            _ => {}
        }
        if is_last(message) {
            keys.remove(name);
            return;
        }
        (key.busy, key.live, key.lost) = (false, live, !live);
        key.last = message.timestamp.or(key.last);
        key.used = self.clock.fetch_add(1, Ordering::Relaxed);
        if key.used % SWEEP == SWEEP - 1 {
            let dropped = self.take_idle(&mut keys);
            drop(keys);
            self.close(&dropped, model);
        }
    }

    /// Has the key that was used the longest ago give way, where as many have an instance as may, or one has to.
    async fn make_room(&self, model: &ReadyModel, has_to: bool) {
        let _turn = self.evicting.lock().await;
        let oldest = {
            let mut keys = self.lock();
            if !has_to && keys.values().filter(|key| key.live).count() < self.spec.max as usize {
                return;
            }
            let idle = keys.iter_mut().filter(|(_, key)| key.live && !key.busy);
            let Some((name, key)) = idle.min_by_key(|(_, key)| key.used) else { return };
            key.busy = true;
            name.clone()
        };
        let id = self.id(&oldest);
        let saved = match model.saves_sequences() {
            true => model.save_sequence(&id).await,
            false => Ok(None),
        };
        let saved = saved.unwrap_or_else(|error| {
            tracing::warn!(stream = %self.told.name, "the state of a key is lost: {error}");
            None
        });
        model.close_sequence(&id);
        self.told.sessions(0, 1);
        if let Some(key) = self.lock().get_mut(&oldest) {
            (key.busy, key.live, key.lost) = (false, false, saved.is_none());
            key.saved = saved;
        }
        self.evicted.notify_waiters();
    }

    /// Takes out those that begin anew with their next message anyway; returns those that have an instance.
    fn take_idle(&self, keys: &mut HashMap<Bytes, Key>) -> Vec<Bytes> {
        let newest = keys.values().filter_map(|key| key.last).max();
        let timeout = i64::try_from(self.spec.idle_timeout.as_millis()).unwrap_or(i64::MAX);
        let idle = |_: &Bytes, key: &mut Key| {
            !key.busy && newest.zip(key.last).is_some_and(|(newest, last)| newest - last > timeout)
        };
        keys.extract_if(idle).filter(|(_, key)| key.live).map(|(name, _)| name).collect()
    }

    fn close(&self, names: &[Bytes], model: &ReadyModel) {
        for name in names {
            model.close_sequence(&self.id(name));
            self.told.sessions(0, 1);
        }
    }

    /// Saves the state of all keys at an offset before which all is committed. Nothing may be in hand.
    ///
    /// # Errors
    /// [`StreamError::Snapshots`] where it cannot be written; [`StreamError::Model`] where an instance does not give its state.
    pub(crate) async fn save(&self, offset: Option<i64>) -> Result<(), StreamError> {
        let (Some(store), Some(offset)) = (&self.store, offset) else { return Ok(()) };
        if offset < self.silent.load(Ordering::Relaxed) {
            // What there is stands for as much.
            return Ok(());
        }
        let Some(model) = self.model.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        let (dropped, keys) = {
            let mut keys = self.lock();
            let dropped = self.take_idle(&mut keys);
            let keys: Vec<(Bytes, Key)> = keys.iter().map(|(key, of)| (key.clone(), of.clone())).collect();
            (dropped, keys)
        };
        self.close(&dropped, &model);
        let mut snapshot = Snapshot { offset, keys: Vec::with_capacity(keys.len()) };
        for (name, key) in keys {
            let state = match (key.live, key.saved) {
                (true, _) => model.save_sequence(&self.id(&name)).await.map_err(StreamError::Model)?,
                (false, saved) => saved,
            };
            if let Some(state) = state {
                snapshot.keys.push(snapshot::SavedKey {
                    key: name.into(),
                    last: key.last,
                    state: state.into(),
                });
            }
        }
        store.put(snapshot.write()?.into()).await?;
        Ok(())
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sessions {
    /// Their instances are given back at once.
    fn drop(&mut self) {
        let Some(model) = self.model.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let keys = std::mem::take(self.keys.get_mut().unwrap_or_else(PoisonError::into_inner));
        for name in keys.into_iter().filter(|(_, key)| key.live).map(|(name, _)| name) {
            model.close_sequence(&self.id(&name));
            self.told.sessions(0, 1);
        }
    }
}

/// Whether it is the model that is away, and not the state that is not taken up.
fn waits(error: &Error) -> bool {
    error.code().may_pass() || matches!(error.code(), ErrorCode::NotFound | ErrorCode::PermissionDenied)
}

/// Whether the message says that it is the last of its key: the next one begins anew.
fn is_last(message: &Message) -> bool {
    let told = message.headers.iter().find(|header| &*header.name == "vespid-session");
    told.is_some_and(|header| header.value.as_deref() == Some(b"end"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
