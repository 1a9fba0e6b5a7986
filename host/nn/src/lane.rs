//! A graph's lane: a bounded queue and the one thread that runs the backend.
//!
//! Contract: at most `queue_limit` calls wait; one more is refused at once. A call whose caller left, or whose deadline
//! has passed, is dropped before it runs. A panic of the backend costs its own call alone. The lane ends when its last
//! handle is dropped. Cost: one hop to the thread and one back. Left out so far: running several calls at once as a
//! batch, and priorities.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use vespid_types::{Deadline, NamedTensor, Signature};

use crate::queue::{PushError, Queue};
use crate::{Graph, NnError};

/// How a lane queues.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// How many calls may wait, besides the one that runs.
    pub queue_limit: usize,
}

type Outputs = Result<Vec<NamedTensor>, NnError>;

struct Call {
    inputs: Vec<NamedTensor>,
    deadline: Deadline,
    reply: oneshot::Sender<Outputs>,
}

/// The way to a lane. Clones lead to the same lane.
#[derive(Clone)]
pub struct LaneHandle(Arc<Lane>);

struct Lane {
    queue: Arc<Queue<Call>>,
    signature: Signature,
    graph: String,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl LaneHandle {
    pub(crate) fn start(name: &str, graph: Box<dyn Graph>, options: LaneOptions) -> Result<Self, NnError> {
        let signature = graph.signature().clone();
        let queue = Arc::new(Queue::new(options.queue_limit));
        let calls = Arc::clone(&queue);
        std::thread::Builder::new()
            .name(format!("lane-{name}"))
            .spawn(move || graph.serve(Box::new(move |graph| work(graph, &calls))))
            .map_err(|error| NnError::Stopped { reason: format!("no thread for its lane: {error}") })?;
        Ok(Self(Arc::new(Lane { queue, signature, graph: name.to_owned() })))
    }

    /// The graph's inputs and outputs, as its file declares them.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// Runs the graph on `inputs`, after the calls that wait already. Dropping the future takes the call back as long
    /// as it has not begun.
    ///
    /// # Errors
    /// [`NnError::Signature`] before anything is queued, [`NnError::QueueFull`], [`NnError::DeadlineExceeded`], or what
    /// the backend says; each names the graph.
    pub async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        deadline: Deadline,
    ) -> Result<Vec<NamedTensor>, NnError> {
        self.submit(inputs, deadline).await.map_err(|error| error.in_graph(&self.0.graph))
    }

    async fn submit(&self, inputs: Vec<NamedTensor>, deadline: Deadline) -> Outputs {
        let Lane { queue, signature, .. } = &*self.0;
        signature.check_inputs(&inputs)?;
        let (reply, answer) = oneshot::channel();
        queue.push(Call { inputs, deadline, reply }).map_err(|error| match error {
            PushError::Full { limit } => NnError::QueueFull { limit },
            PushError::Closed => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> NnError {
    NnError::Stopped { reason: "its thread has ended".to_owned() }
}

fn work(graph: &mut dyn Graph, queue: &Queue<Call>) {
    while let Some(Call { inputs, deadline, reply }) = queue.pop() {
        if reply.is_closed() {
            continue;
        }
        let outputs = if deadline.remaining().is_zero() {
            Err(NnError::DeadlineExceeded)
        } else {
            // Sound to go on after a panic: the backends keep no state of a run in the graph.
            catch_unwind(AssertUnwindSafe(|| graph.run(&inputs)))
                .unwrap_or_else(|panic| Err(NnError::Panicked { message: panic_message(&*panic) }))
        };
        // The caller may have left meanwhile: then nobody wants the answer.
        let _ = reply.send(outputs);
    }
    queue.close();
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::{Graphs, Worker};

    /// Blocks in each run until told, and counts its runs.
    struct Gate {
        signature: Signature,
        open: Receiver<Result<(), &'static str>>,
        runs: Arc<Mutex<usize>>,
    }

    impl Graph for Gate {
        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn run(&mut self, inputs: &[NamedTensor]) -> Outputs {
            *self.runs.lock().unwrap() += 1;
            if let Err(message) = self.open.recv().unwrap() {
                panic!("{message}");
            }
            Ok(inputs.to_vec())
        }

        fn serve(mut self: Box<Self>, worker: Worker) {
            worker(&mut *self);
        }
    }

    type Opener = Sender<Result<(), &'static str>>;

    fn gate(queue_limit: usize) -> (LaneHandle, Opener, Arc<Mutex<usize>>) {
        let (opener, open) = channel();
        let runs = Arc::new(Mutex::new(0));
        let graph = Gate { signature: Signature::default(), open, runs: Arc::clone(&runs) };
        (LaneHandle::start("gate", Box::new(graph), LaneOptions { queue_limit }).unwrap(), opener, runs)
    }

    async fn until_running(runs: &Mutex<usize>, count: usize) {
        while *runs.lock().unwrap() < count {
            tokio::task::yield_now().await;
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_callers_who_left_are_not_run() {
        let (lane, opener, runs) = gate(1);
        let spawn = |lane: LaneHandle| tokio::spawn(async move { lane.compute(vec![], soon()).await });
        let running = spawn(lane.clone());
        until_running(&runs, 1).await;
        let waiting = spawn(lane.clone());
        tokio::task::yield_now().await;
        let refused = lane.compute(vec![], soon()).await.unwrap_err();
        assert!(refused.to_string().contains("queue"), "{refused}");

        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        opener.send(Ok(())).unwrap();
        running.await.unwrap().unwrap();
        opener.send(Ok(())).unwrap();
        lane.compute(vec![], soon()).await.unwrap();
        assert_eq!(*runs.lock().unwrap(), 2, "the aborted call must not run");
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_call_alone() {
        let (lane, opener, _) = gate(4);
        opener.send(Err("boom")).unwrap();
        let error = lane.compute(vec![], soon()).await.unwrap_err();
        assert_eq!(error.to_string(), "graph 'gate': the backend failed on these inputs: boom");
        opener.send(Ok(())).unwrap();
        lane.compute(vec![], soon()).await.unwrap();
    }

    #[tokio::test]
    async fn a_call_past_its_deadline_is_not_run() {
        let (lane, _opener, runs) = gate(4);
        let error = lane.compute(vec![], Deadline::after(Duration::ZERO)).await.unwrap_err();
        assert!(
            matches!(error, NnError::InGraph { source, .. } if matches!(*source, NnError::DeadlineExceeded))
        );
        assert_eq!(*runs.lock().unwrap(), 0);
    }

    #[test]
    fn an_unknown_graph_is_named_with_those_there_are() {
        let error = Graphs::default().get("magika").err().unwrap();
        assert_eq!(error.to_string(), "no graph is named 'magika'; the package has none");
    }
}
