//! Puts load on the server: so many connections that each do one thing after the other, or so many requests a second.

mod arrivals;
mod closed;
mod open;
mod stop;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::Arrivals;
use super::record::{Exchange, Record};
use crate::client::{Client, Prepared};
use crate::failure::{Failure, Hint};

pub(super) use stop::Stop;

/// What a connection reads of an answer at once.
const SCRATCH: usize = 64 << 10;

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// From connections that each send the next when the last is answered.
    Closed { concurrency: u32 },
    /// At their times, whatever became of the earlier ones.
    Open { rate: f64, arrivals: Arrivals, max_outstanding: u32 },
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Nothing is sent after that time.
    Duration(Duration),
    /// So many are sent.
    Requests(u64),
}

/// What a run came to.
pub(super) struct Measured {
    pub(super) record: Record,
    /// Until the last answer.
    pub(super) elapsed: Duration,
    /// Whether the user ended it.
    pub(super) interrupted: bool,
    /// Of an open loop.
    pub(super) schedule: Option<Schedule>,
}

/// How an open loop kept to its times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Requests whose time came.
    pub(super) due: u64,
    /// Those of them that were not sent: the run ended while they waited for a connection.
    pub(super) unsent: u64,
    /// Those whose time came when all connections were in use.
    pub(super) blocked: u64,
}

/// A connection of its own, which stays open between requests and runs.
pub(super) struct Connection {
    client: Client,
    request: Prepared,
    scratch: Vec<u8>,
}

impl Connection {
    pub(super) fn new(client: Client, request: Prepared) -> Self {
        Self { client, request, scratch: vec![0; SCRATCH] }
    }

    /// Sends the request that was due then.
    fn exchange(&mut self, due: Option<Instant>) -> Exchange {
        let sent = Instant::now();
        let outcome = self.client.exchange(&self.request, &mut self.scratch);
        Exchange { due: due.unwrap_or(sent), sent, answered: Instant::now(), outcome }
    }
}

impl Load {
    /// How many connections it takes at most.
    pub(super) fn connections(&self) -> u32 {
        match self {
            Self::Closed { concurrency } => *concurrency,
            Self::Open { max_outstanding, .. } => *max_outstanding,
        }
    }

    /// Runs it over `connections`, until all that was sent is answered.
    pub(super) fn run(
        &self,
        connections: &mut [Connection],
        limit: Limit,
        seed: u64,
        stop: &Stop,
    ) -> Result<Measured, Failure> {
        match self {
            Self::Closed { .. } => closed::run(connections, limit, stop),
            Self::Open { rate, arrivals, .. } => {
                let times = arrivals::Times::new(*rate, *arrivals, limit, seed);
                open::run(connections, times, limit, stop)
            }
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { concurrency } => write!(f, "concurrency {concurrency}"),
            Self::Open { rate, arrivals: Arrivals::Constant, .. } => write!(f, "{rate}/s"),
            Self::Open { rate, arrivals: Arrivals::Poisson, .. } => write!(f, "{rate}/s poisson"),
        }
    }
}

/// Does `work` on a thread for each connection; the records of all of them as one, and what they shared.
///
/// All threads are there before `begin` says what they share: a run's time does not count their making.
fn on_each<S: Send + Sync>(
    connections: &mut [Connection],
    begin: impl FnOnce() -> S,
    work: impl Fn(&S, &mut Connection, &mut Record) + Sync,
) -> Result<(S, Record), Failure> {
    let gate = RwLock::new(None);
    let mut all = Record::new()?;
    thread::scope(|scope| {
        let (gate, work) = (&gate, &work);
        // The threads wait for it; they find nothing to do where not all of them could be made.
        let mut closed = gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut threads = Vec::with_capacity(connections.len());
        for connection in connections {
            let mut record = Record::new()?;
            let body = move || {
                if let Some(shared) = gate.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
                    work(shared, connection, &mut record);
                }
                record
            };
            let thread = thread::Builder::new().name("bench".to_owned()).spawn_scoped(scope, body);
            threads.push(thread.hint("there are not threads enough", "ask for fewer connections")?);
        }
        *closed = Some(begin());
        drop(closed);
        for thread in threads {
            all.merge(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        Ok(())
    })?;
    let shared = gate.into_inner().unwrap_or_else(PoisonError::into_inner);
    let shared = shared.ok_or_else(|| Failure::new("the run did not begin").hint("report this"))?;
    Ok((shared, all))
}
