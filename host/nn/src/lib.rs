//! Inference: backends behind one trait, and the lanes that feed them.
//!
//! Contract: [`Backends`] says which inference libraries there are; [`LoadedGraph::load`] turns a graph's file into a
//! lane; [`LaneHandle::compute`] runs one and is the only way to a backend. Nothing that a caller sends can panic the
//! host: every failure is an [`NnError`]. Cost: a compute call is one hop to a lane's thread and one back; tensors are
//! moved, not copied, but for the inputs of calls that run as one batch. Left out on purpose: WebAssembly (the wasi-nn
//! bindings live in `engine`) and packages.

mod backend;
mod backends;
mod batch;
pub mod embedded;
mod error;
mod growth;
mod interrupt;
mod lane;
mod onnx;
pub mod onnxruntime;
pub mod openvino;
mod protobuf;
mod queue;
mod runs;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vespid_types::{BackendName, Device};

pub use backend::{Backend, Batching, GraphSource, LoadedSessions, Session, Worker, panic_message};
pub use backends::Backends;
pub use error::NnError;
pub use growth::Growth;
pub use interrupt::Interrupt;
pub use lane::{DEFAULT_MAX_ROWS, LaneHandle, LaneOptions, LaneUsage};
pub use runs::RunTimes;

/// The lanes of a package's graphs, by the names under which a plugin loads them.
#[derive(Clone, Default)]
pub struct Graphs(Arc<BTreeMap<String, LoadedGraph>>);

/// A graph that is ready to run.
#[derive(Clone)]
pub struct LoadedGraph {
    /// The way to the backend.
    pub lane: LaneHandle,
    /// What runs it.
    pub backend: BackendName,
    /// Where it runs.
    pub device: Device,
}

impl FromIterator<(String, LoadedGraph)> for Graphs {
    fn from_iter<I: IntoIterator<Item = (String, LoadedGraph)>>(graphs: I) -> Self {
        Self(Arc::new(graphs.into_iter().collect()))
    }
}

impl Graphs {
    /// Loads each graph. Blocks.
    ///
    /// # Errors
    /// The first graph that cannot be loaded, by its name.
    pub fn load(backends: &Backends, sources: Vec<GraphSource>) -> Result<Self, NnError> {
        let load = |source: GraphSource| Ok((source.name.clone(), LoadedGraph::load(backends, source)?));
        sources.into_iter().map(load).collect()
    }

    /// The graph of that name.
    ///
    /// # Errors
    /// [`NnError::UnknownGraph`], which names those that there are.
    pub fn get(&self, name: &str) -> Result<&LoadedGraph, NnError> {
        self.0.get(name).ok_or_else(|| NnError::UnknownGraph {
            name: name.chars().take(128).collect(),
            known: self.0.keys().cloned().collect(),
        })
    }

    /// What all of their lanes have to do and have done, together.
    #[must_use]
    pub fn usage(&self) -> LaneUsage {
        let mut usage = LaneUsage::default();
        for graph in self.0.values() {
            let LaneUsage { waiting, runs } = graph.lane.usage();
            usage.waiting += waiting;
            runs.into_iter().for_each(|(rows, times)| usage.runs.entry(rows).or_default().add(times));
        }
        usage
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The only graph, where there is exactly one.
    #[must_use]
    pub fn single(&self) -> Option<&LoadedGraph> {
        match self.0.len() {
            1 => self.0.values().next(),
            _ => None,
        }
    }
}

impl LoadedGraph {
    /// Loads a graph and starts its lane. Blocks: reads and optimises it.
    ///
    /// # Errors
    /// Why it cannot be loaded, with its name.
    pub fn load(backends: &Backends, source: GraphSource) -> Result<Self, NnError> {
        let name = source.name.clone();
        Self::load_unnamed(backends, source).map_err(|error| error.in_graph(&name))
    }

    fn load_unnamed(backends: &Backends, source: GraphSource) -> Result<Self, NnError> {
        let backend = backends.choose(&source)?;
        let (name, options) = (source.name.clone(), source.lane);
        let loaded = catch_unwind(AssertUnwindSafe(|| backend.load(source))).unwrap_or_else(|panic| {
            let message = format!("the backend failed while reading it: {}", backend::panic_message(&*panic));
            Err(NnError::Load { message })
        })?;
        loaded.signature.check_size().map_err(|message| NnError::Load { message })?;
        let device = loaded.device;
        let lane = LaneHandle::start(&name, loaded, options)?;
        Ok(Self { lane, backend: backend.name(), device })
    }

    /// The same graph for another model, which counts its own runs.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { lane: self.lane.share(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_graph_is_named_with_those_there_are() {
        let error = Graphs::default().get("magika").err().unwrap();
        assert_eq!(error.to_string(), "no graph is named 'magika'; the package has none");
    }
}
