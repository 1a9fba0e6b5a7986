//! One component, bound to its model's graphs, limits and grants, and how it is called.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use vespid_nn::{Graphs, Run};
use vespid_types::{
    Deadline, ModelName, NamedTensor, Parameters, Priority, Request, Response, Signature, Version,
};
use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::bindings::PluginPre;
use crate::convert;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::host::{CallState, HostState};
use crate::meter::{Meter, PluginUsage};
use crate::pool::{Instance, Pool, PoolOptions};

/// A boxed future, for the one trait that is called through a pointer.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Other models of this server, for plugins that call them.
pub trait Peers: Send + Sync {
    /// Predicts with another model. `depth` counts the calls that led here, this one included.
    fn infer(&self, request: Request, depth: u8) -> BoxFuture<'_, Result<Response, vespid_types::Error>>;
}

/// What a plugin is bound to: its model's identity, and what its calls may reach and use up.
pub struct PluginContext {
    /// The model's name.
    pub model: ModelName,
    /// The model's version.
    pub version: Version,
    /// What `load-by-name` finds.
    pub graphs: Graphs,
    /// What `config` finds.
    pub config: BTreeMap<String, String>,
    /// How much memory a call may use, linear memories and host-side tensors together.
    pub memory_limit: ByteSize,
    /// What is kept of it between calls.
    pub instances: PoolOptions,
    /// Whether instances begin where `describe` ended, and how long that may take once.
    pub snapshot: Option<Duration>,
    /// The models that the manifest grants.
    pub granted_models: BTreeSet<ModelName>,
    /// How other models are reached; none where the server offers none.
    pub peers: Option<Arc<dyn Peers>>,
}

/// One call's own facts.
pub struct Call {
    /// The request's id, for the log.
    pub id: Option<String>,
    /// When nobody waits any more.
    pub deadline: Deadline,
    /// Its turn in the lanes of graphs.
    pub priority: Priority,
    /// How many calls of other models led to this one.
    pub depth: u8,
    /// The inputs.
    pub inputs: Vec<NamedTensor>,
    /// The outputs asked for; all of them where empty.
    pub outputs: Vec<String>,
    /// The request's parameters.
    pub parameters: Parameters,
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    /// The outputs in the plugin's order, not yet checked against the signature.
    pub outputs: Vec<NamedTensor>,
    /// Parameters of the response.
    pub parameters: Parameters,
    /// Runs of the model's graphs that the call had a part in.
    pub runs: Vec<Run>,
}

/// A compiled component, ready to be called.
pub struct Plugin {
    engine: Engine,
    pre: PluginPre<HostState>,
    context: Arc<PluginContext>,
    pool: Arc<Pool>,
    meter: Arc<Meter>,
}

impl Plugin {
    /// Compiles `component` (or takes the code from the cache), and checks its imports and exports. Blocks; where the
    /// context asks for a snapshot, within a runtime.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], [`EngineError::ImportNotGranted`], [`EngineError::ImportMismatch`] or
    /// [`EngineError::MissingExport`]; of a snapshot also [`EngineError::Snapshot`], and those of [`Plugin::describe`].
    pub fn compile(engine: &Engine, component: &[u8], context: PluginContext) -> Result<Self, EngineError> {
        let meter = Arc::new(Meter::default());
        let pool = Arc::new(Pool::new(context.instances, Arc::clone(&meter)));
        let context = Arc::new(context);
        let mut plugin =
            Self { engine: engine.clone(), pre: prepare(engine, component)?, context, pool, meter };
        if let Some(limit) = plugin.context.snapshot {
            let initialised = plugin.snapshot(component, Deadline::after(limit))?;
            plugin.pre = prepare(engine, &initialised)?;
        }
        engine.register(&plugin.pool);
        Ok(plugin)
    }

    /// What its calls have used up so far.
    #[must_use]
    pub fn usage(&self) -> PluginUsage {
        self.meter.usage()
    }

    /// Asks the plugin for its inputs and outputs.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub async fn describe(&self, deadline: Deadline) -> Result<Signature, EngineError> {
        let described = self.within(deadline, async {
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
    ///
    /// # Errors
    /// What the plugin answers ([`EngineError::Answered`]), a trap, a limit, or the deadline.
    pub async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        let Call { id, deadline, priority, depth, inputs, outputs, parameters } = call;
        self.within(deadline, async {
            let mut instance = self.instance(CallState::new(deadline, priority, id.clone(), depth)).await?;
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

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
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

    /// Does `work` while the deadline allows it, and counts its time.
    pub(crate) async fn within<T>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout_at(deadline.instant().into(), self.meter.measure(work)).await {
            Ok(done) => done,
            Err(_) => Err(EngineError::DeadlineExceeded),
        }
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
fn prepare(engine: &Engine, component: &[u8]) -> Result<PluginPre<HostState>, EngineError> {
    let component = Component::from_binary(&engine.wasmtime, component)
        .map_err(|error| EngineError::Invalid { reason: format!("{:#}", error.root_cause()) })?;
    check_imports(engine, &component)?;
    let instance = engine
        .linker
        .instantiate_pre(&component)
        .map_err(|error| EngineError::ImportMismatch { reason: format!("{error:#}") })?;
    PluginPre::new(instance)
        .map_err(|error| EngineError::MissingExport { reason: format!("{:#}", error.root_cause()) })
}

fn check_imports(engine: &Engine, component: &Component) -> Result<(), EngineError> {
    let kind = component.component_type();
    for (import, item) in kind.imports(&engine.wasmtime) {
        let types_only = matches!(item.ty, ComponentItem::Type(_));
        if !types_only && !OFFERED.iter().any(|offered| import.starts_with(offered)) {
            return Err(EngineError::ImportNotGranted { import: import.to_owned() });
        }
    }
    Ok(())
}
