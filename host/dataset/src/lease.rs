//! One worker a part.
//!
//! Contract: of all who take a lease, one has it. It is an object for each generation, `NAME/GENERATION`, made where there is none, which any
//! store can do so that one alone succeeds; the greatest generation holds, and its numbers only grow. Its holder renews it. Whoever
//! finds it of a process of this machine that has ended, or finds it not renewed for a while, takes the next generation. Cost: a
//! listing and an object to take it, an object each third of [`LeaseOptions::expiry`] to hold it, a listing and an object to
//! confirm it.
//!
//! A gap stays, as with any lease: who stands still between [`Lease::confirm`] and what it does next may do it while another has the
//! lease. What is written under a lease has therefore the same name and content whoever writes it.

mod holder;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use self::holder::Holder;
use crate::{DataError, Place};

/// How leases are taken and held.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// A lease that has not been renewed for so long, as its observer's clock sees it, is over.
    pub expiry: Duration,
}

/// A right to write a part, renewed by a task of its own until it is dropped or given back.
pub struct Lease {
    folder: Place,
    name: String,
    generation: u64,
    state: State,
    /// Turns true where somebody else has it.
    lost: Arc<AtomicBool>,
    renewing: JoinHandle<()>,
    _holding: Holding,
}

/// What came of asking for a lease.
pub enum Taken {
    /// It is ours.
    Ours(Box<Lease>),
    /// Somebody else has it; who, as it is shown to people.
    Theirs(String),
}

/// What stands in the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    holder: Holder,
    /// Tells one lease from another.
    id: String,
    renewed: u64,
    released: bool,
}

/// The leases that this process holds: one that it gave up while the store was away is over, though the process is there.
static HELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<String>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Whether it can be seen from here that nobody holds it any more.
    fn is_over(&self) -> bool {
        self.holder.has_ended() || (self.holder == Holder::this() && !held().contains(&self.id))
    }
}

/// A lease among those that this process holds.
struct Holding(String);

impl Holding {
    fn new(state: &State) -> Self {
        held().insert(state.id.clone());
        Self(state.id.clone())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        held().remove(&self.0);
    }
}

/// How often a lease is asked for where others are quicker.
const TRIES: usize = 100;

impl Lease {
    /// Takes the lease `name` in `folder`, or says who has it. That of a process of this machine which has ended is over at once;
    /// another machine's is over when it has not been renewed for [`LeaseOptions::expiry`] - this waits for that.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn take(folder: &Place, name: &str, options: &LeaseOptions) -> Result<Taken, DataError> {
        for _ in 0..TRIES {
            let generation = match greatest(folder, name).await? {
                None => 1,
                Some(generation) => {
                    match read(folder, name, generation).await? {
                        Some(state) if state.released || state.is_over() => {}
                        Some(state) if state.holder.is_known_to_live() => {
                            return Ok(Taken::Theirs(state.holder.to_string()));
                        }
                        before => {
                            // Of another machine, or half of one: whether it is renewed is all that can be seen.
                            tokio::time::sleep(options.expiry).await;
                            if greatest(folder, name).await? != Some(generation) {
                                continue;
                            }
                            let now = read(folder, name, generation).await?;
                            if let Some(now) = now.filter(|now| Some(now) != before.as_ref() && !now.released)
                            {
                                return Ok(Taken::Theirs(now.holder.to_string()));
                            }
                        }
                    }
                    generation + 1
                }
            };
            let id = format!("{:032x}", fastrand::u128(..));
            let state = State { holder: Holder::this(), id, renewed: 0, released: false };
            let holding = Holding::new(&state);
            if object(folder, name, generation).put_new(text(&state)).await? {
                for older in generations(folder, name).await? {
                    if older < generation {
                        object(folder, name, older).delete().await?;
                    }
                }
                let (folder, name) = (folder.clone(), name.to_owned());
                return Ok(Taken::Ours(Box::new(Self::held(
                    folder, name, generation, state, holding, options,
                ))));
            }
        }
        Ok(Taken::Theirs("others, who take it again and again".to_owned()))
    }

    fn held(
        folder: Place,
        name: String,
        generation: u64,
        state: State,
        holding: Holding,
        options: &LeaseOptions,
    ) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let (place, of, told, mut next) = (folder.clone(), name.clone(), Arc::clone(&lost), state.clone());
        let expiry = options.expiry;
        let renewing = tokio::spawn(async move {
            let mut renewed = Instant::now();
            loop {
                tokio::time::sleep(expiry / 3).await;
                next.renewed += 1;
                let renew = async {
                    let ours = greatest(&place, &of).await? == Some(generation);
                    if ours {
                        object(&place, &of, generation).put(text(&next)).await?;
                    }
                    Ok::<_, DataError>(ours)
                };
                match tokio::time::timeout(expiry, renew).await {
                    Ok(Ok(true)) if renewed.elapsed() <= expiry => renewed = Instant::now(),
                    // Who could not renew it in time may have been taken for gone.
                    Ok(Ok(_)) => return told.store(true, Ordering::Release),
                    _ if renewed.elapsed() > expiry => return told.store(true, Ordering::Release),
                    _ => {}
                }
            }
        });
        Self { folder, name, generation, state, lost, renewing, _holding: holding }
    }

    /// Whether it is still ours, asked of the store: before what is written is to appear.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn confirm(&self) -> Result<bool, DataError> {
        if self.lost.load(Ordering::Acquire)
            || greatest(&self.folder, &self.name).await? != Some(self.generation)
        {
            return Ok(false);
        }
        let found = read(&self.folder, &self.name, self.generation).await?;
        Ok(found.is_some_and(|found| found.id == self.state.id))
    }

    /// Gives it back.
    pub async fn release(self) {
        self.renewing.abort();
        if matches!(self.confirm().await, Ok(true)) {
            let state = State { released: true, ..self.state.clone() };
            // Where that fails it runs out.
            let _ = object(&self.folder, &self.name, self.generation).put(text(&state)).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

fn object(folder: &Place, name: &str, generation: u64) -> Place {
    folder.child(&format!("{name}/{generation}"))
}

async fn generations(folder: &Place, name: &str) -> Result<Vec<u64>, DataError> {
    let number = |(object, _): (String, u64)| object.parse().ok();
    Ok(folder.child(name).list().await?.into_iter().filter_map(number).collect())
}

async fn greatest(folder: &Place, name: &str) -> Result<Option<u64>, DataError> {
    Ok(generations(folder, name).await?.into_iter().max())
}

async fn read(folder: &Place, name: &str, generation: u64) -> Result<Option<State>, DataError> {
    let found = object(folder, name, generation).get().await?;
    Ok(found.and_then(|text| serde_json::from_slice(&text).ok()))
}

fn text(state: &State) -> bytes::Bytes {
    // Text and numbers: there is nothing that cannot be written.
    serde_json::to_vec(state).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
