//! How an answer departs from what a case expects.

use std::fmt;

use vespid_types::{Element, Error, ErrorCode, NamedTensor, Parameter, Parameters, Response, Shape, Tensor};

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
        .zip(expected.values().zip(got.values()))
        .filter(|(_, (expected, got))| !expected.is_close_to(got, tolerance));
    let (place, (first, instead)) = differing.next()?;
    Some(Difference::Values {
        output,
        index: index(expected.shape(), place),
        expected: shown(&first),
        got: shown(&instead),
        tolerance: matches!(first, Element::Number(_)).then_some(tolerance),
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

fn shown(element: &Element<'_>) -> String {
    match element {
        Element::Whole(value) => value.to_string(),
        Element::Number(value) => value.to_string(),
        Element::Bytes(bytes) => Clipped(&format!("{:?}", String::from_utf8_lossy(bytes)), SHOWN).to_string(),
    }
}
