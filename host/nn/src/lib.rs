//! Inference: backends behind one trait, and the lanes that feed them.
//!
//! Contract: [`Graphs::load`] turns a package's graph files into lanes; [`LaneHandle::compute`] runs one and is the
//! only way to a backend. Nothing that a caller sends can panic the host: every failure is an [`NnError`]. Cost: a
//! compute call is one hop to the lane's thread and one back; tensors are moved, not copied. Left out on purpose:
//! WebAssembly (the wasi-nn bindings live in `engine`) and packages.

mod backend;
pub mod embedded;
mod error;
mod lane;
mod onnx;
mod protobuf;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use backend::{Backend, Graph, GraphSource, Worker};
pub use error::NnError;
pub use lane::{LaneHandle, LaneOptions};

/// The lanes of a package's graphs, by the names under which a plugin loads them.
#[derive(Clone, Default)]
pub struct Graphs(Arc<BTreeMap<String, LoadedGraph>>);

/// A graph that is ready to run.
#[derive(Clone)]
pub struct LoadedGraph {
    /// The way to the backend.
    pub lane: LaneHandle,
    /// The backend's name, as it stands in model metadata.
    pub backend: &'static str,
}

impl Graphs {
    /// Loads each graph on the embedded backend and starts its lane. Blocks: reads and optimises the graphs.
    ///
    /// # Errors
    /// The first graph that the backend refuses, by its name.
    pub fn load(sources: Vec<GraphSource>) -> Result<Self, NnError> {
        let backend = embedded::Embedded;
        let mut graphs = BTreeMap::new();
        for source in sources {
            let (name, options) = (source.name.clone(), source.lane);
            let load = std::panic::AssertUnwindSafe(|| backend.load(source));
            let graph = std::panic::catch_unwind(load)
                .unwrap_or_else(|_| {
                    Err(NnError::Load { message: "the backend failed while reading it".into() })
                })
                .map_err(|error| error.in_graph(&name))?;
            let lane = LaneHandle::start(&name, graph, options)?;
            graphs.insert(name, LoadedGraph { lane, backend: backend.name() });
        }
        Ok(Self(Arc::new(graphs)))
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

    /// The only graph, where there is exactly one.
    #[must_use]
    pub fn single(&self) -> Option<&LoadedGraph> {
        match self.0.len() {
            1 => self.0.values().next(),
            _ => None,
        }
    }
}
