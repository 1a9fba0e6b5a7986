//! Parameters of requests and responses.

use std::collections::BTreeMap;

/// The value of a parameter, one of the kinds that the Open Inference Protocol's `InferParameter` has.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// Text.
    Text(String),
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;
