//! A component as a plugin, and how it is called.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use vespid_types::{Deadline, Signature, Stage};
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{InstancePre, ResourceAny};

use crate::bindings::exports::vespid::model::{model, session, streaming};
use crate::convert;
use crate::engine::{Engine, give_way};
use crate::error::EngineError;
use crate::host::{CallState, HostState};
use crate::meter::{Meter, PluginUsage};
use crate::outbound::Outbound;
use crate::plugin::{Answer, Call, PluginContext};
use crate::pool::{Instance, Pool};

/// A compiled component, ready to be called.
pub(crate) struct Component {
    engine: Engine,
    linked: Arc<Linked>,
    context: Arc<PluginContext>,
    /// Where hosts are granted.
    outbound: Option<Arc<Outbound>>,
    pool: Arc<Pool>,
    meter: Arc<Meter>,
}

/// A component whose imports are found, and where its exports are.
pub(crate) struct Linked {
    pre: InstancePre<HostState>,
    model: model::GuestIndices,
    streaming: Option<streaming::GuestIndices>,
    session: Option<session::GuestIndices>,
    /// What it imports of HTTP.
    http: Option<String>,
}

/// What an instance exports.
pub(crate) struct Exports {
    model: model::Guest,
    streaming: Option<streaming::Guest>,
    session: Option<session::Guest>,
}

/// An instance between two calls of a sequence.
pub struct Held {
    instance: Instance,
    _place: OwnedSemaphorePermit,
}

/// An answer in pieces.
pub struct Responses {
    deadline: Deadline,
    /// The instance, and its side of this. None after the end, and while the next piece is made: if nobody waits for that
    /// any more, the instance ends.
    open: Option<(Instance, ResourceAny)>,
}

impl Component {
    pub(crate) fn new(
        engine: &Engine,
        linked: Arc<Linked>,
        context: PluginContext,
    ) -> Result<Self, EngineError> {
        let granted = &context.grants.http;
        let outbound = match (&linked.http, granted.is_empty()) {
            (Some(import), true) => return Err(EngineError::HttpNotGranted { import: import.clone() }),
            (_, true) => None,
            (_, false) => Some(Arc::new(Outbound::new(engine, granted)?)),
        };
        let meter = Arc::new(Meter::default());
        let pool = Arc::new(Pool::new(context.instances, Arc::clone(&meter), engine.waiting()));
        engine.register(&pool);
        let context = Arc::new(context);
        Ok(Self { engine: engine.clone(), linked, context, outbound, pool, meter })
    }

    /// The same, its instances beginning where `describe` ends. `code` is its own. Blocks, and must be called where tokio's
    /// blocking calls may be.
    pub(crate) fn initialised(self, code: &[u8], deadline: Deadline) -> Result<Self, EngineError> {
        let initialised = self.snapshot(code, deadline)?;
        Ok(Self { linked: Arc::new(Linked::new(&self.engine, &initialised)?), ..self })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn usage(&self) -> PluginUsage {
        self.meter.usage()
    }

    /// The code, which others may share.
    pub(crate) fn linked(&self) -> &Linked {
        &self.linked
    }

    /// The bytes of idle instances' memories.
    pub(crate) fn idle_memory(&self) -> u64 {
        self.pool.memory()
    }

    pub(crate) fn streams(&self) -> bool {
        self.linked.streaming.is_some()
    }

    /// Asks the component for its inputs and outputs.
    pub(crate) async fn describe(&self, deadline: Deadline) -> Result<Signature, EngineError> {
        let described = self.meter.within(deadline, async {
            let room = self.engine.admit_own(deadline).await?;
            let mut instance = self.instantiate(CallState::own(deadline), room).await?;
            let Instance { store, exports, .. } = &mut instance;
            let described = exports.model.call_describe(&mut *store).await;
            let described = described.map_err(|error| self.failure(store, &error))?;
            // It is kept in a caller's room, where there is some.
            if let Some(room) = self.engine.try_admit() {
                instance.move_to(room);
                self.pool.give_back(instance);
            }
            described.map_err(|error| convert::plugin_error(error, false))
        });
        convert::signature(described.await?)
    }

    /// Answers one request, in a fresh instance unless the manifest has some kept.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        self.meter
            .within(call.deadline, async {
                let mut instance = self.instance(&call).await?;
                let answer = self.ask(&mut instance, call).await?;
                self.pool.give_back(instance);
                answer
            })
            .await
    }

    /// Answers one request in the instance held, or in a fresh one that is held from then on.
    pub(crate) async fn call_held(&self, held: &mut Option<Held>, call: Call) -> Result<Answer, EngineError> {
        // Out of its place until it has answered: what ends early is not there for the next call.
        let taken = held.take();
        self.meter
            .within(call.deadline, async {
                let mut holding = match taken {
                    Some(mut holding) => {
                        self.meter.count_warm();
                        holding.instance.store.data_mut().begin(CallState::new(&call));
                        holding
                    }
                    None => {
                        let place = self.engine.hold()?;
                        self.meter.count_fresh();
                        Held { instance: self.fresh(CallState::new(&call)).await?, _place: place }
                    }
                };
                let answer = self.ask(&mut holding.instance, call).await?;
                *held = Some(holding);
                answer
            })
            .await
    }

    pub(crate) fn saves(&self) -> bool {
        self.linked.session.is_some()
    }

    /// What the instance held keeps.
    pub(crate) async fn save(
        &self,
        held: &mut Option<Held>,
        deadline: Deadline,
    ) -> Result<Bytes, EngineError> {
        // Out of its place until it has answered, as with a call.
        let mut holding = held.take().ok_or(EngineError::NothingHeld)?;
        self.meter
            .within(deadline, async {
                let Instance { store, exports, .. } = &mut holding.instance;
                let session = exports.session.as_ref().ok_or(EngineError::NoSession)?;
                store.data_mut().begin(CallState::own(deadline));
                let saved = session.call_save(&mut *store).await;
                let saved = saved.map_err(|error| self.failure(store, &error))?;
                *held = Some(holding);
                saved.map(Bytes::from).map_err(|error| convert::plugin_error(error, false))
            })
            .await
    }

    /// A fresh instance that goes on where another was saved.
    pub(crate) async fn restore(&self, state: &[u8], deadline: Deadline) -> Result<Held, EngineError> {
        self.meter
            .within(deadline, async {
                let place = self.engine.hold()?;
                self.meter.count_fresh();
                let mut instance = self.fresh(CallState::own(deadline)).await?;
                let Instance { store, exports, .. } = &mut instance;
                let session = exports.session.as_ref().ok_or(EngineError::NoSession)?;
                let restored = session.call_restore(&mut *store, state).await;
                let restored = restored.map_err(|error| self.failure(store, &error))?;
                restored.map_err(|error| convert::plugin_error(error, false))?;
                Ok(Held { instance, _place: place })
            })
            .await
    }

    /// Has an instance answer. The outer failure is the instance's end; the inner one is its answer.
    async fn ask(
        &self,
        instance: &mut Instance,
        call: Call,
    ) -> Result<Result<Answer, EngineError>, EngineError> {
        let Instance { store, exports, .. } = instance;
        let timeline = Arc::clone(&call.timeline);
        let request = convert::request(store.data_mut(), call)?;
        timeline.enter(Stage::Guest);
        let response = exports.model.call_predict(&mut *store, &request).await;
        timeline.enter(Stage::Output);
        match response.map_err(|error| self.failure(store, &error))? {
            Ok(response) => convert::answer(store.data_mut(), response).map(Ok),
            Err(error) => Ok(Err(convert::plugin_error(error, store.data().call.was_refused))),
        }
    }

    /// Begins to answer one request in pieces.
    pub(crate) async fn stream(&self, call: Call) -> Result<Responses, EngineError> {
        let deadline = call.deadline;
        self.meter
            .within(deadline, async {
                let mut instance = self.instance(&call).await?;
                let Instance { store, exports, .. } = &mut instance;
                let streaming = exports.streaming.as_ref().ok_or(EngineError::NoStream)?;
                let timeline = Arc::clone(&call.timeline);
                let request = convert::request(store.data_mut(), call)?;
                timeline.enter(Stage::Guest);
                let begun = streaming.call_predict_stream(&mut *store, &request).await;
                timeline.enter(Stage::Output);
                match begun.map_err(|error| self.failure(store, &error))? {
                    Ok(responses) => Ok(Responses { deadline, open: Some((instance, responses)) }),
                    Err(error) => {
                        let failed = convert::plugin_error(error, store.data().call.was_refused);
                        self.pool.give_back(instance);
                        Err(failed)
                    }
                }
            })
            .await
    }

    /// The next piece; none after the last, or after a failure.
    pub(crate) async fn next(&self, responses: &mut Responses) -> Result<Option<Answer>, EngineError> {
        let Some((mut instance, handle)) = responses.open.take() else { return Ok(None) };
        self.meter
            .within(responses.deadline, async {
                let Instance { store, exports, .. } = &mut instance;
                let streaming = exports.streaming.as_ref().ok_or(EngineError::NoStream)?;
                let timeline = Arc::clone(&store.data().call.timeline);
                timeline.enter(Stage::Guest);
                let next = streaming.responses().call_next(&mut *store, handle).await;
                timeline.enter(Stage::Output);
                let ended = match next.map_err(|error| self.failure(store, &error))? {
                    Ok(Some(response)) => {
                        let answer = convert::answer(store.data_mut(), response)?;
                        responses.open = Some((instance, handle));
                        return Ok(Some(answer));
                    }
                    Ok(None) => Ok(None),
                    Err(error) => Err(convert::plugin_error(error, store.data().call.was_refused)),
                };
                let dropped = handle.resource_drop_async(&mut *store).await;
                dropped.map_err(|error| self.failure(store, &error))?;
                self.pool.give_back(instance);
                ended
            })
            .await
    }

    /// An instance for one call.
    async fn instance(&self, call: &Call) -> Result<Instance, EngineError> {
        let Some(mut instance) = self.pool.take() else {
            self.meter.count_fresh();
            return self.fresh(CallState::new(call)).await;
        };
        self.meter.count_warm();
        instance.store.data_mut().begin(CallState::new(call));
        Ok(instance)
    }

    async fn fresh(&self, call: CallState) -> Result<Instance, EngineError> {
        let room = self.engine.admit(call.deadline, !call.callers.is_empty(), &call.timeline).await?;
        self.instantiate(call, room).await
    }

    async fn instantiate(
        &self,
        call: CallState,
        room: OwnedSemaphorePermit,
    ) -> Result<Instance, EngineError> {
        let mut store = self.store(call);
        let exports = self.linked.instantiate(&mut store).await;
        let exports = exports.map_err(|error| self.failure(&store, &error))?;
        Ok(Instance::new(store, exports, room))
    }

    /// A store for one call, under its limits.
    pub(crate) fn store(&self, call: CallState) -> Store<HostState> {
        let state = HostState::new(Arc::clone(&self.context), self.outbound.clone(), call);
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.budget);
        give_way(&mut store);
        store.set_hostcall_fuel(usize::try_from(self.context.memory_limit.as_u64()).unwrap_or(usize::MAX));
        store
    }

    /// What ended a call that wasmtime gave up.
    pub(crate) fn failure(&self, store: &Store<HostState>, error: &wasmtime::Error) -> EngineError {
        if store.data().budget.exceeded() {
            return EngineError::MemoryLimit { limit: self.context.memory_limit };
        }
        tracing::debug!(model = %self.context.model, version = %self.context.version, "plugin call failed: {error:?}");
        EngineError::from_call(error)
    }
}

impl Linked {
    /// Compiles `code` (or takes what was compiled from the cache), and checks its imports and exports. Blocks.
    pub(crate) fn new(engine: &Engine, code: &[u8]) -> Result<Self, EngineError> {
        let component = engine
            .compile::<wasmtime::component::Component>(code)
            .map_err(|error| EngineError::invalid("component", &error))?;
        let http = check_imports(engine, &component)?;
        let pre = engine
            .linker
            .instantiate_pre(&component)
            .map_err(|error| EngineError::ImportMismatch { reason: format!("{error:#}") })?;
        let missing = |error: wasmtime::Error| EngineError::MissingExport {
            reason: format!("{:#}", error.root_cause()),
        };
        let model = model::GuestIndices::new(&pre).map_err(missing)?;
        let streams = component.get_export_index(None, STREAMING).is_some();
        let streaming = streams.then(|| streaming::GuestIndices::new(&pre).map_err(missing)).transpose()?;
        let saves = component.get_export_index(None, SESSION).is_some();
        let session = saves.then(|| session::GuestIndices::new(&pre).map_err(missing)).transpose()?;
        Ok(Self { pre, model, streaming, session, http })
    }

    /// The bytes of the machine code, and of what the guest's memory begins with.
    pub(crate) fn size(&self) -> u64 {
        let image = self.pre.component().image_range();
        (image.end as usize).saturating_sub(image.start as usize) as u64
    }

    async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Exports> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let streaming = self.streaming.as_ref().map(|streaming| streaming.load(&mut *store, &instance));
        let session = self.session.as_ref().map(|session| session.load(&mut *store, &instance));
        Ok(Exports {
            model: self.model.load(&mut *store, &instance)?,
            streaming: streaming.transpose()?,
            session: session.transpose()?,
        })
    }
}

/// The host's own interfaces, and the WASI 0.2 packages that `wasmtime-wasi` offers.
const OFFERED: [&str; 8] = [
    "vespid:model/",
    "wasi:nn/",
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:cli/",
    "wasi:filesystem/",
    "wasi:sockets/",
];

/// What is offered where hosts are granted.
const HTTP: &str = "wasi:http/";

/// What a plugin that answers in pieces exports.
const STREAMING: &str = "vespid:model/streaming@0.1.0";

/// What a plugin whose sequences can move exports.
const SESSION: &str = "vespid:model/session@0.1.0";

/// Checks what a component imports; returns what it takes of HTTP, which is offered where hosts are granted.
fn check_imports(
    engine: &Engine,
    component: &wasmtime::component::Component,
) -> Result<Option<String>, EngineError> {
    let mut http = None;
    let kind = component.component_type();
    for (import, item) in kind.imports(&engine.wasmtime) {
        let types_only = matches!(item.ty, ComponentItem::Type(_));
        if import.starts_with(HTTP) {
            http.get_or_insert_with(|| import.to_owned());
        } else if !types_only && !OFFERED.iter().any(|offered| import.starts_with(offered)) {
            return Err(EngineError::ImportNotGranted { import: import.to_owned() });
        }
    }
    Ok(http)
}
