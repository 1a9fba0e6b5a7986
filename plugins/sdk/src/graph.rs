//! Graphs, computed natively by the host.

use crate::error::{Error, Result};
use crate::sys;
use crate::tensor::Tensor;

/// A graph of the model's package.
pub struct Graph {
    handle: sys::Graph,
}

impl Graph {
    /// The graph that the manifest names so. It was loaded with the model; nothing is loaded here.
    pub fn load(name: &str) -> Result<Self> {
        sys::Graph::load(name)
            .map(|handle| Self { handle })
            .map_err(|error| error.context(format_args!("graph '{name}'")))
    }

    /// Computes the graph. The inputs are handed over and nothing is copied; calls of other requests may be computed along
    /// with this one.
    pub fn compute<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, Tensor)>) -> Result<Tensors> {
        self.handle.compute(inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)))
    }
}

/// Named tensors: what a graph or another model answered.
#[derive(Debug, Default)]
pub struct Tensors {
    tensors: Vec<(String, Tensor)>,
}

impl Tensors {
    /// The tensor of that name, which must be there.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.find(name).ok_or_else(|| self.missing(name))
    }

    /// The tensor of that name, which must be there, out of this.
    pub fn take(&mut self, name: &str) -> Result<Tensor> {
        self.remove(name).ok_or_else(|| self.missing(name))
    }

    /// The tensors with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Tensor> {
        self.iter().find(|(own, _)| *own == name).map(|(_, tensor)| tensor)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Tensor> {
        let place = self.tensors.iter().position(|(own, _)| own == name)?;
        Some(self.tensors.remove(place).1)
    }

    pub(crate) fn push(&mut self, name: &str, tensor: Tensor) {
        self.tensors.push((name.to_owned(), tensor));
    }

    fn missing(&self, name: &str) -> Error {
        let names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        Error::internal(format!("there is no tensor '{name}' in the answer, only [{}]", names.join(", ")))
    }
}

impl FromIterator<(String, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self { tensors: tensors.into_iter().collect() }
    }
}

impl IntoIterator for Tensors {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}
