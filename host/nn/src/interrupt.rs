//! Ending a run that nobody waits for any more.
//!
//! Contract: a run whose callers have all left, because their deadlines passed or their clients went, is ended where its
//! library can end one: ONNX Runtime between two operators, rten and OpenVINO, as they are reached here, not at all. A
//! caller leaves by dropping its end of the reply's channel, which wakes what [`Interrupt`] left there. Cost: an
//! allocation a run, and a look at each call in it. Left out: a call that leaves a batch which others wait for is still computed.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::sync::oneshot;

/// Tells a run when the last of its callers has left.
pub struct Interrupt(Arc<Run>);

struct Run(Mutex<State>);

struct State {
    /// Callers that wait.
    waiting: usize,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Interrupt {
    /// Of a run that has these callers.
    pub(crate) fn of<'a, T: 'a>(callers: impl ExactSizeIterator<Item = &'a mut oneshot::Sender<T>>) -> Self {
        let run = Arc::new(Run(Mutex::new(State { waiting: callers.len(), stop: None })));
        let waker = Waker::from(Arc::clone(&run));
        for caller in callers {
            if caller.poll_closed(&mut Context::from_waker(&waker)).is_ready() {
                run.change(|state| state.waiting -= 1);
            }
        }
        Self(run)
    }

    /// Has `stop` called once nobody waits any more, from whatever thread: at once where it is so already, and perhaps
    /// when the run is over.
    pub fn on_abandoned(&self, stop: impl FnOnce() + Send + 'static) {
        self.0.change(|state| state.stop = Some(Box::new(stop)));
    }
}

impl Run {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let stop = {
            // Nothing panics under the lock.
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            if state.waiting == 0 { state.stop.take() } else { None }
        };
        if let Some(stop) = stop {
            stop();
        }
    }
}

impl Wake for Run {
    /// The channel wakes once, when its receiver goes before it has got an answer.
    fn wake(self: Arc<Self>) {
        self.change(|state| state.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_last_to_leave_ends_the_run() {
        let (mut first, first_waits) = oneshot::channel::<()>();
        let (mut second, second_waits) = oneshot::channel::<()>();
        let stops = Arc::new(AtomicUsize::new(0));
        let count = || {
            let stops = Arc::clone(&stops);
            move || {
                stops.fetch_add(1, Ordering::SeqCst);
            }
        };
        let before = Interrupt::of([&mut first, &mut second].into_iter());
        before.on_abandoned(count());
        drop(first_waits);
        assert_eq!(stops.load(Ordering::SeqCst), 0);
        // The next run of the same calls has an interrupt of its own, and who left is not waited for.
        let interrupt = Interrupt::of([&mut first, &mut second].into_iter());
        interrupt.on_abandoned(count());
        drop(second_waits);
        assert_eq!(stops.load(Ordering::SeqCst), 1);
        // Where all have left, whatever would be run is ended.
        Interrupt::of([&mut first, &mut second].into_iter()).on_abandoned(count());
        assert_eq!(stops.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn who_got_an_answer_did_not_leave() {
        let (mut caller, waits) = oneshot::channel();
        let interrupt = Interrupt::of([&mut caller].into_iter());
        interrupt.on_abandoned(|| panic!("it was answered"));
        caller.send(1).unwrap();
        assert_eq!(waits.blocking_recv(), Ok(1));
    }
}
