//! The wasmtime engine that all plugins of a process share.
//!
//! Contract: one pooling allocator with room for `max_instances` calls, compiled code [kept on disk](crate::code_cache), an epoch that ticks so that no guest holds a thread for
//! longer than [`TICK`]. Cost: the allocator reserves address space (4 GiB for each memory), not memory.

use std::cmp::Reverse;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vespid_types::{Deadline, Stage, Timeline};
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Result as WasmResult, Store,
    UpdateDeadline,
};

use crate::bindings;
use crate::code_cache::{CodeCache, Compiled};
use crate::command::{self, CommandState};
use crate::error::EngineError;
use crate::host::{HostState, reads};
use crate::outbound::MAX_OPEN_OF_ALL;
use crate::pool::Pool;

/// How long a guest may run before it gives other calls a turn.
const TICK: Duration = Duration::from_millis(1);

/// Instances that there may be at once besides those of callers.
const OWN: u32 = 4;
/// What a component may be made of.
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 2;
const TABLES: u32 = 16;

/// What an [`Engine`] is made from.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where compiled code is kept between runs.
    pub code_cache: PathBuf,
    /// How many plugin calls may run at once.
    pub max_instances: u32,
}

/// The engine. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    /// What components may import.
    pub(crate) linker: Arc<Linker<HostState>>,
    /// What commands may import.
    pub(crate) commands: Arc<wasmtime::Linker<CommandState>>,
    instances: Arc<Semaphore>,
    max_instances: u32,
    /// Room for what no caller asks for: plugins that describe themselves.
    own: Arc<Semaphore>,
    /// Places of instances that sequences hold.
    held: Arc<Semaphore>,
    /// Those that keep instances, to be asked for one when there is no room.
    pools: Arc<Mutex<Vec<Weak<Pool>>>>,
    /// What compiles.
    compiler: Arc<ThreadPool>,
    code_cache: Arc<CodeCache>,
    /// Calls that look for room or wait for it.
    waiting: Arc<AtomicUsize>,
    /// Places for requests that plugins make over HTTP.
    requests: Arc<Semaphore>,
    /// How plugins speak TLS: made when the first asks for it, for it reads the system's certificates.
    tls: Arc<Mutex<Option<ClientConfig>>>,
}

impl Engine {
    /// Reserves the address space and starts the epoch's thread.
    ///
    /// # Errors
    /// [`EngineError::Start`] where the machine does not give the address space, the cache folder or the thread.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        Self::build(options).map_err(EngineError::Start)
    }

    fn build(options: &EngineOptions) -> WasmResult<Self> {
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(options))?;
        let mut linker = Linker::new(&wasmtime);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        bindings::EveryPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut HostState| state)?;
        reads::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let commands = command::linker(&wasmtime)?;
        start_epoch(&wasmtime)?;
        Ok(Self {
            wasmtime,
            commands: Arc::new(commands),
            linker: Arc::new(linker),
            instances: Arc::new(Semaphore::new(options.max_instances as usize)),
            max_instances: options.max_instances,
            own: Arc::new(Semaphore::new(OWN as usize)),
            held: Arc::new(Semaphore::new(most_held(options.max_instances) as usize)),
            pools: Arc::default(),
            compiler: Arc::new(compiler()?),
            code_cache: Arc::new(CodeCache::open(&options.code_cache)?),
            waiting: Arc::default(),
            requests: Arc::new(Semaphore::new(MAX_OPEN_OF_ALL)),
            tls: Arc::default(),
        })
    }

    /// Compiles code, or takes what was compiled from the folder: with less claim to the processor than calls have, for a
    /// large upload must not hold them up. Blocks.
    pub(crate) fn compile<T: Compiled + Send>(&self, code: &[u8]) -> WasmResult<T> {
        self.code_cache.get(&self.wasmtime, &self.compiler, code)
    }

    /// Places for requests that plugins make over HTTP.
    pub(crate) fn requests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.requests)
    }

    /// How plugins speak TLS, with the certificates that the system trusts; with none where it is not asked for.
    pub(crate) fn tls(&self, secure: bool) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        if !secure {
            return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        }
        // Nothing panics under the lock, so that a poisoned one is as good as any.
        let mut shared = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*shared {
            return Ok(config.clone());
        }
        let config = builder.with_platform_verifier()?.with_no_client_auth();
        Ok(shared.insert(config).clone())
    }

    /// Makes a pool known, so that its idle instances give way to others' calls.
    pub(crate) fn register(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// A place for an instance that is held between the calls of a sequence. Nobody waits for one: it may be held for long.
    pub(crate) fn hold(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        let limit = most_held(self.max_instances);
        Arc::clone(&self.held).try_acquire_owned().map_err(|_| EngineError::TooManyHeld { limit })
    }

    /// How many calls want room: while there are any, no instance is kept.
    pub(crate) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// Ends an idle instance, of the pool that has most of them first; whether there was one.
    fn reclaim(&self) -> bool {
        let mut pools: Vec<Arc<Pool>> = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        pools.sort_by_key(|pool| Reverse(pool.idle()));
        pools.iter().any(|pool| pool.evict())
    }

    /// Waits for room for an instance that no caller asks for. It is apart: a model may be loaded because calls wait for it
    /// that have taken all other room.
    pub(crate) async fn admit_own(&self, deadline: Deadline) -> Result<OwnedSemaphorePermit, EngineError> {
        let room = Arc::clone(&self.own).acquire_owned();
        match tokio::time::timeout_at(deadline.instant().into(), room).await {
            Ok(permit) => permit.map_err(|_| EngineError::Saturated { limit: OWN }),
            Err(_) => Err(EngineError::DeadlineExceeded),
        }
    }

    /// Room for one more instance, if there is some.
    pub(crate) fn try_admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.instances).try_acquire_owned().ok()
    }

    /// Waits for room for one more instance. A nested call does not wait, for those that it would wait for may be
    /// waiting for it.
    pub(crate) async fn admit(
        &self,
        deadline: Deadline,
        nested: bool,
        timeline: &Timeline,
    ) -> Result<OwnedSemaphorePermit, EngineError> {
        let instances = Arc::clone(&self.instances);
        let saturated = || EngineError::Saturated { limit: self.max_instances };
        if let Some(permit) = self.try_admit() {
            return Ok(permit);
        }
        // Said before idle instances are looked for: one that is given back from now on is not kept, and one that was
        // given back before is found.
        let _waiting = Waiting::new(&self.waiting);
        loop {
            if let Some(permit) = self.try_admit() {
                return Ok(permit);
            }
            if !self.reclaim() {
                break;
            }
        }
        if nested {
            return Err(saturated());
        }
        timeline.enter(Stage::Queue);
        let room = tokio::time::timeout_at(deadline.instant().into(), instances.acquire_owned()).await;
        timeline.enter(Stage::Input);
        match room {
            Ok(permit) => permit.map_err(|_| saturated()),
            Err(_) => Err(EngineError::DeadlineExceeded),
        }
    }
}

/// How many instances sequences may hold: others need room too.
fn most_held(max_instances: u32) -> u32 {
    (max_instances / 2).max(1)
}

/// A call that wants room, as long as it lives: its future may be dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn wasmtime_config(options: &EngineOptions) -> Config {
    let instances = options.max_instances.saturating_add(OWN);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        // As many for each call as a component may have, so that no plugin can use up what others need. A component is made of
        // a main module, shims, and where it uses WASI 0.1 an adapter; one of Python of 14 modules, with one memory and two
        // tables. Core instances are counted and not reserved; a table takes half a MiB of address space.
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(instances.saturating_mul(MEMORIES))
        .max_memories_per_component(MEMORIES)
        .total_tables(instances.saturating_mul(TABLES))
        .max_tables_per_component(TABLES)
        // Generous, for interpreters compiled to WebAssembly have large tables and instances.
        .table_elements(1 << 16)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .max_memory_size(4 << 30);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        // The kernel (Linux 6.7 and later) tells which pages a call wrote, and only those are reset, in place,
        // rather than unmapped to fault in again at the next call.
        pool.linear_memory_keep_resident(1 << 20).table_keep_resident(1 << 20).pagemap_scan(Enabled::Yes);
    }
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        // Plugins export synchronous functions; without it a store needs no tables of concurrent tasks.
        .concurrency_support(false)
        .wasm_backtrace_max_frames(NonZero::new(16));
    config
}

/// How much less than others the threads that compile get of the processor where there is not enough of it.
const NICE: i32 = 5;

/// Threads that compile. wasmtime shares a component's functions out among those of the pool that it is called from.
fn compiler() -> WasmResult<ThreadPool> {
    let modest = |_| {
        // Of this thread alone, as Linux has it. Where that is refused it compiles all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
    };
    Ok(ThreadPoolBuilder::new()
        .thread_name(|number| format!("compiler-{number}"))
        .start_handler(modest)
        .build()?)
}

/// Has a guest give way each [`TICK`], at its next loop or call.
pub(crate) fn give_way<T: 'static>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| {
        // First to threads that wait for this processor, such as one that would take another call: the system lets a thread that
        // computes go on for several milliseconds. Then to calls that wait for this thread.
        std::thread::yield_now();
        Ok(UpdateDeadline::Yield(1))
    });
}

fn start_epoch(engine: &wasmtime::Engine) -> WasmResult<()> {
    let weak = engine.weak();
    std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
