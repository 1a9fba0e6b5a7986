//! A graph's lane: a bounded queue, and the threads that run the backend.
//!
//! Contract: at most `queue_limit` calls of a priority class wait; one more is refused at once. Calls that differ in their
//! rows alone are run as one batch, and each gets its own rows back. A batch never waits for more calls, unless
//! `max_delay` says so: it is what came while the backend was busy. A call whose caller left, or whose deadline has passed,
//! is dropped before it runs. A batch that fails is halved and run again, so that a bad row fails alone; a panic of the
//! backend is such a failure. The lane ends when its last handle is dropped. Cost: one hop to a thread and one back; a call
//! that runs alone is not copied, one in a batch has its inputs copied once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vespid_types::{Deadline, NamedTensor, Priority, Signature};

use crate::backend::{Batching, Session, panic_message};
use crate::batch;
use crate::queue::{Entry, Policy, PushError, Queue};
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

/// A graph's answer, and what it took.
#[derive(Debug)]
pub struct Computed {
    /// The outputs, in the signature's order.
    pub outputs: Vec<NamedTensor>,
    /// The call's part in the run.
    pub run: Run,
}

/// One run of the backend, as one of its calls saw it.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// From the call's coming to the run's beginning.
    pub queued: Duration,
    /// The run itself, of all of its calls.
    pub computed: Duration,
    /// Rows of the run; 1 where the graph takes no batches.
    pub rows: u64,
    /// Whether this call is the first of the run: the one to count it by.
    pub leads: bool,
}

type Answer = Result<Computed, NnError>;

struct Call {
    /// In the signature's order.
    inputs: Vec<NamedTensor>,
    /// Where it may run with others.
    batchable: bool,
    rows: u64,
    deadline: Deadline,
    came: Instant,
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

/// The way to a lane. Clones lead to the same lane.
#[derive(Clone)]
pub struct LaneHandle(Arc<Lane>);

struct Lane {
    shared: Arc<Shared>,
    signature: Signature,
    graph: String,
    max_rows: u64,
}

/// What the handles and the threads have in common.
struct Shared {
    queue: Queue<Call>,
    /// Whether calls may run together.
    batching: AtomicBool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl LaneHandle {
    /// Starts a thread for each session.
    pub(crate) fn start(name: &str, loaded: LoadedSessions, options: LaneOptions) -> Result<Self, NnError> {
        let LoadedSessions { signature, batching, sessions, .. } = loaded;
        let policy = policy(options, &batching)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_limit, policy),
            batching: AtomicBool::new(policy.max_rows > 1),
        });
        // Made first: where a thread cannot be started, its drop ends those that were.
        let lane = Self(Arc::new(Lane {
            shared: Arc::clone(&shared),
            signature,
            graph: name.to_owned(),
            max_rows: policy.max_rows,
        }));
        for session in sessions {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("lane-{name}"))
                .spawn(move || session.serve(Box::new(move |session| work(session, &shared))))
                .map_err(|error| NnError::Stopped { reason: format!("no thread for its lane: {error}") })?;
        }
        Ok(lane)
    }

    /// The graph's inputs and outputs, as its file declares them.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// Rows of a batch at most; 1 where it makes none.
    #[must_use]
    pub fn max_rows(&self) -> u64 {
        self.0.max_rows
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.shared.queue.len()
    }

    /// Runs the graph on `inputs`, when their turn comes. Dropping the future takes the call back as long as it has not
    /// begun.
    ///
    /// # Errors
    /// [`NnError::Signature`] before anything is queued, [`NnError::QueueFull`], [`NnError::DeadlineExceeded`], or what
    /// the backend says; each names the graph.
    pub async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        deadline: Deadline,
        priority: Priority,
    ) -> Result<Computed, NnError> {
        let answer = match self.submit(inputs, deadline, priority) {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(ended())),
            Err(error) => Err(error),
        };
        answer.map_err(|error| error.in_graph(&self.0.graph))
    }

    fn submit(
        &self,
        mut inputs: Vec<NamedTensor>,
        deadline: Deadline,
        priority: Priority,
    ) -> Result<oneshot::Receiver<Answer>, NnError> {
        let Lane { shared, signature, .. } = &*self.0;
        signature.check_inputs(&inputs)?;
        inputs.iter().try_for_each(check_empty)?;
        let place = |input: &NamedTensor| signature.inputs.iter().position(|spec| spec.name == input.name);
        inputs.sort_by_key(place);
        let rows = if shared.batching.load(Ordering::Relaxed) { batch::rows(&inputs) } else { None };
        let (reply, answer) = oneshot::channel();
        let call = Call {
            inputs,
            batchable: rows.is_some(),
            rows: rows.unwrap_or(1),
            deadline,
            came: Instant::now(),
            reply,
        };
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
        match run_joined(session, &calls) {
            Ok(Joined::Split { parts, computed }) => return reply_all(calls, parts, computed),
            Ok(Joined::Inseparable) => {
                tracing::warn!(
                    "the graph's outputs have not as many rows as its inputs: its calls run one by one"
                );
                shared.batching.store(false, Ordering::Relaxed);
                calls.into_iter().for_each(|call| run(session, shared, vec![call]));
            }
            // Whose fault it was will show.
            Err(_) => {
                let second = calls.split_off(calls.len() / 2);
                run(session, shared, calls);
                run(session, shared, second);
            }
        }
        return;
    }
    if let Some(call) = calls.pop() {
        run_alone(session, call);
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

fn run_alone(session: &mut dyn Session, call: Call) {
    let Call { inputs, rows, came, reply, .. } = call;
    let began = Instant::now();
    let answer = run_caught(session, &inputs).map(|outputs| Computed {
        outputs,
        run: Run { queued: began - came, computed: began.elapsed(), rows, leads: true },
    });
    let _ = reply.send(answer);
}

/// How a batch came out.
enum Joined {
    /// Each call's outputs, and how long the run took.
    Split { parts: Vec<Vec<NamedTensor>>, computed: Duration },
    /// It cannot be told which rows are whose.
    Inseparable,
}

fn run_joined(session: &mut dyn Session, calls: &[Call]) -> Result<Joined, NnError> {
    let inputs: Vec<&[NamedTensor]> = calls.iter().map(|call| &call.inputs[..]).collect();
    let inputs = batch::join(&inputs).map_err(|error| NnError::Run { message: error.to_string() })?;
    let began = Instant::now();
    let outputs = run_caught(session, &inputs)?;
    let computed = began.elapsed();
    let rows: Vec<u64> = calls.iter().map(|call| call.rows).collect();
    Ok(match batch::split(outputs, &rows) {
        Some(parts) => Joined::Split { parts, computed },
        None => Joined::Inseparable,
    })
}

fn reply_all(calls: Vec<Call>, parts: Vec<Vec<NamedTensor>>, computed: Duration) {
    let began = Instant::now().checked_sub(computed);
    let rows = calls.iter().map(|call| call.rows).sum();
    for (position, (call, outputs)) in calls.into_iter().zip(parts).enumerate() {
        let queued = began.map_or(Duration::ZERO, |began| began.saturating_duration_since(call.came));
        let run = Run { queued, computed, rows, leads: position == 0 };
        let _ = call.reply.send(Ok(Computed { outputs, run }));
    }
}

fn run_caught(session: &mut dyn Session, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, NnError> {
    // Sound to go on after a panic: the backends keep no state of a run in the session.
    catch_unwind(AssertUnwindSafe(|| session.run(inputs)))
        .unwrap_or_else(|panic| Err(NnError::Panicked { message: panic_message(&*panic) }))
}

#[cfg(test)]
mod tests;
