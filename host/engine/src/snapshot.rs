//! A component that begins where its own `describe` ended.
//!
//! Contract: `describe` is called once, in an instance under the call's limits, and the component is written anew with the
//! memories and globals that the instance then has: tables which `describe` built are there in every instance, and no call
//! builds them again. Nothing else changes: each call still has an instance of its own. Cost: the component is compiled
//! twice (both kept in the code cache), and its file grows by what was built. Left out on purpose: components that Wizer
//! cannot take, such as those that change their tables or hold components with modules: they are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::OwnedSemaphorePermit;
use vespid_types::Deadline;
use wasmtime::Store;
use wasmtime::component::{Instance, Lift, WasmList};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use crate::bindings::exports::vespid::model::model;
use crate::component::Component;
use crate::error::EngineError;
use crate::host::{CallState, HostState};

impl Component {
    /// The component's bytes after `describe`. Blocks, and must be called where tokio's blocking calls may be.
    pub(crate) fn snapshot(&self, component: &[u8], deadline: Deadline) -> Result<Vec<u8>, EngineError> {
        let runtime = tokio::runtime::Handle::current();
        // Wizer panics at what it does not expect, and the component is the user's.
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.initialise(component, deadline))))
            .unwrap_or_else(|_| {
                Err(EngineError::Snapshot {
                    reason: "it is built in a way that cannot be written anew".to_owned(),
                })
            })
    }

    async fn initialise(&self, component: &[u8], deadline: Deadline) -> Result<Vec<u8>, EngineError> {
        let wizer = Wizer::new();
        let (context, instrumented) =
            wizer.instrument_component(component).map_err(|error| refused(&error))?;
        self.meter()
            .within(deadline, async {
                let (store, instance, room) = self.described(&instrumented, deadline).await?;
                let mut state = Described { store, instance, failure: None, _room: room };
                let written =
                    wizer.snapshot_component(&context, &mut state).await.map_err(|error| refused(&error))?;
                match state.failure {
                    Some(error) => Err(refused(&error)),
                    None => Ok(written),
                }
            })
            .await
    }

    /// An instance of the instrumented component, after its `describe`.
    async fn described(
        &self,
        instrumented: &[u8],
        deadline: Deadline,
    ) -> Result<(Store<HostState>, Instance, OwnedSemaphorePermit), EngineError> {
        let engine = self.engine();
        let component = engine
            .compile::<wasmtime::component::Component>(instrumented)
            .map_err(|error| refused(&error))?;
        let room = engine.admit_own(deadline).await?;
        let mut store = self.store(CallState::own(deadline));
        let failed = |store: &Store<HostState>, error| self.failure(store, &error);
        let pre = engine.linker.instantiate_pre(&component).map_err(|error| refused(&error))?;
        let instance = pre.instantiate_async(&mut store).await;
        let instance = instance.map_err(|error| failed(&store, error))?;
        let model = model::GuestIndices::new(&pre).and_then(|model| model.load(&mut store, &instance));
        let described = model.map_err(|error| refused(&error))?.call_describe(&mut store).await;
        // What it says is asked for again, of the component as it then is.
        described
            .map_err(|error| failed(&store, error))?
            .map_err(|error| crate::convert::plugin_error(error, false))?;
        Ok((store, instance, room))
    }
}

fn refused(error: &wasmtime::Error) -> EngineError {
    EngineError::Snapshot { reason: format!("{:#}", error.root_cause()) }
}

/// The instance that is read. Its trait has no way to fail: the first failure is kept.
struct Described {
    store: Store<HostState>,
    instance: Instance,
    failure: Option<wasmtime::Error>,
    _room: OwnedSemaphorePermit,
}

impl Described {
    async fn call<R: Lift + 'static>(&mut self, instance: &str, function: &str) -> Option<R> {
        match self.try_call(instance, function).await {
            Ok(value) => Some(value),
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    async fn try_call<R: Lift + 'static>(&mut self, instance: &str, function: &str) -> wasmtime::Result<R> {
        let missing = || wasmtime::format_err!("'{instance}' has no '{function}'");
        let exported = self.instance.get_export_index(&mut self.store, None, instance).ok_or_else(missing)?;
        let index = self.instance.get_export_index(&mut self.store, Some(&exported), function);
        let index = index.ok_or_else(missing)?;
        let function = self.instance.get_typed_func::<(), (R,)>(&mut self.store, index)?;
        Ok(function.call_async(&mut self.store, ()).await?.0)
    }
}

impl ComponentInstanceState for Described {
    async fn call_func_ret_list_u8(
        &mut self,
        instance: &str,
        function: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        if let Some(list) = self.call::<WasmList<u8>>(instance, function).await {
            contents(list.as_le_slice(&self.store));
        }
    }

    async fn call_func_ret_s32(&mut self, instance: &str, function: &str) -> i32 {
        self.call(instance, function).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, instance: &str, function: &str) -> i64 {
        self.call(instance, function).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, instance: &str, function: &str) -> u32 {
        self.call::<f32>(instance, function).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, function: &str) -> u64 {
        self.call::<f64>(instance, function).await.unwrap_or_default().to_bits()
    }
}
