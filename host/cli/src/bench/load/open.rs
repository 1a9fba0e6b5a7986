//! The open loop: requests are sent at their times, whatever became of the earlier ones.
//!
//! One idle thread at a time leads: it waits until the next request is due, hands the lead to the thread that became
//! idle last, and sends. So a request waits for no other thread to wake, and no more connections are opened than the
//! load takes. Where all threads are busy the lead waits for the first that is not, and its request goes out late:
//! its latency counts from its time all the same. What is due and still waits when the run ends is counted as unsent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::Instant;

use super::arrivals::Times;
use super::{Connection, Limit, Measured, Schedule, Stop, on_each};
use crate::failure::Failure;

pub(super) fn run(
    connections: &mut [Connection],
    times: Times,
    limit: Limit,
    stop: &Stop,
) -> Result<Measured, Failure> {
    let threads = connections.len();
    let begin = || Queue::new(times, limit, threads, stop);
    let (queue, record) = on_each(connections, begin, |queue, connection, record| {
        let mut first = true;
        while let Some(due) = queue.next(first) {
            first = false;
            record.add(connection.exchange(Some(due)));
        }
    })?;
    let interrupted = stop.is_set();
    let mut elapsed = queue.started.elapsed();
    if let Limit::Duration(duration) = limit
        && !interrupted
    {
        // The time after the last request is part of the load.
        elapsed = elapsed.max(duration);
    }
    let schedule = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner).schedule;
    Ok(Measured { record, elapsed, interrupted, schedule: Some(schedule) })
}

/// What is to be sent, and the threads that wait for it.
struct Queue<'a> {
    state: Mutex<State>,
    started: Instant,
    /// Nothing is sent from then on.
    end: Option<Instant>,
    threads: usize,
    stop: &'a Stop,
}

struct State {
    times: Times,
    /// The thread that takes the next request.
    leader: Option<ThreadId>,
    /// Those that wait for the lead; the last became idle last.
    idle: Vec<Thread>,
    /// How many send at the moment.
    busy: usize,
    ended: bool,
    schedule: Schedule,
}

impl<'a> Queue<'a> {
    fn new(times: Times, limit: Limit, threads: usize, stop: &'a Stop) -> Self {
        let started = Instant::now();
        let end = match limit {
            Limit::Duration(duration) => started.checked_add(duration),
            Limit::Requests(_) => None,
        };
        let state = State {
            times,
            leader: None,
            idle: Vec::with_capacity(threads),
            busy: 0,
            ended: false,
            schedule: Schedule::default(),
        };
        Self { state: Mutex::new(state), started, end, threads, stop }
    }

    /// Waits for the time of a request that the calling thread is to send, and returns it. `first` is whether the
    /// thread has sent none before.
    fn next(&self, first: bool) -> Option<Instant> {
        let mut state = self.lock();
        let all_busy = state.busy == self.threads;
        if !first {
            state.busy -= 1;
        }
        let mut state = self.lead(state)?;
        let due = self.take(&mut state)?;
        state.schedule.blocked += u64::from(all_busy && due < Instant::now());
        drop(state);
        self.stop.wait_until(due);
        let mut state = self.lock();
        if self.stop.is_set() {
            self.end(&mut state, Some(due));
            return None;
        }
        state.schedule.due += 1;
        state.busy += 1;
        self.hand_over(&mut state);
        Some(due)
    }

    /// Waits for the lead; `None` once all is over.
    fn lead<'s>(&'s self, mut state: MutexGuard<'s, State>) -> Option<MutexGuard<'s, State>> {
        let me = thread::current();
        if state.leader.is_none() {
            state.leader = Some(me.id());
        } else if !state.ended {
            state.idle.push(me.clone());
        }
        while state.leader != Some(me.id()) && !state.ended {
            drop(state);
            thread::park();
            state = self.lock();
        }
        (!state.ended).then_some(state)
    }

    /// The next request's time.
    fn take(&self, state: &mut State) -> Option<Instant> {
        let due = state.times.next().and_then(|time| self.started.checked_add(time));
        let over = self.stop.is_set() || self.end.is_some_and(|end| Instant::now() >= end);
        if due.is_none() || over {
            self.end(state, due);
            return None;
        }
        due
    }

    /// Sends everybody home. Of `next` and those after it, the ones whose time has come were not sent.
    fn end(&self, state: &mut State, next: Option<Instant>) {
        let now = Instant::now();
        let mut waiting = next;
        while let Some(due) = waiting
            && due <= now
        {
            state.schedule.due += 1;
            state.schedule.unsent += 1;
            waiting = state.times.next().and_then(|time| self.started.checked_add(time));
        }
        state.ended = true;
        for thread in state.idle.drain(..) {
            thread.unpark();
        }
    }

    fn hand_over(&self, state: &mut State) {
        let next = state.idle.pop();
        state.leader = next.as_ref().map(Thread::id);
        if let Some(next) = next {
            next.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::bench::Arrivals;

    /// Runs so many threads over a schedule; how many requests they sent.
    fn work(queue: &Queue<'_>, work: impl Fn() + Sync) -> u64 {
        let sent = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..queue.threads {
                scope.spawn(|| {
                    let mut first = true;
                    while let Some(due) = queue.next(first) {
                        assert!(due <= Instant::now(), "sent before its time");
                        first = false;
                        sent.fetch_add(1, Ordering::Relaxed);
                        work();
                    }
                });
            }
        });
        sent.into_inner()
    }

    #[test]
    fn each_request_is_sent_once() {
        let (limit, stop) = (Limit::Requests(500), Stop::default());
        let queue = Queue::new(Times::new(20_000.0, Arrivals::Poisson, limit, 1), limit, 8, &stop);
        assert_eq!(work(&queue, || {}), 500);
        let schedule = queue.lock().schedule;
        assert_eq!((schedule.due, schedule.unsent), (500, 0));
    }

    #[test]
    fn what_waits_when_the_time_is_up_is_counted() {
        let limit = Limit::Duration(Duration::from_millis(500));
        let stop = Stop::default();
        let queue = Queue::new(Times::new(200.0, Arrivals::Constant, limit, 1), limit, 2, &stop);
        let end = queue.end.unwrap();
        // Each takes longer than the whole run: the others' time comes when both threads are busy.
        let sent = work(&queue, || thread::sleep(end.saturating_duration_since(Instant::now())));
        let schedule = queue.lock().schedule;
        assert_eq!((sent, schedule.due, schedule.unsent), (2, 100, 98));
    }

    #[test]
    fn what_was_due_while_all_were_busy_is_blocked() {
        let limit = Limit::Requests(4);
        let stop = Stop::default();
        let queue = Queue::new(Times::new(1e6, Arrivals::Constant, limit, 1), limit, 2, &stop);
        let both = Barrier::new(2);
        let meet = || {
            both.wait();
        };
        assert_eq!(work(&queue, meet), 4);
        let schedule = queue.lock().schedule;
        assert!((1..=2).contains(&schedule.blocked), "{schedule:?}");
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let limit = Limit::Requests(u64::MAX);
        let stop = Stop::default();
        let queue = Queue::new(Times::new(0.001, Arrivals::Constant, limit, 1), limit, 3, &stop);
        let sent = work(&queue, || stop.set());
        let schedule = queue.lock().schedule;
        assert_eq!((sent, schedule.due, schedule.unsent), (1, 1, 0));
    }
}
