//! A command as a plugin: a core module with a `_start`, built against WASI 0.1 and the `wasi-nn` crate (witx).
//!
//! Contract: each call runs `_start` once, in an instance of its own. The input's raw data is its standard input, what it
//! writes to its standard output is the output's data (see [`signature`] for both), its standard error goes to the
//! server's log line by line, and another exit code than 0 is a failed call. `argv[0]` is the model's name;
//! `VESPID_INPUT_SHAPE` holds the input's extents, such as `1,4`, and `VESPID_CONFIG_KEY` each value of `[config]`. There
//! are no files, no network and no other environment. Limits are those of a component: memory, streams and tensors
//! together are charged to one budget, the guest gives way by epoch, and a call whose time is up or whose caller left is
//! dropped. The glue of wasmtime-wasi-nn panics over some pointers; that is caught, and fails the call.
//!
//! Cost: the glue copies a tensor twice on its way in and twice on its way out; standard streams are copied in pieces of
//! 4 KiB. Left out: a request's parameters, calls of other models, and instances that are kept: `_start` runs once.

mod nn;
mod signature;
mod state;
mod streams;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use vespid_nn::panic_message;
use vespid_types::{Parameters, Signature, Stage, Timeline};
use wasmtime::{InstancePre, Linker, Store};
use wasmtime_wasi::I32Exit;

use crate::engine::{Engine, give_way};
use crate::error::EngineError;
use crate::grants::Grants;
use crate::meter::{Meter, PluginUsage};
use crate::plugin::{Answer, Call, PluginContext};
use signature::Io;
pub(crate) use state::CommandState;
use state::Given;

/// The modules of which imports are offered.
const OFFERED: [&str; 2] = ["wasi_snapshot_preview1", nn::MODULE];
const START: &str = "_start";

/// What a command may import.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<CommandState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut CommandState| &mut state.wasi)?;
    nn::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// A core module whose imports are found.
pub(crate) struct Module {
    pre: InstancePre<CommandState>,
}

impl Module {
    /// Compiles `code` (or takes what was compiled from the cache), and checks its imports and exports. Blocks.
    pub(crate) fn compile(engine: &Engine, code: &[u8]) -> Result<Self, EngineError> {
        let module = engine
            .compile::<wasmtime::Module>(code)
            .map_err(|error| EngineError::invalid("module", &error))?;
        check(&module)?;
        let pre = engine
            .commands
            .instantiate_pre(&module)
            .map_err(|error| EngineError::ImportMismatch { reason: format!("{error:#}") })?;
        Ok(Self { pre })
    }

    /// The bytes of the machine code, and of what the guest's memory begins with.
    pub(crate) fn size(&self) -> u64 {
        let image = self.pre.module().image_range();
        (image.end as usize).saturating_sub(image.start as usize) as u64
    }
}

pub(crate) struct Command {
    engine: Engine,
    module: Arc<Module>,
    context: Arc<PluginContext>,
    io: Io,
    /// `VESPID_CONFIG_KEY` and the values.
    config: Vec<(String, String)>,
    meter: Meter,
}

impl Command {
    /// Binds a module to a model, and checks the manifest.
    pub(crate) fn new(
        engine: &Engine,
        module: &Arc<Module>,
        context: PluginContext,
    ) -> Result<Self, EngineError> {
        let io = Io::of(&context.written)?;
        refuse_what_commands_lack(&context)?;
        let config = environment(&context.config)?;
        let (engine, module, context) = (engine.clone(), Arc::clone(module), Arc::new(context));
        Ok(Self { engine, module, context, io, config, meter: Meter::default() })
    }

    /// The code, which others may share.
    pub(crate) fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) fn usage(&self) -> PluginUsage {
        self.meter.usage()
    }

    pub(crate) fn signature(&self) -> Signature {
        self.context.written.clone()
    }

    /// Answers one request.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        let deadline = call.deadline;
        let work = async {
            let _room = self.engine.admit(deadline, !call.callers.is_empty(), &call.timeline).await?;
            self.meter.count_fresh();
            self.run(call).await
        };
        // Sound to go on after a panic: the call's state goes with it.
        let caught = AssertUnwindSafe(work).catch_unwind().map(|ended| {
            ended.unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                let (model, version) = (&self.context.model, self.context.version);
                tracing::warn!(%model, %version, "the panic of the host in this call was caught: {message}");
                Err(EngineError::Panicked { message })
            })
        });
        self.meter.within(deadline, caught).await
    }

    async fn run(&self, call: Call) -> Result<Answer, EngineError> {
        let Call { deadline, priority, inputs, timeline, .. } = call;
        let input = self.io.stdin(inputs)?;
        let state = CommandState::new(Given {
            context: Arc::clone(&self.context),
            config: &self.config,
            input,
            prefix: self.io.prefix(),
            deadline,
            priority,
            timeline: Arc::clone(&timeline),
        });
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.shared);
        give_way(&mut store);
        store.set_hostcall_fuel(usize::try_from(self.context.memory_limit.as_u64()).unwrap_or(usize::MAX));
        let started = self.start(&mut store, &timeline).await;
        timeline.enter(Stage::Output);
        let exit = match started {
            Ok(()) => 0,
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => *code,
                None => return Err(self.failure(&store, &error)),
            },
        };
        let ended = store.data().shared.end();
        if exit != 0 {
            let limit = self.context.memory_limit;
            let exited = EngineError::Exited { exit, said: ended.said, refused: ended.refused };
            return Err(if ended.exceeded { EngineError::MemoryLimit { limit } } else { exited });
        }
        Ok(Answer { outputs: vec![self.io.output(ended.output)?], parameters: Parameters::new() })
    }

    async fn start(&self, store: &mut Store<CommandState>, timeline: &Timeline) -> wasmtime::Result<()> {
        let instance = self.module.pre.instantiate_async(&mut *store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
        timeline.enter(Stage::Guest);
        start.call_async(&mut *store, ()).await
    }

    /// What ended a call that wasmtime gave up.
    fn failure(&self, store: &Store<CommandState>, error: &wasmtime::Error) -> EngineError {
        // Ends a line that the guest had begun, so that a panic's message is whole in the log.
        if store.data().shared.end().exceeded {
            return EngineError::MemoryLimit { limit: self.context.memory_limit };
        }
        let (model, version) = (&self.context.model, self.context.version);
        tracing::debug!(%model, %version, "command failed: {error:?}");
        EngineError::from_call(error)
    }
}

fn check(module: &wasmtime::Module) -> Result<(), EngineError> {
    let no_command = |reason: String| Err(EngineError::NoCommand { reason });
    if let Some(import) = module.imports().find(|import| !OFFERED.contains(&import.module())) {
        return no_command(format!(
            "it imports '{}' of '{}', and a command may import {} alone",
            import.name(),
            import.module(),
            OFFERED.join(" and ")
        ));
    }
    let start = module.get_export(START).and_then(|start| {
        let start = start.func()?.clone();
        Some(start.params().len() == 0 && start.results().len() == 0)
    });
    match start {
        Some(true) if module.get_export("memory").is_some_and(|memory| memory.memory().is_some()) => Ok(()),
        Some(true) => no_command("it exports no memory named 'memory'".to_owned()),
        Some(false) => no_command(format!("its '{START}' takes or gives values")),
        None => no_command(format!("it exports no function '{START}'")),
    }
}

/// An option that does nothing would be a silent fallback.
fn refuse_what_commands_lack(context: &PluginContext) -> Result<(), EngineError> {
    let lacks = |field, reason: &str| Err(EngineError::CommandManifest { field, reason: reason.to_owned() });
    if context.instances.warm > 0 || context.snapshot.is_some() {
        return lacks("instances", "a command runs once in its instance: leave [instances] out");
    }
    let Grants { models, http, env, secrets, folder } = &context.grants;
    if !(models.is_empty() && http.is_empty() && env.is_empty() && secrets.is_empty() && folder.is_none()) {
        return lacks(
            "grants",
            "a command reaches nothing but its input and [config]: leave [grants] out, or write a component",
        );
    }
    Ok(())
}

fn environment(config: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, EngineError> {
    let bad = |reason| EngineError::CommandManifest { field: "config", reason };
    let mut named: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for (key, value) in config {
        if value.contains('\0') {
            return Err(bad(format!("'{key}' holds a NUL, which ends a variable: leave it out")));
        }
        let letter =
            |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
        let name = format!("VESPID_CONFIG_{}", key.chars().map(letter).collect::<String>());
        if let Some((other, _)) = named.get(&name) {
            return Err(bad(format!("'{other}' and '{key}' are both {name} to a command: rename one")));
        }
        named.insert(name, (key, value));
    }
    Ok(named.into_iter().map(|(name, (_, value))| (name, value.to_owned())).collect())
}

#[cfg(test)]
mod tests;
