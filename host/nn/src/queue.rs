//! The bounded queue of a lane: many async tasks push, the lane's threads pop batches.
//!
//! Contract: at most `limit` entries wait in each priority class; one more is refused at once, after those whose caller
//! left have made room. The next batch begins with the entry whose turn it is: the one that came first, where an entry of
//! a less urgent class counts as having come later by its class's [`handicap`], and by [`LEVEL`] for each level that its
//! caller gives way. So the more urgent go first, and none waits for ever. Into the batch come, up to [`Policy::max_rows`], those that [`Entry::joins`] it, the most urgent
//! first. What waits when the queue closes is still popped. Cost: a push wakes a thread only where one sleeps, and does
//! so after it has let go of the lock - the channels of std wake while they hold one, at the price of two more context
//! switches a call. A pop looks at what waits once, and only where there is more than one entry.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vespid_types::{Mode, Priority};

/// Something that waits.
pub(crate) trait Entry {
    /// Rows that it brings to a batch.
    fn rows(&self) -> u64;

    /// Whether it can be run in one batch with `first`.
    fn joins(&self, first: &Self) -> bool;

    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
}

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Rows of a batch; an entry with more makes one alone. 1 makes no batches.
    pub(crate) max_rows: u64,
    /// Rows for which a batch waits no longer.
    pub(crate) preferred_rows: u64,
    /// How long the first entry of a batch waits for others, where fewer rows than preferred are there.
    pub(crate) max_delay: Duration,
}

/// How much later than it did an entry of this mode counts as having come.
fn handicap(mode: Mode) -> Duration {
    match mode {
        Mode::Online => Duration::ZERO,
        Mode::Stream => Duration::from_millis(100),
        Mode::Batch => Duration::from_secs(1),
    }
}

/// How much later for each level of its priority.
const LEVEL: Duration = Duration::from_millis(10);

/// Why a value was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    Full { limit: usize },
    Closed,
}

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    limit: usize,
    policy: Policy,
}

struct State<T> {
    /// A queue for each mode, in the order of [`Mode::ALL`].
    classes: [VecDeque<Waiting<T>>; Mode::ALL.len()],
    sleeping: usize,
    closed: bool,
}

struct Waiting<T> {
    entry: T,
    came: Instant,
    /// When it counts as having come among those of its mode, which wait in this order.
    counts: Instant,
}

impl<T: Entry> Queue<T> {
    pub(crate) fn new(limit: usize, policy: Policy) -> Self {
        let state = State { classes: Default::default(), sleeping: 0, closed: false };
        Self { state: Mutex::new(state), wake: Condvar::new(), limit, policy }
    }

    pub(crate) fn push(&self, priority: Priority, entry: T) -> Result<(), PushError> {
        let came = Instant::now();
        let waiting = Waiting { entry, came, counts: came + LEVEL * u32::from(priority.level) };
        let sleeping = {
            let mut state = self.lock();
            if state.closed {
                return Err(PushError::Closed);
            }
            let class = state.class(priority.mode);
            if class.len() >= self.limit {
                class.retain(|waiting| !waiting.entry.is_abandoned());
            }
            if class.len() >= self.limit {
                return Err(PushError::Full { limit: self.limit });
            }
            let behind = class.iter().rev().take_while(|other| other.counts > waiting.counts).count();
            class.insert(class.len() - behind, waiting);
            state.sleeping
        };
        if sleeping > 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for the next batch, which has at least one entry; `None` when the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Vec<T>> {
        let mut state = self.lock();
        loop {
            let Some((mode, came)) = state.next() else {
                if state.closed {
                    return None;
                }
                state = self.sleep(state, None);
                continue;
            };
            if let Some(delay) = self.delay(&state, mode, came) {
                state = self.sleep(state, Some(delay));
                continue;
            }
            let batch = state.take(mode, self.policy.max_rows);
            // The push of what is left may have woken this thread rather than one that has nothing to do.
            let more = state.sleeping > 0 && state.next().is_some();
            drop(state);
            if more {
                self.wake.notify_one();
            }
            return Some(batch);
        }
    }

    /// How much longer the first entry of the next batch is to wait for others.
    fn delay(&self, state: &State<T>, mode: Mode, came: Instant) -> Option<Duration> {
        let Policy { preferred_rows, max_delay, .. } = self.policy;
        if max_delay.is_zero() || state.closed {
            return None;
        }
        let left = max_delay.checked_sub(came.elapsed()).filter(|left| !left.is_zero())?;
        // What cannot run with others waits for none.
        (1..preferred_rows).contains(&state.rows_with(mode)).then_some(left)
    }

    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State<T>>,
        time: Option<Duration>,
    ) -> MutexGuard<'a, State<T>> {
        state.sleeping += 1;
        let mut state = match time {
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        };
        state.sleeping -= 1;
        state
    }

    /// How many wait, of all classes.
    pub(crate) fn len(&self) -> usize {
        self.lock().classes.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Entry> State<T> {
    fn class(&mut self, mode: Mode) -> &mut VecDeque<Waiting<T>> {
        let [online, stream, batch] = &mut self.classes;
        match mode {
            Mode::Online => online,
            Mode::Stream => stream,
            Mode::Batch => batch,
        }
    }

    /// The mode whose first entry has its turn, and when that came.
    fn next(&self) -> Option<(Mode, Instant)> {
        let heads = Mode::ALL.into_iter().zip(&self.classes);
        heads
            .filter_map(|(mode, class)| Some((mode, class.front()?)))
            .min_by_key(|(mode, first)| first.counts + handicap(*mode))
            .map(|(mode, first)| (mode, first.came))
    }

    /// The rows that wait and could go with the first entry of `mode`, its own among them; 0 where it goes alone.
    fn rows_with(&self, mode: Mode) -> u64 {
        let first = Mode::ALL.into_iter().zip(&self.classes).find(|(own, _)| *own == mode);
        let Some(first) = first.and_then(|(_, class)| class.front()) else { return 0 };
        let waiting = self.classes.iter().flatten();
        let rows = waiting.filter(|other| other.entry.joins(&first.entry)).map(|other| other.entry.rows());
        rows.fold(0, u64::saturating_add)
    }

    /// Takes the first entry of `mode`, and what joins it.
    fn take(&mut self, mode: Mode, max_rows: u64) -> Vec<T> {
        let Some(Waiting { entry: first, .. }) = self.class(mode).pop_front() else { return Vec::new() };
        let mut rows = first.rows();
        let mut batch = vec![first];
        for class in &mut self.classes {
            if rows >= max_rows {
                break;
            }
            gather(class, &mut batch, &mut rows, max_rows);
        }
        batch
    }
}

/// Moves what joins the batch out of a class, in order, as long as there is room.
fn gather<T: Entry>(class: &mut VecDeque<Waiting<T>>, batch: &mut Vec<T>, rows: &mut u64, max_rows: u64) {
    let mut position = 0;
    while *rows < max_rows
        && let Some(waiting) = class.get(position)
    {
        let entry = &waiting.entry;
        let total = rows.saturating_add(entry.rows());
        let joins = batch.first().is_some_and(|first| total <= max_rows && entry.joins(first));
        if !joins {
            position += 1;
            continue;
        }
        *rows = total;
        // Nearly always the first: those that do not join are the exception.
        batch.extend(class.remove(position).map(|waiting| waiting.entry));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Job {
        name: usize,
        kind: char,
        rows: u64,
        abandoned: Arc<AtomicBool>,
    }

    impl Entry for Job {
        fn rows(&self) -> u64 {
            self.rows
        }

        fn joins(&self, first: &Self) -> bool {
            self.kind == first.kind && self.kind != ALONE
        }

        fn is_abandoned(&self) -> bool {
            self.abandoned.load(Ordering::Relaxed)
        }
    }

    /// A kind that joins nothing.
    const ALONE: char = '-';

    fn job(name: usize, kind: char, rows: u64) -> Job {
        Job { name, kind, rows, abandoned: Arc::default() }
    }

    const NO_WAIT: Policy = Policy { max_rows: 8, preferred_rows: 8, max_delay: Duration::ZERO };

    fn names(batch: Option<Vec<Job>>) -> Vec<usize> {
        batch.unwrap().iter().map(|job| job.name).collect()
    }

    #[test]
    fn what_joins_is_taken_up_to_the_rows_there_is_room_for() {
        let queue = Queue::new(16, NO_WAIT);
        for (name, kind, rows) in
            [(0, 'a', 3), (1, 'b', 1), (2, 'a', 4), (3, 'a', 2), (4, 'a', 1), (5, 'b', 9)]
        {
            queue.push(Priority::ONLINE, job(name, kind, rows)).unwrap();
        }
        assert_eq!(queue.len(), 6);
        // 3 does not fit any more, 4 does.
        assert_eq!(names(queue.pop()), [0, 2, 4]);
        assert_eq!(names(queue.pop()), [1]);
        assert_eq!(names(queue.pop()), [3]);
        assert_eq!(names(queue.pop()), [5], "more rows than a batch may have go alone");
        queue.close();
        assert!(queue.pop().is_none());
    }

    #[test]
    fn a_full_class_refuses_and_leaves_room_in_the_others() {
        let queue = Queue::new(1, NO_WAIT);
        let left = job(0, 'a', 1);
        let leave = Arc::clone(&left.abandoned);
        queue.push(Priority::BATCH, left).unwrap();
        assert_eq!(queue.push(Priority::BATCH, job(1, 'a', 1)), Err(PushError::Full { limit: 1 }));
        queue.push(Priority::ONLINE, job(2, 'b', 1)).unwrap();
        leave.store(true, Ordering::Relaxed);
        queue.push(Priority::BATCH, job(3, 'a', 1)).unwrap();
        queue.close();
        assert_eq!(queue.push(Priority::STREAM, job(4, 'a', 1)), Err(PushError::Closed));
        assert_eq!([names(queue.pop()), names(queue.pop())], [[2], [3]]);
    }

    #[test]
    fn the_urgent_go_first_and_nobody_waits_for_ever() {
        let queue = Queue::new(16, Policy { max_rows: 1, ..NO_WAIT });
        queue.push(Priority::BATCH, job(0, 'a', 1)).unwrap();
        queue.push(Priority::STREAM, job(1, 'a', 1)).unwrap();
        queue.push(Priority::ONLINE, job(2, 'a', 1)).unwrap();
        assert_eq!(names(queue.pop()), [2]);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        queue.lock().class(Mode::Batch).front_mut().unwrap().counts = long_ago;
        queue.push(Priority::ONLINE, job(3, 'a', 1)).unwrap();
        assert_eq!([names(queue.pop()), names(queue.pop()), names(queue.pop())], [[0], [3], [1]]);
    }

    #[test]
    fn within_a_mode_the_lower_level_goes_first() {
        let queue = Queue::new(16, Policy { max_rows: 1, ..NO_WAIT });
        for (name, level) in [(0, 2), (1, 0), (2, 100), (3, 2), (4, 1)] {
            queue.push(Priority { level, ..Priority::ONLINE }, job(name, 'a', 1)).unwrap();
        }
        let order: Vec<usize> = (0..5).flat_map(|_| names(queue.pop())).collect();
        assert_eq!(order, [1, 4, 0, 3, 2]);
    }

    #[test]
    fn a_batch_is_filled_with_the_urgent_first() {
        let queue = Queue::new(16, Policy { max_rows: 3, ..NO_WAIT });
        for (name, priority) in
            [(0, Priority::BATCH), (1, Priority::ONLINE), (2, Priority::ONLINE), (3, Priority::STREAM)]
        {
            queue.push(priority, job(name, 'a', 1)).unwrap();
        }
        assert_eq!(names(queue.pop()), [1, 2, 3]);
        assert_eq!(names(queue.pop()), [0]);
    }

    #[test]
    fn a_delay_ends_when_the_preferred_rows_are_there_or_the_time_is_up() {
        let delayed = Policy { max_rows: 8, preferred_rows: 2, max_delay: Duration::from_secs(3600) };
        let queue = Arc::new(Queue::new(16, delayed));
        queue.push(Priority::ONLINE, job(0, 'a', 1)).unwrap();
        let popping = Arc::clone(&queue);
        let popped = std::thread::spawn(move || names(popping.pop()));
        queue.push(Priority::ONLINE, job(1, 'b', 5)).unwrap();
        queue.push(Priority::ONLINE, job(2, 'a', 1)).unwrap();
        assert_eq!(popped.join().unwrap(), [0, 2]);

        // What runs with no other does not wait for one.
        let queue = Queue::new(16, delayed);
        queue.push(Priority::ONLINE, job(0, ALONE, 1)).unwrap();
        assert_eq!(names(queue.pop()), [0]);

        let queue = Queue::new(16, Policy { max_delay: Duration::from_millis(1), ..delayed });
        queue.push(Priority::ONLINE, job(0, 'a', 1)).unwrap();
        assert_eq!(names(queue.pop()), [0]);
    }

    #[test]
    fn sleeping_threads_are_woken_by_values_and_by_the_close() {
        let queue = Arc::new(Queue::new(1000, NO_WAIT));
        let popping = || {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || std::iter::from_fn(|| queue.pop()).flatten().count())
        };
        let threads = [popping(), popping()];
        for name in 0..1000 {
            queue.push(Priority::ONLINE, job(name, 'a', 1)).unwrap();
            std::thread::yield_now();
        }
        queue.close();
        assert_eq!(threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>(), 1000);
    }
}
