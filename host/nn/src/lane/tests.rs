use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use vespid_types::{Datatype, Device, Extent, Shape, Tensor, TensorSpec};

use super::*;
use crate::Worker;

/// Blocks in each run until told, notes the rows of its runs, and hands its input back.
struct Gate {
    open: Receiver<Result<(), &'static str>>,
    runs: Arc<Mutex<Vec<u64>>>,
}

/// A row that no run survives.
const POISON: i32 = -1;

impl Session for Gate {
    fn run(&mut self, inputs: &[NamedTensor], _: &Interrupt) -> Result<Vec<NamedTensor>, NnError> {
        let tensor = &inputs[0].tensor;
        self.runs.lock().unwrap().push(tensor.shape()[0]);
        if let Err(message) = self.open.recv().unwrap() {
            panic!("{message}");
        }
        if values(tensor).contains(&POISON) {
            return Err(NnError::Run { message: "poison".to_owned() });
        }
        Ok(vec![NamedTensor { name: "y".to_owned(), tensor: tensor.clone() }])
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        worker(&mut *self);
    }
}

fn values(tensor: &Tensor) -> Vec<i32> {
    tensor.data().as_chunks::<4>().0.iter().map(|value| i32::from_le_bytes(*value)).collect()
}

fn row(value: i32) -> Vec<NamedTensor> {
    let data = value.to_le_bytes().to_vec().into();
    let tensor = Tensor::new(Datatype::Int32, Shape::from(&[1, 1][..]), data).unwrap();
    vec![NamedTensor { name: "x".to_owned(), tensor }]
}

fn spec(name: &str) -> TensorSpec {
    let shape = vec![Extent::Any, Extent::Fixed(1)];
    TensorSpec { name: name.to_owned(), datatype: Datatype::Int32, shape, optional: false }
}

type Opener = Sender<Result<(), &'static str>>;

struct Lane {
    handle: LaneHandle,
    opener: Opener,
    runs: Arc<Mutex<Vec<u64>>>,
}

fn loaded(batching: Batching) -> (LoadedSessions, Opener, Arc<Mutex<Vec<u64>>>) {
    let (opener, open) = channel();
    let runs = Arc::new(Mutex::new(Vec::new()));
    let session = Box::new(Gate { open, runs: Arc::clone(&runs) });
    let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
    (
        LoadedSessions {
            signature,
            batching,
            growth: Growth::default(),
            device: Device::Cpu,
            memory: 0,
            threads: 1,
            sessions: vec![session],
        },
        opener,
        runs,
    )
}

fn lane(options: LaneOptions) -> Lane {
    let (loaded, opener, runs) = loaded(Batching::Plain);
    Lane { handle: LaneHandle::start("gate", loaded, options).unwrap(), opener, runs }
}

impl Lane {
    /// A call in a task of its own, which has been queued when this returns.
    async fn call(&self, value: i32) -> tokio::task::JoinHandle<Answer> {
        let lane = self.handle.clone();
        let call = tokio::spawn(async move {
            let timeline = Arc::default();
            lane.compute(row(value), soon(), Priority::ONLINE, &timeline).await
        });
        tokio::task::yield_now().await;
        call
    }

    async fn until_runs(&self, count: usize) {
        while self.runs.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn open(&self) {
        self.opener.send(Ok(())).unwrap();
    }

    fn runs(&self) -> Vec<u64> {
        self.runs.lock().unwrap().clone()
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn answer(computed: Answer) -> i32 {
    values(&computed.unwrap()[0].tensor)[0]
}

#[tokio::test]
async fn what_comes_while_the_backend_is_busy_is_one_run() {
    let lane = lane(LaneOptions { max_rows: Some(3), ..LaneOptions::default() });
    let running = lane.call(0).await;
    lane.until_runs(1).await;
    let mut waiting = Vec::new();
    for value in 1..=4 {
        waiting.push(lane.call(value).await);
    }
    assert_eq!(lane.handle.usage().waiting, 4);
    (0..3).for_each(|_| lane.open());
    assert_eq!(answer(running.await.unwrap()), 0);
    for (value, call) in (1..=4).zip(waiting) {
        assert_eq!(answer(call.await.unwrap()), value, "each gets its own row");
    }
    assert_eq!(lane.runs(), [1, 3, 1]);
    let counted: Vec<_> = lane.handle.usage().runs.into_iter().map(|(rows, run)| (rows, run.count)).collect();
    assert_eq!(counted, [(1, 2), (3, 1)]);
}

#[tokio::test]
async fn each_call_has_its_rows_part_of_a_run_s_processors() {
    let (loaded, opener, runs) = loaded(Batching::Plain);
    let loaded = LoadedSessions { threads: 4, ..loaded };
    let lane =
        Lane { handle: LaneHandle::start("gate", loaded, LaneOptions::default()).unwrap(), opener, runs };
    let first = lane.call(0).await;
    lane.until_runs(1).await;
    let timelines = [(); 2].map(|()| Arc::new(Timeline::default()));
    let calls = timelines.each_ref().map(|timeline| {
        let (handle, timeline) = (lane.handle.clone(), Arc::clone(timeline));
        tokio::spawn(async move { handle.compute(row(1), soon(), Priority::ONLINE, &timeline).await })
    });
    tokio::task::yield_now().await;
    (0..2).for_each(|_| lane.open());
    first.await.unwrap().unwrap();
    for (call, timeline) in calls.into_iter().zip(timelines) {
        call.await.unwrap().unwrap();
        let spent = timeline.end(&"m".parse().unwrap(), "1".parse().unwrap(), &vespid_types::End::Answered);
        let (cpu, run) = (spent.graph_cpu(), spent.at(Stage::Compute));
        assert!(run > Duration::ZERO && cpu.abs_diff(run * 2) < Duration::from_micros(1), "{cpu:?} {run:?}");
    }
    assert_eq!(lane.runs(), [1, 2]);
}

#[tokio::test]
async fn a_bad_row_fails_alone() {
    let lane = lane(LaneOptions::default());
    let running = lane.call(0).await;
    lane.until_runs(1).await;
    let mut waiting = Vec::new();
    for value in [1, 2, POISON, 3] {
        waiting.push((value, lane.call(value).await));
    }
    (0..8).for_each(|_| lane.open());
    assert_eq!(answer(running.await.unwrap()), 0);
    for (value, call) in waiting {
        let computed = call.await.unwrap();
        if value == POISON {
            assert_eq!(computed.unwrap_err().to_string(), "graph 'gate': inference failed: poison");
        } else {
            assert_eq!(answer(computed), value);
        }
    }
    // All four, the two halves, and the halves of the half that failed.
    assert_eq!(lane.runs(), [1, 4, 2, 2, 1, 1]);
    let counted: Vec<_> = lane.handle.usage().runs.into_iter().map(|(rows, run)| (rows, run.count)).collect();
    assert_eq!(counted, [(1, 2), (2, 1)], "those that failed are not counted");
}

#[tokio::test]
async fn a_full_queue_refuses_and_callers_who_left_are_not_run() {
    let lane = lane(LaneOptions { queue_limit: 1, ..LaneOptions::default() });
    let running = lane.call(0).await;
    lane.until_runs(1).await;
    let waiting = lane.call(1).await;
    let refused = lane.call(2).await.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), vespid_types::ErrorCode::Unavailable);
    assert!(refused.to_string().contains("the queue of the graph is full (1 calls wait)"), "{refused}");

    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let next = lane.call(3).await;
    (0..2).for_each(|_| lane.open());
    running.await.unwrap().unwrap();
    assert_eq!(answer(next.await.unwrap()), 3);
    assert_eq!(lane.runs(), [1, 1], "the aborted call must not run");
}

#[test]
fn nothing_is_made_of_a_tensor_without_elements_that_claims_to_be_wide() {
    let empty = |rows| {
        let tensor =
            Tensor::new(Datatype::Int32, Shape::from(&[rows, 1, 0][..]), Default::default()).unwrap();
        check_empty(&NamedTensor { name: "x".to_owned(), tensor })
    };
    empty(1 << 20).unwrap();
    let error = empty(1 << 40).unwrap_err();
    assert_eq!(error.code(), vespid_types::ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("'x' has no elements and the shape [1099511627776, 1, 0]"), "{error}");
}

#[tokio::test]
async fn a_panic_costs_its_own_call_alone() {
    let lane = lane(LaneOptions::default());
    lane.opener.send(Err("boom")).unwrap();
    let error = lane.call(0).await.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "graph 'gate': the backend failed on these inputs: boom");
    lane.open();
    assert_eq!(answer(lane.call(1).await.await.unwrap()), 1);
}

#[tokio::test]
async fn a_call_past_its_deadline_is_not_run() {
    let lane = lane(LaneOptions::default());
    let past = Deadline::after(Duration::ZERO);
    let error = lane.handle.compute(row(0), past, Priority::ONLINE, &Arc::default()).await.unwrap_err();
    assert!(matches!(error, NnError::InGraph { source, .. } if matches!(*source, NnError::DeadlineExceeded)));
    assert!(lane.runs().is_empty());
}

#[test]
fn rows_are_batched_where_the_graph_shows_that_it_takes_them_or_the_manifest_says_so() {
    let start = |batching: Batching, max_rows| {
        let options = LaneOptions { max_rows, ..LaneOptions::default() };
        policy(options, &batching).map(|policy| policy.max_rows).map_err(|error| error.to_string())
    };
    let fixed = || Batching::Impossible { why: "'x' has a fixed first dimension of 1".to_owned() };
    assert_eq!(start(Batching::Plain, None), Ok(DEFAULT_MAX_ROWS));
    assert_eq!(start(Batching::Unproven, None), Ok(1));
    assert_eq!(start(Batching::Unproven, Some(8)), Ok(8));
    assert_eq!(start(fixed(), None), Ok(1));
    assert_eq!(start(fixed(), Some(1)), Ok(1));
    let delayed = |batching, max_rows, preferred_rows| {
        let max_delay = Duration::from_millis(1);
        let options = LaneOptions { max_rows, preferred_rows, max_delay, ..LaneOptions::default() };
        policy(options, &batching).map(|policy| policy.max_rows).map_err(|error| error.to_string())
    };
    assert_eq!(delayed(Batching::Plain, None, Some(64)), Ok(64));
    assert!(delayed(Batching::Plain, None, Some(65)).unwrap_err().contains("preferred_rows is 65"));
    assert!(delayed(Batching::Unproven, None, None).unwrap_err().contains("set batching.max_rows"));
    assert!(delayed(fixed(), None, None).unwrap_err().contains("fixed first dimension"));
    assert_eq!(
        start(fixed(), Some(2)).unwrap_err(),
        "`batching` asks for batches, and the graph takes none: 'x' has a fixed first dimension of 1"
    );
}
