//! What a model takes and gives.

use crate::scalar::{Datatype, Kind};

/// In a [`Signature`]'s shape: any extent is accepted.
pub const ANY: i64 = -1;

/// The inputs and outputs of a model.
///
/// ```
/// # use vespid_plugin::{ANY, Signature};
/// Signature::new()
///     .input::<[u8]>("image", [ANY])
///     .optional::<i32>("top", [1])
///     .output::<str>("label", [ANY])
///     .output::<f32>("score", [ANY]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Signature {
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its datatype.
    pub datatype: Datatype,
    /// One extent a dimension; [`ANY`] where any is accepted.
    pub shape: Vec<i64>,
    /// Whether a request may leave the input out.
    pub optional: bool,
}

impl TensorSpec {
    /// An input that must be given, or an output.
    pub fn new(name: impl Into<String>, datatype: Datatype, shape: impl Into<Vec<i64>>) -> Self {
        Self { name: name.into(), datatype, shape: shape.into(), optional: false }
    }
}

impl Signature {
    /// Neither inputs nor outputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input. `T` is a number, `bool`, or `str` or `[u8]` for BYTES.
    pub fn input<T: Kind + ?Sized>(self, name: &str, shape: impl Into<Vec<i64>>) -> Self {
        self.with_input(TensorSpec::new(name, T::DATATYPE, shape))
    }

    /// Adds an input that a request may leave out.
    pub fn optional<T: Kind + ?Sized>(self, name: &str, shape: impl Into<Vec<i64>>) -> Self {
        self.with_input(TensorSpec { optional: true, ..TensorSpec::new(name, T::DATATYPE, shape) })
    }

    /// Adds an output. `T` is a number, `bool`, or `str` or `[u8]` for BYTES.
    pub fn output<T: Kind + ?Sized>(self, name: &str, shape: impl Into<Vec<i64>>) -> Self {
        self.with_output(TensorSpec::new(name, T::DATATYPE, shape))
    }

    /// Adds an input whose datatype is known only when the plugin runs.
    pub fn with_input(mut self, spec: TensorSpec) -> Self {
        self.inputs.push(spec);
        self
    }

    /// Adds an output whose datatype is known only when the plugin runs.
    pub fn with_output(mut self, spec: TensorSpec) -> Self {
        self.outputs.push(spec);
        self
    }

    /// The inputs.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// The outputs.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }
}
