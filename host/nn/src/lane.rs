//! A graph's lane: a bounded queue, and the threads that run the backend.
//!
//! Contract: at most `queue_limit` calls of a priority class wait; one more is refused at once. Calls that differ in their
//! rows alone are run as one batch, and each gets its own rows back. A batch never waits for more calls, unless
//! `max_delay` says so: it is what came while the backend was busy. A call whose caller left, or whose deadline has passed,
//! is dropped before it runs; a run whose callers have all left is ended where the backend can (`interrupt`). A batch that fails is halved and run again, so that a bad row fails alone; a panic of the
//! backend is such a failure. The lane ends when its last handle is dropped. Each call's timeline is told where it is, and
//! each run that succeeds is counted once for each handle that had calls in it, whatever becomes of these. Cost: one hop to a thread and one back; a call
//! that runs alone is not copied, one in a batch has its inputs copied once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vespid_types::{Deadline, NamedTensor, Priority, Signature, Stage, Timeline};

use crate::backend::{Batching, Session, panic_message};
use crate::batch;
use crate::growth::Growth;
use crate::interrupt::Interrupt;
use crate::queue::{Entry, Policy, PushError, Queue};
use crate::runs::{RunTimes, Runs};
use crate::{LoadedSessions, NnError};

/// Rows of a batch where nothing else is said: enough for most processors and graphs to be as quick for each row as they
/// get, and few enough that a call does not wait long for the batch before it.
pub const DEFAULT_MAX_ROWS: u64 = 64;

/// How a lane queues and makes batches.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// How many calls of each priority class may wait, besides those that run.
    pub queue_limit: usize,
    /// Rows of a batch; 1 for none. Where it is not said, [`DEFAULT_MAX_ROWS`], if the graph's file shows that it takes
    /// batches.
    pub max_rows: Option<u64>,
    /// Rows for which a batch waits no longer than that; `max_rows` where it is not said.
    pub preferred_rows: Option<u64>,
    /// How long the first call of a batch waits for others. Zero: not at all.
    pub max_delay: Duration,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self { queue_limit: 256, max_rows: None, preferred_rows: None, max_delay: Duration::ZERO }
    }
}

/// What a lane has to do, and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneUsage {
    /// Calls that wait.
    pub waiting: usize,
    /// Runs that succeeded, by their rows.
    pub runs: BTreeMap<u64, RunTimes>,
}

type Answer = Result<Vec<NamedTensor>, NnError>;

struct Call {
    /// In the signature's order.
    inputs: Vec<NamedTensor>,
    /// Where it may run with others.
    batchable: bool,
    rows: u64,
    deadline: Deadline,
    timeline: Arc<Timeline>,
    /// Of the handle that it came by.
    runs: Arc<Runs>,
    reply: oneshot::Sender<Answer>,
}

impl Entry for Call {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn joins(&self, first: &Self) -> bool {
        self.batchable && first.batchable && batch::fit(&self.inputs, &first.inputs)
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The way to a lane. Clones lead to the same lane and count together.
#[derive(Clone)]
pub struct LaneHandle {
    lane: Arc<Lane>,
    /// Runs that had calls by this handle.
    runs: Arc<Runs>,
}

struct Lane {
    shared: Arc<Shared>,
    signature: Signature,
    growth: Growth,
    max_rows: u64,
    memory: u64,
}

/// What the handles and the threads have in common.
struct Shared {
    queue: Queue<Call>,
    /// Whether calls may run together.
    batching: AtomicBool,
    graph: Arc<str>,
    /// Threads of one run.
    threads: usize,
}

impl Shared {
    /// The processors that a run takes for some of its rows.
    fn cpus(&self, rows: u64, total: u64) -> f64 {
        // Rows without elements are whatever the caller says.
        self.threads as f64 * (rows as f64 / total.max(1) as f64).min(1.0)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl LaneHandle {
    /// Starts a thread for each session.
    pub(crate) fn start(name: &str, loaded: LoadedSessions, options: LaneOptions) -> Result<Self, NnError> {
        let LoadedSessions { signature, batching, growth, sessions, memory, threads, .. } = loaded;
        let policy = policy(options, &batching)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_limit, policy),
            batching: AtomicBool::new(policy.max_rows > 1),
            graph: name.into(),
            threads,
        });
        // Made first: where a thread cannot be started, its drop ends those that were.
        let max_rows = policy.max_rows;
        let lane = Arc::new(Lane { shared: Arc::clone(&shared), signature, growth, max_rows, memory });
        for session in sessions {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("lane-{name}"))
                .spawn(move || session.serve(Box::new(move |session| work(session, &shared))))
                .map_err(|error| NnError::Stopped { reason: format!("no thread for its lane: {error}") })?;
        }
        Ok(Self { lane, runs: Arc::default() })
    }

    /// Another handle to the same lane, which counts its own runs: for another model with the same graph. Their calls
    /// share the queue and the batches.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { lane: Arc::clone(&self.lane), runs: Arc::default() }
    }

    /// The bytes of memory that the graph takes up for as long as the lane is there, as near as its backend can tell.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.lane.memory
    }

    /// The graph's inputs and outputs, as its file declares them.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.lane.signature
    }

    /// Rows of a batch at most; 1 where it makes none.
    #[must_use]
    pub fn max_rows(&self) -> u64 {
        self.lane.max_rows
    }

    /// What it has to do, whoever asks for it, and what it has done for this handle.
    #[must_use]
    pub fn usage(&self) -> LaneUsage {
        LaneUsage { waiting: self.lane.shared.queue.len(), runs: self.runs.read() }
    }

    /// Runs the graph on `inputs`, when their turn comes; its outputs are in the signature's order. Dropping the future
    /// takes the call back as long as it has not begun.
    ///
    /// # Errors
    /// [`NnError::Signature`] before anything is queued, [`NnError::QueueFull`], [`NnError::DeadlineExceeded`], or what
    /// the backend says; each names the graph.
    pub async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        deadline: Deadline,
        priority: Priority,
        timeline: &Arc<Timeline>,
    ) -> Answer {
        let answer = match self.submit(inputs, deadline, priority, timeline) {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(ended())),
            Err(error) => Err(error),
        };
        answer.map_err(|error| error.in_graph(&self.lane.shared.graph))
    }

    fn submit(
        &self,
        mut inputs: Vec<NamedTensor>,
        deadline: Deadline,
        priority: Priority,
        timeline: &Arc<Timeline>,
    ) -> Result<oneshot::Receiver<Answer>, NnError> {
        let Lane { shared, signature, growth, .. } = &*self.lane;
        signature.check_inputs(&inputs)?;
        inputs.iter().try_for_each(check_empty)?;
        growth.check(&inputs)?;
        let place = |input: &NamedTensor| signature.inputs.iter().position(|spec| spec.name == input.name);
        inputs.sort_by_key(place);
        let rows = if shared.batching.load(Ordering::Relaxed) { batch::rows(&inputs) } else { None };
        let (reply, answer) = oneshot::channel();
        let call = Call {
            inputs,
            batchable: rows.is_some(),
            rows: rows.unwrap_or(1),
            deadline,
            timeline: Arc::clone(timeline),
            runs: Arc::clone(&self.runs),
            reply,
        };
        // Said before the lane's thread can say more.
        timeline.enter(Stage::Queue);
        shared.queue.push(priority, call).map_err(|error| match error {
            PushError::Full { limit } => NnError::QueueFull { limit },
            PushError::Closed => ended(),
        })?;
        Ok(answer)
    }
}

/// Elements that a tensor without any may seem to have when its extents of 0 are left out.
const MAX_EMPTY: u64 = 1 << 20;

/// A tensor without elements takes no memory whatever its other extents are, but what a graph makes of it may: a sum over
/// the extent of 0 has an element for each of the others.
fn check_empty(input: &NamedTensor) -> Result<(), NnError> {
    let NamedTensor { name, tensor } = input;
    let mut others = tensor.shape().iter().filter(|extent| **extent > 0);
    let spanned = others.try_fold(1_u64, |product, extent| product.checked_mul(*extent));
    if tensor.is_empty() && spanned.is_none_or(|spanned| spanned > MAX_EMPTY) {
        return Err(NnError::EmptyTooWide { name: name.clone(), shape: tensor.shape().to_string() });
    }
    Ok(())
}

/// The queue's policy, which the graph must be able to honour.
fn policy(options: LaneOptions, batching: &Batching) -> Result<Policy, NnError> {
    let max_rows = match (options.max_rows, batching) {
        (Some(rows), Batching::Impossible { why }) if rows > 1 => {
            return Err(NnError::CannotBatch { why: why.clone() });
        }
        (Some(rows), _) => rows,
        (None, Batching::Plain) => DEFAULT_MAX_ROWS,
        (None, Batching::Impossible { why }) if !options.max_delay.is_zero() => {
            return Err(NnError::CannotBatch { why: why.clone() });
        }
        (None, Batching::Unproven) if !options.max_delay.is_zero() => {
            let why = "its file does not show that it does; where its rows do not depend on each other, set \
                       batching.max_rows"
                .to_owned();
            return Err(NnError::CannotBatch { why });
        }
        (None, _) => 1,
    };
    let preferred_rows = options.preferred_rows.unwrap_or(max_rows);
    if preferred_rows > max_rows {
        return Err(NnError::PreferredRows { preferred_rows, max_rows });
    }
    Ok(Policy { max_rows, preferred_rows, max_delay: options.max_delay })
}

fn ended() -> NnError {
    NnError::Stopped { reason: "its thread has ended".to_owned() }
}

fn work(session: &mut dyn Session, shared: &Shared) {
    while let Some(calls) = shared.queue.pop() {
        run(session, shared, calls);
    }
}

/// Runs the calls that are still waited for, together where they are several.
fn run(session: &mut dyn Session, shared: &Shared, calls: Vec<Call>) {
    let mut calls: Vec<Call> = calls.into_iter().filter_map(still_due).collect();
    if let [_, _, ..] = &calls[..] {
        match run_joined(session, shared, &mut calls) {
            Ok(Some(parts)) => return reply_all(calls, parts),
            Ok(None) => {
                tracing::warn!(
                    "the graph's outputs have not as many rows as its inputs: its calls run one by one"
                );
                shared.batching.store(false, Ordering::Relaxed);
                enter(&calls, Stage::Queue, Instant::now());
                calls.into_iter().for_each(|call| run(session, shared, vec![call]));
            }
            // Whose fault it was will show.
            Err(_) => {
                enter(&calls, Stage::Queue, Instant::now());
                let second = calls.split_off(calls.len() / 2);
                run(session, shared, calls);
                run(session, shared, second);
            }
        }
        return;
    }
    if let Some(call) = calls.pop() {
        run_alone(session, shared, call);
    }
}

/// The call, if it is to be run.
fn still_due(call: Call) -> Option<Call> {
    if call.reply.is_closed() {
        return None;
    }
    if call.deadline.remaining().is_zero() {
        // The caller may have left meanwhile, here as below: then nobody wants the answer.
        let _ = call.reply.send(Err(NnError::DeadlineExceeded));
        return None;
    }
    Some(call)
}

fn run_alone(session: &mut dyn Session, shared: &Shared, call: Call) {
    let Call { inputs, rows, timeline, runs, mut reply, .. } = call;
    let began = Instant::now();
    timeline.compute_at(&shared.graph, rows, shared.cpus(1, 1), began);
    let answer = run_caught(session, &inputs, &Interrupt::of([&mut reply].into_iter()));
    let ended = Instant::now();
    timeline.enter_at(Stage::Between, ended);
    if answer.is_ok() {
        runs.add(rows, [Duration::ZERO, ended - began, Duration::ZERO]);
    }
    let _ = reply.send(answer);
}

/// Runs calls as one: the outputs of each, or `None` where it cannot be told which rows are whose.
fn run_joined(
    session: &mut dyn Session,
    shared: &Shared,
    calls: &mut [Call],
) -> Result<Option<Vec<Vec<NamedTensor>>>, NnError> {
    let joining = Instant::now();
    enter(calls, Stage::Input, joining);
    let inputs: Vec<&[NamedTensor]> = calls.iter().map(|call| &call.inputs[..]).collect();
    let inputs = batch::join(&inputs).map_err(|error| NnError::Run { message: error.to_string() })?;
    let rows: Vec<u64> = calls.iter().map(|call| call.rows).collect();
    let total = rows.iter().sum();
    let running = Instant::now();
    for call in &*calls {
        call.timeline.compute_at(&shared.graph, total, shared.cpus(call.rows, total), running);
    }
    let interrupt = Interrupt::of(calls.iter_mut().map(|call| &mut call.reply));
    let outputs = run_caught(session, &inputs, &interrupt)?;
    let splitting = Instant::now();
    enter(calls, Stage::Output, splitting);
    let parts = batch::split(outputs, &rows);
    let ended = Instant::now();
    enter(calls, Stage::Between, ended);
    count(calls, total, [running - joining, splitting - running, ended - splitting]);
    Ok(parts)
}

/// Counts a run, once for each handle that had calls in it.
fn count(calls: &[Call], rows: u64, times: [Duration; 3]) {
    let mut counted: Vec<&Arc<Runs>> = Vec::with_capacity(1);
    for Call { runs, .. } in calls {
        if !counted.iter().any(|other| Arc::ptr_eq(other, runs)) {
            runs.add(rows, times);
            counted.push(runs);
        }
    }
}

/// Tells the calls' timelines that all of them have come to a stage.
fn enter(calls: &[Call], stage: Stage, now: Instant) {
    calls.iter().for_each(|call| call.timeline.enter_at(stage, now));
}

fn reply_all(calls: Vec<Call>, parts: Vec<Vec<NamedTensor>>) {
    for (call, outputs) in calls.into_iter().zip(parts) {
        let _ = call.reply.send(Ok(outputs));
    }
}

fn run_caught(
    session: &mut dyn Session,
    inputs: &[NamedTensor],
    interrupt: &Interrupt,
) -> Result<Vec<NamedTensor>, NnError> {
    // Sound to go on after a panic: the backends keep no state of a run in the session.
    catch_unwind(AssertUnwindSafe(|| session.run(inputs, interrupt)))
        .unwrap_or_else(|panic| Err(NnError::Panicked { message: panic_message(&*panic) }))
}

#[cfg(test)]
mod tests;
