//! What a model takes and gives, and the check of tensors against it.
//!
//! Cost: a request is checked in one pass over its inputs, without allocating where it is right.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::tensor::MAX_RANK;
use crate::{Datatype, NamedTensor, Tensor, clipped};

/// One dimension of a [`TensorSpec`]: written as the number, or as -1 where any extent is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Any number of elements.
    Any,
    /// Exactly this many.
    Fixed(u64),
}

impl Extent {
    /// Reads the protocol's form: -1 or the number of elements. `None` for other negative numbers.
    #[must_use]
    pub fn from_signed(extent: i64) -> Option<Self> {
        match extent {
            -1 => Some(Self::Any),
            n => u64::try_from(n).ok().map(Self::Fixed),
        }
    }

    /// The protocol's form: -1 for [`Extent::Any`].
    #[must_use]
    pub fn to_signed(self) -> i64 {
        match self {
            Self::Any => -1,
            Self::Fixed(n) => i64::try_from(n).unwrap_or(i64::MAX),
        }
    }

    fn admits(self, extent: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Fixed(n) => n == extent,
        }
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.to_signed())
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let extent = i64::deserialize(deserializer)?;
        Self::from_signed(extent)
            .ok_or_else(|| de::Error::custom(format!("extent {extent}: use -1 or a number of elements")))
    }
}

/// The name, datatype and shape of one input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// The name that requests use.
    pub name: String,
    /// The type of the elements.
    pub datatype: Datatype,
    /// One entry a dimension.
    pub shape: Vec<Extent>,
    /// Whether a request may leave this input out.
    #[serde(default)]
    pub optional: bool,
}

impl TensorSpec {
    /// Checks the datatype and shape of `tensor`.
    ///
    /// # Errors
    /// [`SignatureError::Datatype`] or [`SignatureError::Shape`].
    pub fn check(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        if tensor.datatype() != self.datatype {
            return Err(SignatureError::Datatype {
                name: self.name.clone(),
                expected: self.datatype,
                got: tensor.datatype(),
            });
        }
        let shape = tensor.shape();
        let fits = shape.len() == self.shape.len()
            && self.shape.iter().zip(shape.iter()).all(|(spec, extent)| spec.admits(*extent));
        if fits {
            return Ok(());
        }
        Err(SignatureError::Shape {
            name: self.name.clone(),
            expected: ShapeText(&self.shape).to_string(),
            got: tensor.shape().to_string(),
        })
    }
}

struct ShapeText<'a>(&'a [Extent]);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|extent| extent.to_signed())).finish()
    }
}

/// The inputs and outputs of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What a request brings.
    pub inputs: Vec<TensorSpec>,
    /// What a response holds.
    pub outputs: Vec<TensorSpec>,
}

/// How a request or response departs from its signature.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    /// The datatype differs.
    #[error("'{name}' has datatype {got}; the model expects {expected}")]
    Datatype {
        /// The input or output.
        name: String,
        /// What the signature says.
        expected: Datatype,
        /// What came.
        got: Datatype,
    },
    /// The shape differs.
    #[error("'{name}' has shape {got}; the model expects {expected} (-1 stands for any extent)")]
    Shape {
        /// The input or output.
        name: String,
        /// What the signature says.
        expected: String,
        /// What came.
        got: String,
    },
    /// A required input did not come.
    #[error("input '{name}' is missing; the model expects {expected}")]
    Missing {
        /// The input.
        name: String,
        /// All of the inputs.
        expected: String,
    },
    /// An input came that the model does not have.
    #[error("input '{name}' is unknown; the model expects {expected}")]
    Unknown {
        /// The input.
        name: String,
        /// All of the inputs.
        expected: String,
    },
    /// An input came twice.
    #[error("input '{name}' is given twice")]
    Repeated {
        /// The input.
        name: String,
    },
    /// An output was asked for that the model does not have.
    #[error("output '{name}' is unknown; the model has {expected}")]
    UnknownOutput {
        /// The output.
        name: String,
        /// All of the outputs.
        expected: String,
    },
}

/// Inputs that a model has at most, and outputs: each request is held against them.
const MAX_TENSORS: usize = 1024;

/// Bytes of the name of one.
const MAX_NAME: usize = 1024;

impl Signature {
    /// Checks that it is no larger than makes sense: a package's author writes it, and it goes into answers and errors.
    ///
    /// # Errors
    /// What is too large.
    pub fn check_size(&self) -> Result<(), String> {
        for (what, specs) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if specs.len() > MAX_TENSORS {
                return Err(format!("it has {} {what}; a model has at most {MAX_TENSORS}", specs.len()));
            }
        }
        for TensorSpec { name, shape, .. } in self.inputs.iter().chain(&self.outputs) {
            if name.len() > MAX_NAME {
                let name = clipped(name.clone(), 60);
                return Err(format!("the name '{name}' is longer than {MAX_NAME} bytes"));
            }
            if shape.len() > MAX_RANK {
                return Err(format!(
                    "'{name}' has {} dimensions; a tensor has at most {MAX_RANK}",
                    shape.len()
                ));
            }
        }
        Ok(())
    }

    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    /// The output of that name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }

    /// Checks that `inputs` holds every required input once, nothing else, each of the right datatype and shape.
    ///
    /// # Errors
    /// The first departure found.
    pub fn check_inputs(&self, inputs: &[NamedTensor]) -> Result<(), SignatureError> {
        for (position, NamedTensor { name, tensor }) in inputs.iter().enumerate() {
            let spec = self.input(name).ok_or_else(|| SignatureError::Unknown {
                name: name.clone(),
                expected: names(&self.inputs),
            })?;
            spec.check(tensor)?;
            if inputs.iter().skip(position + 1).any(|later| later.name == *name) {
                return Err(SignatureError::Repeated { name: name.clone() });
            }
        }
        let missing = self
            .inputs
            .iter()
            .find(|spec| !spec.optional && !inputs.iter().any(|input| input.name == spec.name));
        match missing {
            Some(spec) => {
                Err(SignatureError::Missing { name: spec.name.clone(), expected: names(&self.inputs) })
            }
            None => Ok(()),
        }
    }

    /// Checks that the model has every output asked for.
    ///
    /// # Errors
    /// [`SignatureError::UnknownOutput`] for the first that it has not.
    pub fn check_requested(&self, requested: &[String]) -> Result<(), SignatureError> {
        match requested.iter().find(|name| self.output(name).is_none()) {
            Some(name) => {
                Err(SignatureError::UnknownOutput { name: name.clone(), expected: names(&self.outputs) })
            }
            None => Ok(()),
        }
    }
}

fn names(specs: &[TensorSpec]) -> String {
    let quoted: Vec<String> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn spec(name: &str, optional: bool) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            datatype: Datatype::Fp32,
            shape: vec![Extent::Any, Extent::Fixed(2)],
            optional,
        }
    }

    fn tensor(name: &str, shape: &[u64]) -> NamedTensor {
        let bytes = 4 * shape.iter().product::<u64>() as usize;
        NamedTensor {
            name: name.into(),
            tensor: Tensor::new(Datatype::Fp32, Shape::from(shape), vec![0; bytes].into()).unwrap(),
        }
    }

    #[test]
    fn inputs_are_checked_by_name_number_and_shape() {
        let signature = Signature { inputs: vec![spec("a", false), spec("b", true)], outputs: vec![] };
        let check = |inputs: &[NamedTensor]| signature.check_inputs(inputs).map_err(|e| e.to_string());
        assert_eq!(check(&[tensor("a", &[3, 2])]), Ok(()));
        assert_eq!(check(&[tensor("b", &[0, 2]), tensor("a", &[3, 2])]), Ok(()));
        assert_eq!(
            check(&[tensor("b", &[1, 2])]).unwrap_err(),
            "input 'a' is missing; the model expects 'a', 'b'"
        );
        assert_eq!(
            check(&[tensor("c", &[1, 2])]).unwrap_err(),
            "input 'c' is unknown; the model expects 'a', 'b'"
        );
        assert!(check(&[tensor("a", &[1, 2]), tensor("a", &[1, 2])]).unwrap_err().contains("twice"));
        assert_eq!(
            check(&[tensor("a", &[2])]).unwrap_err(),
            "'a' has shape [2]; the model expects [-1, 2] (-1 stands for any extent)"
        );
    }

    #[test]
    fn a_signature_is_no_larger_than_makes_sense() {
        let of = |inputs: Vec<TensorSpec>| Signature { inputs, outputs: vec![] }.check_size();
        assert_eq!(of(vec![spec("x", false); MAX_TENSORS]), Ok(()));
        assert!(of(vec![spec("x", false); MAX_TENSORS + 1]).unwrap_err().contains("1025 inputs"));
        assert!(of(vec![spec(&"x".repeat(MAX_NAME + 1), false)]).unwrap_err().contains("longer than 1024"));
        let long = TensorSpec { shape: vec![Extent::Any; MAX_RANK + 1], ..spec("x", false) };
        assert!(of(vec![long]).unwrap_err().contains("65 dimensions"));
    }
}
