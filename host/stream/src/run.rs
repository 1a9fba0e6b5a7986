//! One stream, from its start to its end.
//!
//! Contract: what may pass (a broker that is away, a transaction that failed) begins the run anew from what was committed, with growing
//! pauses; what does not ends the stream, and is told. A partition that is given away, or a stream that is told to stop, finishes what is in hand for as long
//! as `drain` at most, and commits it; what is not done by then is handed back. Offsets are committed when the sink has acknowledged all
//! before them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use futures_util::future::{BoxFuture, Either, join_all};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use vespid_batch::growing;
use vespid_serving::Predictor;
use vespid_types::ModelRef;

use crate::StreamError;
use crate::asker::Asker;
use crate::message::Partition;
use crate::metrics::Counters;
use crate::pipeline::{Control, Work};
use crate::sessions::Sessions;
use crate::sink::{self, Sink};
use crate::source::{self, Event, Inbox, Source};
use crate::spec::StreamSpec;
use crate::status::{State, Told};
use crate::tracker::Tracker;
use crate::worker::{HURRY, Worker};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A run that lasted so long has got over what ended the one before.
const LASTING: Duration = Duration::from_secs(60);

/// How long it may take to hand back what is not committed.
const RELEASE: Duration = Duration::from_secs(5);

/// What a stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    Pause,
    Stop,
}

/// What a stream is run with.
pub(crate) struct Stream {
    pub(crate) spec: Arc<StreamSpec>,
    pub(crate) predictor: Predictor,
    pub(crate) model: ModelRef,
    pub(crate) counters: Arc<Counters>,
    pub(crate) told: Arc<Told>,
}

impl Stream {
    /// Runs until it is told to stop, its source has ended, or it cannot go on.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub(crate) async fn run(self, mut wish: watch::Receiver<Wish>) -> Result<(), StreamError> {
        let begin = || growing(FIRST_PAUSE, LONGEST_PAUSE, Duration::MAX).build();
        let mut pauses = begin();
        loop {
            let began = Instant::now();
            let ended = match self.once(&mut wish).await {
                Err(error) if error.may_pass() && *wish.borrow() != Wish::Stop => error,
                ended => {
                    let (state, reason) = match &ended {
                        Ok(()) => (State::Ended, None),
                        Err(error) => (State::Failed, Some(error.to_string())),
                    };
                    self.told.state(state, reason);
                    return ended;
                }
            };
            if began.elapsed() > LASTING {
                pauses = begin();
            }
            self.counters.restarts.inc();
            self.told.given_up();
            self.told.waits(ended.to_string());
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wish.wait_for(|wish| *wish == Wish::Stop) => {}
            }
        }
    }

    async fn once(&self, wish: &mut watch::Receiver<Wish>) -> Result<(), StreamError> {
        let Self { spec, predictor, model, counters, told } = self;
        let asker = Asker::new(
            Arc::clone(spec),
            predictor.clone(),
            model.clone(),
            Arc::clone(counters),
            Arc::clone(told),
        );
        let opening = async {
            asker.check().await?;
            let (source, events) = source::open(spec).await?;
            let sink = sink::open(spec, &source).await?;
            source.join().await?;
            Ok::<_, StreamError>((source, events, sink))
        };
        let stopped = async { drop(wish.clone().wait_for(|wish| *wish == Wish::Stop).await) };
        let (source, events, sink) = tokio::select! {
            opened = opening => opened?,
            () = stopped => return Ok(()),
        };
        told.state(State::Running, None);
        let (ends, ended) = mpsc::channel(16);
        let work = Arc::new(Work { asker, source: Arc::clone(&source), sink: Arc::clone(&sink) });
        let control = control_of(*wish.borrow());
        let of = Arc::clone(&source);
        let run = Run { stream: self, work, source, sink, workers: HashMap::new(), control, ends };
        let served = run.serve(events, ended, wish).await;
        if served.is_err() {
            release(&*of).await;
        }
        served
    }
}

fn control_of(wish: Wish) -> Control {
    match wish {
        Wish::Run => Control::Run,
        Wish::Pause => Control::Pause,
        Wish::Stop => Control::Finish,
    }
}

/// A stream that is connected.
struct Run<'a> {
    stream: &'a Stream,
    work: Arc<Work>,
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    workers: HashMap<Partition, Working>,
    control: Control,
    ends: mpsc::Sender<(Partition, Result<(), StreamError>)>,
}

/// A partition that is worked at. Dropping it gives it up.
struct Working {
    control: watch::Sender<Control>,
    tracker: Arc<Tracker>,
    sessions: Option<Arc<Sessions>>,
    task: JoinHandle<()>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Never ends where nothing is committed.
async fn end_of(committing: &mut Option<Committing>) -> (Vec<(Partition, i64)>, Result<(), StreamError>) {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}

type Committing = BoxFuture<'static, (Vec<(Partition, i64)>, Result<(), StreamError>)>;

impl Run<'_> {
    async fn serve(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut ended: mpsc::Receiver<(Partition, Result<(), StreamError>)>,
        wish: &mut watch::Receiver<Wish>,
    ) -> Result<(), StreamError> {
        let spec = &self.stream.spec;
        let mut tick = interval(spec.commit_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut committing: Option<Committing> = None;
        // Of a source that has ended: which of its partitions have, too.
        let (mut over, mut through) = (false, Vec::new());
        loop {
            tokio::select! {
                event = events.recv(), if !over => match event {
                    Some(Event::Assigned(partitions)) => self.assigned(partitions)?,
                    Some(Event::Revoked { partitions, lost, done }) => {
                        self.revoked(&partitions, lost).await;
                        drop(done);
                    }
                    Some(Event::Ended) => over = true,
                    Some(Event::Failed(error)) => return Err(error),
                    None => return Err(StreamError::Source("it has ended".to_owned())),
                },
                Some((partition, outcome)) = ended.recv() => {
                    outcome?;
                    through.push(partition);
                }
                _ = tick.tick(), if committing.is_none() => {
                    self.stream.told.lag(&self.source.lag());
                    committing = Some(self.commit(None));
                }
                (positions, outcome) = end_of(&mut committing) => {
                    committing = None;
                    self.committed(&positions, outcome);
                }
                changed = wish.changed() => {
                    let wish = if changed.is_err() { Wish::Stop } else { *wish.borrow_and_update() };
                    self.control = control_of(wish);
                    if wish == Wish::Stop {
                        self.stop(events).await;
                        return Ok(());
                    }
                    self.stream.told.pause(wish == Wish::Pause);
                    for working in self.workers.values() {
                        working.control.send_replace(self.control);
                    }
                }
            }
            if over {
                self.revoked(&std::mem::take(&mut through), false).await;
                if self.workers.is_empty() {
                    return Ok(());
                }
            }
        }
    }

    fn assigned(&mut self, partitions: Vec<(Partition, Inbox)>) -> Result<(), StreamError> {
        self.stream.counters.rebalances.inc();
        for (partition, inbox) in partitions {
            self.stream.told.assigned(&partition);
            let tracker = Arc::new(Tracker::new(Arc::clone(&self.stream.counters)));
            let sessions = Sessions::of(&self.stream.spec, &partition, &self.stream.told)?;
            let (control, told) = watch::channel(self.control);
            let worker = Worker {
                work: Arc::clone(&self.work),
                partition: partition.clone(),
                tracker: Arc::clone(&tracker),
                sessions: sessions.clone(),
                control: told,
            };
            let (source, ends, of) = (Arc::clone(&self.source), self.ends.clone(), partition.clone());
            let (resuming, resumed) = (sessions.clone(), Arc::clone(&tracker));
            let task = tokio::spawn(async move {
                let work = async {
                    let from = match &resuming {
                        Some(sessions) => sessions.load().await?,
                        None => None,
                    };
                    let started = source.start(of.clone(), from).await?;
                    if let Some(sessions) = &resuming {
                        sessions.resume(from, started);
                        if let Some(committed) = started.committed {
                            resumed.begin_at(committed);
                        }
                    }
                    worker.run(inbox).await
                };
                let outcome = work.await;
                // Nobody is to be told where the stream has ended.
                drop(ends.send((of, outcome)).await);
            });
            self.workers.insert(partition, Working { control, tracker, sessions, task });
        }
        Ok(())
    }

    /// Finishes what is in hand of these partitions, and commits it.
    async fn revoked(&mut self, partitions: &[Partition], lost: bool) {
        if partitions.is_empty() {
            return;
        }
        self.stream.counters.rebalances.inc();
        if !lost {
            self.finish(partitions).await;
        }
        for partition in partitions {
            self.workers.remove(partition);
            self.stream.told.revoked(partition);
        }
    }

    async fn finish(&mut self, partitions: &[Partition]) {
        let drain = self.stream.spec.drain;
        let working: Vec<_> = partitions.iter().filter_map(|partition| self.workers.get(partition)).collect();
        for working in &working {
            working.control.send_replace(Control::Finish);
        }
        // One time for all of it, of which what is in hand has the most.
        let until = Instant::now() + drain;
        let idle = join_all(working.iter().map(|working| working.tracker.idle()));
        let hurry = async {
            loop {
                self.sink.hurry();
                tokio::time::sleep(HURRY).await;
            }
        };
        let finished =
            timeout(drain * 2 / 3, futures_util::future::select(Box::pin(idle), Box::pin(hurry))).await;
        if !matches!(finished, Ok(Either::Left(_))) {
            tracing::warn!(stream = %self.stream.spec.name, "what is in hand is not done in time: it is handed back");
        }
        let committing = async {
            let (positions, outcome) = self.commit(Some(partitions)).await;
            let committed = outcome.is_ok();
            self.committed(&positions, outcome);
            if committed {
                self.save(partitions).await;
            }
        };
        if timeout_at(until, committing).await.is_err() {
            tracing::warn!(stream = %self.stream.spec.name, "offsets are not committed in {drain:?}");
        }
    }

    /// Saves the state of the keys of partitions that stand still.
    async fn save(&self, partitions: &[Partition]) {
        for partition in partitions {
            let Some(working) = self.workers.get(partition) else { continue };
            let Some(sessions) = working.sessions.as_ref().filter(|_| working.tracker.is_settled()) else {
                // What was saved before stands, and what came since is answered again in silence.
                continue;
            };
            if let Err(error) = sessions.save(working.tracker.position()).await {
                tracing::warn!(stream = %self.stream.spec.name, %partition, "{error}");
            }
        }
    }

    /// Commits what is done, of all partitions or of some.
    fn commit(&self, only: Option<&[Partition]>) -> Committing {
        let wanted = |partition: &Partition| only.is_none_or(|only| only.contains(partition));
        let positions: Vec<(Partition, i64)> = self
            .workers
            .iter()
            .filter(|(partition, _)| wanted(partition))
            .filter_map(|(partition, working)| Some((partition.clone(), working.tracker.ready()?)))
            .collect();
        let (source, commits) = (Arc::clone(&self.source), self.sink.commits());
        Box::pin(async move {
            let outcome = match positions.is_empty() || commits {
                true => Ok(()),
                false => source.commit(positions.clone()).await,
            };
            (positions, outcome)
        })
    }

    fn committed(&self, positions: &[(Partition, i64)], outcome: Result<(), StreamError>) {
        if let Err(error) = outcome {
            // They are committed with the next ones, or by whoever has the partition then.
            tracing::warn!(stream = %self.stream.spec.name, "{error}");
            return;
        }
        for (partition, position) in positions {
            if let Some(working) = self.workers.get(partition) {
                working.tracker.committed(*position);
            }
        }
        self.stream.told.committed(positions);
    }

    async fn stop(mut self, events: mpsc::Receiver<Event>) {
        let partitions: Vec<Partition> = self.workers.keys().cloned().collect();
        self.finish(&partitions).await;
        self.workers.clear();
        // A rebalance that is on its way need not wait for what nobody does any more.
        drop(events);
        release(&*self.source).await;
    }
}

/// Hands back what was brought and is not committed.
async fn release(source: &dyn Source) {
    if timeout(RELEASE, source.release()).await.is_err() {
        tracing::warn!("messages are not handed back in {RELEASE:?}");
    }
}
