//! Requests and responses.

use crate::error::{Error, Result};
use crate::graph::Tensors;
use crate::tensor::Tensor;

/// A value beside the tensors of a request or response.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "named after what they are")]
pub enum Parameter {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// A request whose inputs the host has checked against the signature.
#[derive(Debug, Default)]
pub struct Request {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Tensors,
    pub(crate) outputs: Vec<String>,
    pub(crate) parameters: Vec<(String, Parameter)>,
}

impl Request {
    /// A request without anything, to be filled by a test.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input.
    #[must_use]
    pub fn with(mut self, name: &str, tensor: Tensor) -> Self {
        self.inputs.push(name, tensor);
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: impl Into<Parameter>) -> Self {
        self.parameters.push((name.to_owned(), value.into()));
        self
    }

    /// The caller's id for the request.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// An input that is there: the host refuses requests without one that the signature does not call optional.
    pub fn input(&self, name: &str) -> Result<&Tensor> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// An input that is there, out of the request: to put it into the response or into a graph.
    pub fn take(&mut self, name: &str) -> Result<Tensor> {
        self.inputs.remove(name).ok_or_else(|| missing(name))
    }

    /// An input that may be left out.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.inputs.find(name)
    }

    /// A parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Whether the caller wants this output. What is not wanted need not be computed; where it is, the host drops it.
    #[must_use]
    pub fn wants(&self, output: &str) -> bool {
        self.outputs.is_empty() || self.outputs.iter().any(|name| name == output)
    }
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("the input '{name}' is missing"))
}

/// The answer to a request.
#[derive(Debug, Default)]
#[must_use]
pub struct Response {
    pub(crate) outputs: Tensors,
    pub(crate) parameters: Vec<(String, Parameter)>,
}

impl Response {
    /// An answer without outputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an output.
    pub fn output(mut self, name: &str, tensor: Tensor) -> Self {
        self.outputs.push(name, tensor);
        self
    }

    /// Adds a parameter.
    pub fn parameter(mut self, name: &str, value: impl Into<Parameter>) -> Self {
        self.parameters.push((name.to_owned(), value.into()));
        self
    }

    /// An output, to be looked at by a test.
    #[must_use]
    pub fn get(&self, output: &str) -> Option<&Tensor> {
        self.outputs.find(output)
    }
}

macro_rules! parameters {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Parameter {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

parameters! { bool => Boolean, i32 => Integer, i64 => Integer, f64 => Number, &str => Text, String => Text }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn inputs_are_found_once_taken_gone() {
        let mut request =
            Request::new().with("x", Tensor::new(&[1u8], [1]).unwrap()).with_parameter("top", 3);
        assert_eq!(request.input("x").unwrap().to_vec::<u8>().unwrap(), [1]);
        assert_eq!(request.parameter("top"), Some(&Parameter::Integer(3)));
        assert!(request.take("x").is_ok());
        assert_eq!(request.take("x").unwrap_err().code(), Code::InvalidArgument);
        assert!(request.wants("anything"));
    }
}
