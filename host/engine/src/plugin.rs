//! One component, bound to its model's graphs, limits and grants, and how it is called.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use bytesize::ByteSize;
use vespid_nn::Graphs;
use vespid_types::{Deadline, ModelName, NamedTensor, Parameters, Request, Response, Signature, Version};
use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::bindings::PluginPre;
use crate::convert;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::host::HostState;

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
}

/// A compiled component, ready to be called.
pub struct Plugin {
    engine: Engine,
    pre: PluginPre<HostState>,
    context: Arc<PluginContext>,
}

impl Plugin {
    /// Compiles `component` (or takes the code from the cache), and checks its imports and exports. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], [`EngineError::ImportNotGranted`], [`EngineError::ImportMismatch`] or
    /// [`EngineError::MissingExport`].
    pub fn compile(engine: &Engine, component: &[u8], context: PluginContext) -> Result<Self, EngineError> {
        let component = Component::from_binary(&engine.wasmtime, component)
            .map_err(|error| EngineError::Invalid { reason: format!("{:#}", error.root_cause()) })?;
        check_imports(engine, &component)?;
        let instance = engine
            .linker
            .instantiate_pre(&component)
            .map_err(|error| EngineError::ImportMismatch { reason: format!("{error:#}") })?;
        let pre = PluginPre::new(instance)
            .map_err(|error| EngineError::MissingExport { reason: format!("{:#}", error.root_cause()) })?;
        Ok(Self { engine: engine.clone(), pre, context: Arc::new(context) })
    }

    /// Asks the plugin for its inputs and outputs.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub async fn describe(&self, deadline: Deadline) -> Result<Signature, EngineError> {
        let mut store = self.store(deadline, None, 0);
        let work = async |store: &mut Store<HostState>| -> wasmtime::Result<_> {
            let plugin = self.pre.instantiate_async(&mut *store).await?;
            plugin.vespid_model_model().call_describe(store).await
        };
        let described = self.run(&mut store, deadline, 0, work).await?.map_err(convert::plugin_error)?;
        convert::signature(described)
    }

    /// Answers one request in a fresh instance.
    ///
    /// # Errors
    /// What the plugin answers ([`EngineError::Answered`]), a trap, a limit, or the deadline.
    pub async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        let Call { id, deadline, depth, inputs, outputs, parameters } = call;
        let mut store = self.store(deadline, id.clone(), depth);
        let request = convert::request(store.data_mut(), id, inputs, outputs, parameters)?;
        let work = async |store: &mut Store<HostState>| -> wasmtime::Result<_> {
            let plugin = self.pre.instantiate_async(&mut *store).await?;
            plugin.vespid_model_model().call_predict(store, &request).await
        };
        let response = self.run(&mut store, deadline, depth, work).await?.map_err(convert::plugin_error)?;
        convert::answer(store.data_mut(), response)
    }

    fn store(&self, deadline: Deadline, request_id: Option<String>, depth: u8) -> Store<HostState> {
        let state = HostState::new(Arc::clone(&self.context), deadline, request_id, depth);
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.budget);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(usize::try_from(self.context.memory_limit.as_u64()).unwrap_or(usize::MAX));
        store
    }

    /// Runs `work` under the instance limit and the deadline, and tells what ended it where it failed.
    async fn run<T>(
        &self,
        store: &mut Store<HostState>,
        deadline: Deadline,
        depth: u8,
        work: impl AsyncFnOnce(&mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> Result<T, EngineError> {
        let _room = self.engine.admit(deadline, depth > 0).await?;
        match tokio::time::timeout_at(deadline.instant().into(), work(store)).await {
            Err(_) => Err(EngineError::DeadlineExceeded),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) if store.data().budget.exceeded() => {
                Err(EngineError::MemoryLimit { limit: self.context.memory_limit })
            }
            Ok(Err(error)) => {
                tracing::debug!(model = %self.context.model, version = %self.context.version, "plugin call failed: {error:?}");
                Err(EngineError::from_call(&error))
            }
        }
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
