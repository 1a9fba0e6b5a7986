//! What a guest reaches: the state of one call, and the host's side of each import.

mod budget;
#[expect(unreachable_pub, reason = "the bindings re-export its resources, which takes `pub`")]
pub(crate) mod nn;
mod services;
#[expect(unreachable_pub, reason = "as for `nn`")]
pub(crate) mod tensors;

use std::sync::Arc;

use vespid_types::Deadline;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::plugin::PluginContext;
use budget::Budget;

/// How many handles a call may hold at once.
const MAX_HANDLES: usize = 1 << 16;

/// The state of one call, inside its store.
pub(crate) struct HostState {
    pub(crate) context: Arc<PluginContext>,
    pub(crate) budget: Budget,
    pub(crate) deadline: Deadline,
    request_id: Option<String>,
    depth: u8,
    log_lines: u32,
    table: ResourceTable,
    /// Made when a guest first calls WASI: most never do.
    wasi: Option<WasiCtx>,
}

impl HostState {
    pub(crate) fn new(
        context: Arc<PluginContext>,
        deadline: Deadline,
        request_id: Option<String>,
        depth: u8,
    ) -> Self {
        let budget = Budget::new(context.memory_limit.as_u64());
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { context, budget, deadline, request_id, depth, log_lines: 0, table, wasi: None }
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // No files, no network, no environment, no standard streams: only clocks and random numbers do anything.
        let ctx = self.wasi.get_or_insert_with(|| WasiCtx::builder().build());
        WasiCtxView { ctx, table: &mut self.table }
    }
}
