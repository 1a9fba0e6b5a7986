//! The user's wish to end early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Hint};

/// Set once, for good; threads that wait for a time are woken by it.
#[derive(Default)]
pub(in crate::bench) struct Stop {
    stopped: AtomicBool,
    gate: Mutex<()>,
    changed: Condvar,
}

/// The exit code of what Ctrl-C ended.
const INTERRUPTED: i32 = 130;

impl Stop {
    /// One that Ctrl-C sets. A second Ctrl-C ends the process, for an answer may be long in coming.
    pub(in crate::bench) fn on_interrupt() -> Result<Arc<Self>, Failure> {
        const UNABLE: &str = "Ctrl-C cannot be listened for";
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .hint(UNABLE, "there may be too many open files")?;
        let mut interrupts = {
            let _within = runtime.enter();
            signal(SignalKind::interrupt()).hint(UNABLE, "report this")?
        };
        let stop = Arc::new(Self::default());
        let ours = stop.clone();
        let listen = move || {
            runtime.block_on(async {
                interrupts.recv().await;
                ours.set();
                interrupts.recv().await;
                std::process::exit(INTERRUPTED);
            });
        };
        thread::Builder::new().spawn(listen).hint(UNABLE, "there may be too many threads")?;
        Ok(stop)
    }

    pub(in crate::bench) fn is_set(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(in crate::bench) fn set(&self) {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Waits until then, or until it is set.
    pub(super) fn wait_until(&self, then: Instant) {
        let left = || then.saturating_duration_since(Instant::now());
        if left().is_zero() {
            return;
        }
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_set() && !left().is_zero() {
            (gate, _) = self.changed.wait_timeout(gate, left()).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
