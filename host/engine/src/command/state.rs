//! The state of one call of a command.
//!
//! The glue and the streams keep what is theirs in places of their own, where the store is out of reach: what they have
//! to share stands behind one lock, which nothing holds while it waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Level;
use vespid_types::{Deadline, ErrorCode, Priority, Timeline, note_copy};
use wasmtime::ResourceLimiter;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi_nn::witx::WasiNnCtx;

use super::nn::{Context, Registry};
use super::signature::Input;
use super::streams::{Line, Stderr, Stdout};
use crate::error::Refusal;
use crate::host::budget::Budget;
use crate::log::Lines;
use crate::plugin::PluginContext;

/// The state of an instance, inside its store.
pub(crate) struct CommandState {
    pub(super) shared: Shared,
    pub(super) wasi: WasiP1Ctx,
    pub(super) nn: WasiNnCtx,
    pub(super) deadline: Deadline,
    pub(super) priority: Priority,
    /// Is told how far the call is.
    pub(super) timeline: Arc<Timeline>,
}

/// What a call is given.
pub(super) struct Given<'a> {
    pub(super) context: Arc<PluginContext>,
    pub(super) config: &'a [(String, String)],
    pub(super) input: Input,
    /// Bytes that are kept free before what is written to the standard output.
    pub(super) prefix: usize,
    pub(super) deadline: Deadline,
    pub(super) priority: Priority,
    pub(super) timeline: Arc<Timeline>,
}

impl CommandState {
    pub(super) fn new(given: Given<'_>) -> Self {
        let Given { context, config, input, prefix, deadline, priority, timeline } = given;
        let Input { shape, content } = input;
        let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let (model, graphs) = (context.model.to_string(), context.graphs.clone());
        let shared = Shared::new(context, Arc::clone(&timeline), prefix);
        let wasi = WasiCtx::builder()
            .arg(model)
            .env("VESPID_INPUT_SHAPE", extents.join(","))
            .envs(config)
            .stdin(MemoryInputPipe::new(content))
            .stdout(Stdout(shared.clone()))
            .stderr(Stderr(shared.clone()))
            .build_p1();
        let nn = WasiNnCtx::new([], Registry::new(graphs, shared.clone()).into());
        Self { shared, wasi, nn, deadline, priority, timeline }
    }
}

/// The call's part behind the lock. Clones share it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Inner>>);

pub(super) struct Inner {
    pub(super) budget: Budget,
    /// Execution contexts, in the order in which they were made.
    pub(super) contexts: Vec<Context>,
    context: Arc<PluginContext>,
    timeline: Arc<Timeline>,
    log: Lines,
    output: Vec<u8>,
    line: Line,
    said: Option<String>,
    refused: Option<Refusal>,
}

/// What is left of a call.
pub(super) struct Ended {
    /// Whether it asked for more memory than it may have.
    pub(super) exceeded: bool,
    pub(super) output: Vec<u8>,
    /// The last line of its standard error.
    pub(super) said: Option<String>,
    pub(super) refused: Option<Refusal>,
}

impl Shared {
    fn new(context: Arc<PluginContext>, timeline: Arc<Timeline>, prefix: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            budget: Budget::new(context.memory_limit.as_u64()),
            contexts: Vec::new(),
            context,
            timeline,
            log: Lines::default(),
            output: vec![0; prefix],
            line: Line::default(),
            said: None,
            refused: None,
        })))
    }

    /// Nothing is left half done where a panic could be, so that a poisoned lock is as good as any.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is left of the call.
    pub(super) fn end(&self) -> Ended {
        let mut inner = self.lock();
        if let Some(line) = inner.line.end() {
            inner.say(line);
        }
        Ended {
            exceeded: inner.budget.exceeded(),
            output: std::mem::take(&mut inner.output),
            said: inner.said.take(),
            refused: inner.refused.take(),
        }
    }
}

impl Inner {
    /// Takes what the guest writes to its standard output; `false` where there is no memory left for it.
    #[must_use]
    pub(super) fn write(&mut self, data: &[u8]) -> bool {
        if !self.budget.take(data.len()) {
            return false;
        }
        note_copy(data.len());
        self.output.extend_from_slice(data);
        true
    }

    /// Takes what the guest writes to its standard error.
    pub(super) fn report(&mut self, mut data: &[u8]) {
        while let Some(line) = self.line.take(&mut data) {
            self.say(line);
        }
    }

    fn say(&mut self, line: String) {
        self.log.write(&self.context, &self.timeline, Level::INFO, &line);
        if !line.trim().is_empty() {
            self.said = Some(line);
        }
    }

    /// Notes why wasi-nn refuses something, for its error codes say next to nothing.
    pub(super) fn refuse(&mut self, code: ErrorCode, message: String) {
        self.log.write(&self.context, &self.timeline, Level::WARN, &format!("wasi-nn: {message}"));
        self.refused = Some(Refusal { code, message });
    }
}

impl ResourceLimiter for Shared {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.lock().budget.memory_growing(current, desired, maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.lock().budget.table_growing(current, desired, maximum)
    }
}
