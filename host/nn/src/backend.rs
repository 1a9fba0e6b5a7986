//! The border between lanes and inference libraries.

use bytes::Bytes;
use vespid_types::{Device, Encoding, NamedTensor, Signature};

use crate::{LaneOptions, NnError};

/// A graph to be loaded.
pub struct GraphSource {
    /// The name under which plugins load it.
    pub name: String,
    /// The file's content.
    pub data: Bytes,
    /// The file's encoding.
    pub encoding: Encoding,
    /// Where to run it.
    pub device: Device,
    /// How its lane queues.
    pub lane: LaneOptions,
}

/// An inference library.
pub trait Backend {
    /// The name that stands in model metadata and errors.
    fn name(&self) -> &'static str;

    /// Reads a graph. Blocks.
    ///
    /// # Errors
    /// What the library does not support, or that the file is damaged.
    fn load(&self, source: GraphSource) -> Result<Box<dyn Graph>, NnError>;
}

/// A graph in an inference library. It is run by one thread, which its lane owns.
pub trait Graph: Send {
    /// The graph's inputs and outputs as its file declares them.
    fn signature(&self) -> &Signature;

    /// Runs the graph. `inputs` fit the signature; the outputs come in the signature's order.
    ///
    /// # Errors
    /// What went wrong, where it can be told from a defect.
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, NnError>;

    /// Runs the lane's `worker` to its end with `self`, on whatever thread the library likes to be called from.
    fn serve(self: Box<Self>, worker: Worker);
}

/// What a lane does with its graph until the lane ends.
pub type Worker = Box<dyn FnOnce(&mut dyn Graph) + Send>;
