//! How an answer departs from what a case expects.

use std::fmt;

use half::{bf16, f16};
use vespid_types::{Datatype, Error, ErrorCode, NamedTensor, Parameter, Parameters, Response, Shape, Tensor};

use super::Expected;
use crate::wire::fault::Clipped;

/// Characters of a value that are shown.
const SHOWN: usize = 60;

/// One departure.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// An output is not there.
    Missing {
        /// The output.
        output: String,
    },
    /// An output is there that the case does not have.
    Surplus {
        /// The output.
        output: String,
    },
    /// An output has another datatype or shape.
    Type {
        /// The output.
        output: String,
        /// Datatype and shape that are expected.
        expected: String,
        /// Those of the answer.
        got: String,
    },
    /// Values of an output differ.
    Values {
        /// The output.
        output: String,
        /// Where the first of them is: an index for each dimension.
        index: Vec<u64>,
        /// What is expected there.
        expected: String,
        /// What the answer has there.
        got: String,
        /// How far off it might be; none where values must be equal.
        tolerance: Option<f64>,
        /// How many differ.
        count: u64,
        /// Of how many.
        of: u64,
    },
    /// A parameter of the response differs.
    Parameter {
        /// The parameter.
        name: String,
        /// What is expected.
        expected: String,
        /// What the answer has; none where it is not there.
        got: Option<String>,
    },
    /// The request failed, or failed otherwise.
    Failed {
        /// The kind of failure.
        code: ErrorCode,
        /// Its message.
        message: String,
        /// What was expected in its place.
        expected: String,
    },
    /// The request was answered where a failure is expected.
    Answered {
        /// What was expected.
        expected: String,
    },
    /// Nothing is recorded that the answer could be compared with.
    Unrecorded,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { output } => write!(f, "output '{output}' is missing in the answer"),
            Self::Surplus { output } => write!(
                f,
                "output '{output}' is in the answer and not in the case: record it, or ask for the others by `outputs`"
            ),
            Self::Type { output, expected, got } => {
                write!(f, "output '{output}': expected {expected}, got {got}")
            }
            Self::Values { output, index, expected, got, tolerance, count, of } => {
                write!(f, "output '{output}'{}: expected {expected}, got {got}", Index(index))?;
                if let Some(tolerance) = tolerance {
                    write!(f, " (tolerance {tolerance:e})")?;
                }
                if *count > 1 {
                    write!(f, "; {count} of {of} values differ")?;
                }
                Ok(())
            }
            Self::Parameter { name, expected, got } => {
                let got = got.as_deref().unwrap_or("none");
                write!(f, "parameter '{name}': expected {expected}, got {got}")
            }
            Self::Failed { code, message, expected } => {
                write!(f, "expected {expected}, got {code}: {message}")
            }
            Self::Answered { expected } => write!(f, "expected {expected}, got an answer"),
            Self::Unrecorded => f.write_str("neither 'response' nor 'error' is recorded yet"),
        }
    }
}

struct Index<'a>(&'a [u64]);

impl fmt::Display for Index<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|index| write!(f, "[{index}]"))
    }
}

pub(super) fn check(
    expected: &Expected,
    answer: &Result<Response, Error>,
    tolerance: f64,
) -> Vec<Difference> {
    let failed = |error: &Error, expected: String| {
        vec![Difference::Failed { code: error.code(), message: error.message().to_owned(), expected }]
    };
    match (expected, answer) {
        (Expected::Unknown, _) => vec![Difference::Unrecorded],
        (Expected::Response { .. }, Err(error)) => failed(error, "an answer".to_owned()),
        (Expected::Response { outputs, parameters }, Ok(response)) => {
            let mut differences = check_outputs(outputs, &response.outputs, tolerance);
            differences.extend(check_parameters(parameters, &response.parameters));
            differences
        }
        (Expected::Error { code, contains }, answer) => {
            let expected = match contains.as_str() {
                "" => format!("{code}"),
                text => format!("{code} with '{text}'"),
            };
            match answer {
                Ok(_) => vec![Difference::Answered { expected }],
                Err(error) if error.code() == *code && error.message().contains(contains) => Vec::new(),
                Err(error) => failed(error, expected),
            }
        }
    }
}

fn check_parameters(expected: &Parameters, got: &Parameters) -> Vec<Difference> {
    let differs = expected.iter().filter(|(name, value)| got.get(*name) != Some(*value));
    differs
        .map(|(name, value)| Difference::Parameter {
            name: name.clone(),
            expected: parameter(value),
            got: got.get(name).map(parameter),
        })
        .collect()
}

fn parameter(value: &Parameter) -> String {
    match value {
        Parameter::Bool(value) => value.to_string(),
        Parameter::Int(value) => value.to_string(),
        Parameter::Double(value) => value.to_string(),
        Parameter::Text(value) => format!("{value:?}"),
    }
}

fn check_outputs(expected: &[NamedTensor], got: &[NamedTensor], tolerance: f64) -> Vec<Difference> {
    let mut differences = Vec::new();
    for NamedTensor { name, tensor } in expected {
        match got.iter().find(|output| output.name == *name) {
            None => differences.push(Difference::Missing { output: name.clone() }),
            Some(answer) => differences.extend(check_tensor(name, tensor, &answer.tensor, tolerance)),
        }
    }
    let surplus = got.iter().filter(|output| !expected.iter().any(|expected| expected.name == output.name));
    differences.extend(surplus.map(|output| Difference::Surplus { output: output.name.clone() }));
    differences
}

fn check_tensor(output: &str, expected: &Tensor, got: &Tensor, tolerance: f64) -> Option<Difference> {
    let output = output.to_owned();
    let kind = |tensor: &Tensor| format!("{} {}", tensor.datatype(), tensor.shape());
    if (expected.datatype(), expected.shape()) != (got.datatype(), got.shape()) {
        return Some(Difference::Type { output, expected: kind(expected), got: kind(got) });
    }
    let mut differing = (0..)
        .zip(Values::of(expected).zip(Values::of(got)))
        .filter(|(_, (expected, got))| !expected.is_close_to(got, tolerance));
    let (place, (first, instead)) = differing.next()?;
    Some(Difference::Values {
        output,
        index: index(expected.shape(), place),
        expected: first.to_string(),
        got: instead.to_string(),
        tolerance: matches!(first, Value::Number(_)).then_some(tolerance),
        count: 1 + differing.count() as u64,
        of: expected.len(),
    })
}

/// Where the element at `place` of the row-major order is.
fn index(shape: &Shape, mut place: u64) -> Vec<u64> {
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|extent| {
            let extent = (*extent).max(1);
            let here = place % extent;
            place /= extent;
            here
        })
        .collect();
    index.reverse();
    index
}

/// An element of a tensor.
#[derive(Clone, Copy)]
enum Value<'a> {
    Whole(i128),
    Number(f64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    fn is_close_to(&self, other: &Self, tolerance: f64) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a == b,
            // Both no numbers, or both the same infinity.
            (Self::Number(a), Self::Number(b)) if a.is_nan() || a.is_infinite() => {
                a == b || (a.is_nan() && b.is_nan())
            }
            (Self::Number(a), Self::Number(b)) => (a - b).abs() <= tolerance * a.abs().max(1.0),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Bytes(bytes) => {
                write!(f, "{}", Clipped(&format!("{:?}", String::from_utf8_lossy(bytes)), SHOWN))
            }
        }
    }
}

/// The elements of a tensor, one after the other.
enum Values<'a> {
    Fixed { datatype: Datatype, chunks: std::slice::ChunksExact<'a, u8> },
    Bytes { tensor: &'a Tensor, elements: vespid_types::Elements<'a> },
}

impl<'a> Values<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        match tensor.datatype().size() {
            Some(size) => {
                Self::Fixed { datatype: tensor.datatype(), chunks: tensor.data().chunks_exact(size) }
            }
            None => Self::Bytes { tensor, elements: tensor.elements() },
        }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Self::Fixed { datatype, chunks } => value(*datatype, chunks.next()?),
            Self::Bytes { tensor, elements } => Some(Value::Bytes(tensor.data().get(elements.next()?)?)),
        }
    }
}

fn value(datatype: Datatype, bytes: &[u8]) -> Option<Value<'_>> {
    macro_rules! whole {
        ($type:ty) => {
            Value::Whole(<$type>::from_le_bytes(bytes.try_into().ok()?).into())
        };
    }
    macro_rules! number {
        ($type:ty) => {
            Value::Number(<$type>::from_le_bytes(bytes.try_into().ok()?).into())
        };
    }
    Some(match datatype {
        Datatype::Bool | Datatype::Uint8 => whole!(u8),
        Datatype::Uint16 => whole!(u16),
        Datatype::Uint32 => whole!(u32),
        Datatype::Uint64 => whole!(u64),
        Datatype::Int8 => whole!(i8),
        Datatype::Int16 => whole!(i16),
        Datatype::Int32 => whole!(i32),
        Datatype::Int64 => whole!(i64),
        Datatype::Fp16 => number!(f16),
        Datatype::Bf16 => number!(bf16),
        Datatype::Fp32 => number!(f32),
        Datatype::Fp64 => number!(f64),
        Datatype::Bytes => return None,
    })
}
