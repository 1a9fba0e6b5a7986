//! The border between lanes and inference libraries.

use std::any::Any;
use std::num::NonZero;
use std::thread::available_parallelism;

use bytes::Bytes;
use vespid_types::{BackendName, Device, Encoding, NamedTensor, Provider, Signature};

use crate::growth::Growth;
use crate::interrupt::Interrupt;
use crate::{LaneOptions, NnError};

/// A graph to be loaded.
pub struct GraphSource {
    /// The name under which plugins load it.
    pub name: String,
    /// The file's content.
    pub data: Bytes,
    /// The content of the file with its weights, where the encoding has one.
    pub weights: Option<Bytes>,
    /// The file's encoding.
    pub encoding: Encoding,
    /// Which library runs it; by the rule of [`Backends`](crate::Backends) where none is named.
    pub backend: Option<BackendName>,
    /// Where to run it.
    pub device: Device,
    /// What ONNX Runtime hands its operators to; the device's usual one where none is named.
    pub provider: Option<Provider>,
    /// Threads of one run on the processor; one for each core, shared out among the instances, where it is not said.
    pub threads: Option<NonZero<usize>>,
    /// Runs of the graph that may go on at once.
    pub instances: NonZero<usize>,
    /// How its lane queues.
    pub lane: LaneOptions,
}

impl GraphSource {
    /// Threads of each session.
    pub(crate) fn threads(&self) -> usize {
        let all = || available_parallelism().map_or(1, NonZero::get).div_ceil(self.instances.get());
        self.threads.map_or_else(all, NonZero::get)
    }
}

/// An inference library.
pub trait Backend: Send + Sync {
    /// The name that stands in model metadata and errors.
    fn name(&self) -> BackendName;

    /// Reads a graph and makes `instances` sessions of it. Blocks.
    ///
    /// # Errors
    /// What the library does not support, a device that is not there, or that the file is damaged.
    fn load(&self, source: GraphSource) -> Result<LoadedSessions, NnError>;
}

/// A graph in an inference library.
pub struct LoadedSessions {
    /// The graph's inputs and outputs as its file declares them.
    pub signature: Signature,
    /// Whether several calls can be one run.
    pub batching: Batching,
    /// Inputs whose values are the extents of what the graph makes.
    pub growth: Growth,
    /// Where it runs.
    pub device: Device,
    /// The bytes of memory that it takes up, as near as the library can tell.
    pub memory: u64,
    /// Threads that one run may use of the processor.
    pub threads: usize,
    /// What runs it: one for each run that may go on at once.
    pub sessions: Vec<Box<dyn Session>>,
}

/// How much memory a library takes for a graph, by the length of its files: by what resident memory grew with one more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// Bytes of each session, whatever the graph.
    pub(crate) fixed: u64,
    /// Of the length of the files, of each copy.
    pub(crate) percent: u64,
}

impl Footprint {
    /// The bytes of a graph whose files have `length` bytes, in so many copies.
    pub(crate) fn of(self, length: usize, copies: usize) -> u64 {
        let one = self.fixed.saturating_add((length as u64).saturating_mul(self.percent) / 100);
        one.saturating_mul(copies as u64)
    }
}

/// Whether the first dimension of all inputs and outputs is the same number of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batching {
    /// The file says so: all first dimensions bear one name, which is that of a batch's.
    Plain,
    /// It may be: no first dimension is fixed, and they have other names or none. Whoever wrote the manifest has to say.
    Unproven,
    /// It is not.
    Impossible {
        /// The input or output that stands against it, and why.
        why: String,
    },
}

/// What can run a graph, once at a time. It is owned by one thread of the graph's lane.
pub trait Session: Send {
    /// Runs the graph. `inputs` fit the signature and stand in its order, and so do the outputs.
    ///
    /// A library that can end a run takes the way to do so to `interrupt`.
    ///
    /// # Errors
    /// What went wrong, where it can be told from a defect.
    fn run(&mut self, inputs: &[NamedTensor], interrupt: &Interrupt) -> Result<Vec<NamedTensor>, NnError>;

    /// Runs the lane's `worker` to its end with `self`, on whatever thread the library likes to be called from.
    fn serve(self: Box<Self>, worker: Worker);
}

/// What a lane's thread does with its session until the lane ends.
pub type Worker = Box<dyn FnOnce(&mut dyn Session) + Send>;

/// What a panic that was caught had to say.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
