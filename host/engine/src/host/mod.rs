//! What a guest reaches: the state of one call, and the host's side of each import.

pub(crate) mod budget;
#[expect(unreachable_pub, reason = "the bindings re-export its resources, which takes `pub`")]
pub(crate) mod nn;
pub(crate) mod reads;
mod services;
#[expect(unreachable_pub, reason = "as for `nn`")]
pub(crate) mod tensors;

use std::sync::Arc;

use vespid_types::{Deadline, Priority, Timeline};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::log::Lines;
use crate::plugin::{Call, PluginContext};
use budget::Budget;

/// How many handles an instance may hold at once.
const MAX_HANDLES: usize = 1 << 16;

/// The state of an instance, inside its store.
pub(crate) struct HostState {
    pub(crate) context: Arc<PluginContext>,
    pub(crate) budget: Budget,
    pub(crate) call: CallState,
    table: ResourceTable,
    /// Tensors in the table.
    tensors: usize,
    /// Made when a guest first calls WASI: most never do.
    wasi: Option<WasiCtx>,
}

/// What belongs to the call that the instance answers.
pub(crate) struct CallState {
    pub(crate) deadline: Deadline,
    pub(crate) priority: Priority,
    pub(crate) request_id: Option<String>,
    /// How many calls of other models led to this one.
    pub(crate) depth: u8,
    /// Is told how far the call is.
    pub(crate) timeline: Arc<Timeline>,
    log: Lines,
}

impl CallState {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            deadline: call.deadline,
            priority: call.priority,
            request_id: call.id.clone(),
            depth: call.depth,
            timeline: Arc::clone(&call.timeline),
            log: Lines::default(),
        }
    }

    /// Of a call that nobody made: the plugin is to describe itself.
    pub(crate) fn own(deadline: Deadline) -> Self {
        Self {
            deadline,
            priority: Priority::ONLINE,
            request_id: None,
            depth: 0,
            timeline: Arc::default(),
            log: Lines::default(),
        }
    }
}

impl HostState {
    pub(crate) fn new(context: Arc<PluginContext>, call: CallState) -> Self {
        let budget = Budget::new(context.memory_limit.as_u64());
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { context, budget, call, table, tensors: 0, wasi: None }
    }

    /// Whether the guest holds tensors, which after a call are somebody's who is gone.
    pub(crate) fn holds_tensors(&self) -> bool {
        self.tensors > 0
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // No files, no network, no environment, no standard streams: only clocks and random numbers do anything.
        let ctx = self.wasi.get_or_insert_with(|| WasiCtx::builder().build());
        WasiCtxView { ctx, table: &mut self.table }
    }
}
