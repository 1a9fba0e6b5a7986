//! A component as a plugin, and how it is called.

use std::sync::Arc;

use vespid_types::{Deadline, Priority, Signature};
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;

use crate::bindings::PluginPre;
use crate::convert;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::host::{CallState, HostState};
use crate::meter::{Meter, PluginUsage};
use crate::plugin::{Answer, Call, PluginContext};
use crate::pool::{Instance, Pool};

/// A compiled component, ready to be called.
pub(crate) struct Component {
    engine: Engine,
    pre: PluginPre<HostState>,
    context: Arc<PluginContext>,
    pool: Arc<Pool>,
    meter: Arc<Meter>,
}

impl Component {
    /// Compiles `code` (or takes what was compiled from the cache), and checks its imports and exports. Blocks.
    pub(crate) fn compile(engine: &Engine, code: &[u8], context: PluginContext) -> Result<Self, EngineError> {
        let meter = Arc::new(Meter::default());
        let pool = Arc::new(Pool::new(context.instances, Arc::clone(&meter), engine.waiting()));
        let context = Arc::new(context);
        let mut component =
            Self { engine: engine.clone(), pre: prepare(engine, code)?, context, pool, meter };
        if let Some(limit) = component.context.snapshot {
            let initialised = component.snapshot(code, Deadline::after(limit))?;
            component.pre = prepare(engine, &initialised)?;
        }
        engine.register(&component.pool);
        Ok(component)
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

    /// Asks the component for its inputs and outputs.
    pub(crate) async fn describe(&self, deadline: Deadline) -> Result<Signature, EngineError> {
        let described = self.meter.within(deadline, async {
            let call = CallState::new(deadline, Priority::Online, None, 0);
            let mut instance = self.fresh(call).await?;
            let Instance { store, plugin, .. } = &mut instance;
            let described = plugin.vespid_model_model().call_describe(&mut *store).await;
            let described = described.map_err(|error| self.failure(store, &error))?;
            self.pool.give_back(instance);
            described.map_err(convert::plugin_error)
        });
        convert::signature(described.await?)
    }

    /// Answers one request, in a fresh instance unless the manifest has some kept.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        let Call { id, deadline, priority, depth, inputs, outputs, parameters } = call;
        self.meter
            .within(deadline, async {
                let mut instance =
                    self.instance(CallState::new(deadline, priority, id.clone(), depth)).await?;
                let Instance { store, plugin, .. } = &mut instance;
                let request = convert::request(store.data_mut(), id, inputs, outputs, parameters)?;
                let response = plugin.vespid_model_model().call_predict(&mut *store, &request).await;
                let answer = match response.map_err(|error| self.failure(store, &error))? {
                    Ok(response) => convert::answer(store.data_mut(), response)?,
                    Err(error) => {
                        self.pool.give_back(instance);
                        return Err(convert::plugin_error(error));
                    }
                };
                self.pool.give_back(instance);
                Ok(answer)
            })
            .await
    }

    /// An instance for one call.
    async fn instance(&self, call: CallState) -> Result<Instance, EngineError> {
        let Some(mut instance) = self.pool.take() else {
            self.meter.count_fresh();
            return self.fresh(call).await;
        };
        self.meter.count_warm();
        let state = instance.store.data_mut();
        state.call = call;
        state.budget.begin();
        Ok(instance)
    }

    async fn fresh(&self, call: CallState) -> Result<Instance, EngineError> {
        let room = self.engine.admit(call.deadline, call.depth > 0).await?;
        let mut store = self.store(call);
        let plugin = self.pre.instantiate_async(&mut store).await;
        let plugin = plugin.map_err(|error| self.failure(&store, &error))?;
        Ok(Instance::new(store, plugin, room))
    }

    /// A store for one call, under its limits.
    pub(crate) fn store(&self, call: CallState) -> Store<HostState> {
        let mut store = Store::new(&self.engine.wasmtime, HostState::new(Arc::clone(&self.context), call));
        store.limiter(|state| &mut state.budget);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
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

/// Compiles and links a component.
fn prepare(engine: &Engine, code: &[u8]) -> Result<PluginPre<HostState>, EngineError> {
    let component = wasmtime::component::Component::from_binary(&engine.wasmtime, code)
        .map_err(|error| EngineError::invalid("component", &error))?;
    check_imports(engine, &component)?;
    let instance = engine
        .linker
        .instantiate_pre(&component)
        .map_err(|error| EngineError::ImportMismatch { reason: format!("{error:#}") })?;
    PluginPre::new(instance)
        .map_err(|error| EngineError::MissingExport { reason: format!("{:#}", error.root_cause()) })
}

fn check_imports(engine: &Engine, component: &wasmtime::component::Component) -> Result<(), EngineError> {
    let kind = component.component_type();
    for (import, item) in kind.imports(&engine.wasmtime) {
        let types_only = matches!(item.ty, ComponentItem::Type(_));
        if !types_only && !OFFERED.iter().any(|offered| import.starts_with(offered)) {
            return Err(EngineError::ImportNotGranted { import: import.to_owned() });
        }
    }
    Ok(())
}
