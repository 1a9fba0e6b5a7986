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
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::grants::Grants;
use crate::log::Lines;
use crate::outbound::{Outbound, Outgoing};
use crate::plugin::{Call, Callers, PluginContext};
use budget::Budget;

/// How many handles an instance may hold at once.
const MAX_HANDLES: usize = 1 << 16;
/// And of WASI's: files, streams, headers. As many as a process has usually.
const MAX_WASI_HANDLES: usize = 1 << 10;
/// Bytes of the headers of one request that a guest writes, as they are held.
const MAX_FIELDS: usize = 16 << 10;

/// The state of an instance, inside its store.
pub(crate) struct HostState {
    pub(crate) context: Arc<PluginContext>,
    pub(crate) budget: Budget,
    pub(crate) call: CallState,
    table: ResourceTable,
    /// Tensors in the table.
    tensors: usize,
    /// Made when a guest first calls WASI: most never do.
    wasi: Option<Box<Wasi>>,
    /// Where the plugin may ask others over HTTP.
    outbound: Option<Arc<Outbound>>,
    /// Made when a guest first calls it in the call.
    http: Option<Box<Http>>,
}

struct Wasi {
    ctx: WasiCtx,
    /// What WASI holds for the guest, `wasi:http` included: apart from the tensors, for it is not charged to the budget.
    table: ResourceTable,
}

struct Http {
    ctx: WasiHttpCtx,
    outgoing: Outgoing,
}

/// What belongs to the call that the instance answers.
pub(crate) struct CallState {
    pub(crate) deadline: Deadline,
    pub(crate) priority: Priority,
    pub(crate) request_id: Option<String>,
    /// The models whose calls led to this one.
    pub(crate) callers: Callers,
    /// Is told how far the call is.
    pub(crate) timeline: Arc<Timeline>,
    /// Whether a graph or a model that the call asked refused it at its door.
    pub(crate) was_refused: bool,
    log: Lines,
}

impl CallState {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            deadline: call.deadline,
            priority: call.priority,
            request_id: call.id.clone(),
            callers: call.callers.clone(),
            timeline: Arc::clone(&call.timeline),
            was_refused: false,
            log: Lines::default(),
        }
    }

    /// Of a call that nobody made: the plugin is to describe itself.
    pub(crate) fn own(deadline: Deadline) -> Self {
        Self {
            deadline,
            priority: Priority::ONLINE,
            request_id: None,
            callers: Callers::default(),
            timeline: Arc::default(),
            was_refused: false,
            log: Lines::default(),
        }
    }
}

impl HostState {
    pub(crate) fn new(context: Arc<PluginContext>, outbound: Option<Arc<Outbound>>, call: CallState) -> Self {
        let budget = Budget::new(context.memory_limit.as_u64());
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { context, budget, call, table, tensors: 0, wasi: None, outbound, http: None }
    }

    /// Has an instance that has answered others begin a call.
    pub(crate) fn begin(&mut self, call: CallState) {
        self.call = call;
        self.budget.begin();
        self.http = None;
    }

    /// Whether the guest holds what is the call's: tensors, or requests that have not ended. After the call they are
    /// somebody's who is gone.
    pub(crate) fn holds_what_is_the_call_s(&self) -> bool {
        self.tensors > 0 || self.http.as_ref().is_some_and(|http| http.outgoing.is_open())
    }

    fn wasi<'a>(wasi: &'a mut Option<Box<Wasi>>, grants: &Grants) -> &'a mut Wasi {
        wasi.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(MAX_WASI_HANDLES);
            Box::new(Wasi { ctx: grants.wasi(), table })
        })
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { ctx, table } = Self::wasi(&mut self.wasi, &self.context.grants);
        WasiCtxView { ctx, table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Wasi { table, .. } = Self::wasi(&mut self.wasi, &self.context.grants);
        let Http { ctx, outgoing } = &mut **self.http.get_or_insert_with(|| {
            let mut ctx = WasiHttpCtx::new();
            ctx.set_field_size_limit(MAX_FIELDS);
            let CallState { deadline, timeline, .. } = &self.call;
            let outgoing = Outgoing::new(&self.context, self.outbound.clone(), *deadline, timeline);
            Box::new(Http { ctx, outgoing })
        });
        WasiHttpCtxView { hooks: outgoing, table, ctx }
    }
}
