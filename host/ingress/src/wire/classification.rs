//! Triton's extension `classification`: in place of an output's values the greatest of them, with their classes.
//!
//! Contract: each row of the output, which the first dimension counts where there are several, becomes its greatest values,
//! the greatest first, as BYTES `value:index` or `value:index:label`. Values are written as Triton does, fractions with six
//! decimals. Of equal values the first comes first; NaN comes last. Cost: one pass over the values, and room for what is
//! kept. Left out on purpose: classes of BYTES and BOOL, which have no order that means anything.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;

use half::{bf16, f16};
use vespid_types::{Datatype, Error, Response, Shape, Tensor};

use super::fault::name;
use super::format::OutputFormat;

/// More texts than anybody reads: one takes some twenty times the memory of the shortest value.
const MAX_TEXTS: u64 = 1 << 20;

/// Puts classes in the place of the outputs for which `format` asks it. `labels` knows those of an output.
///
/// # Errors
/// `INVALID_ARGUMENT` where an output has no order, or the classes are too many.
pub fn classify_outputs<'a>(
    response: &mut Response,
    format: &OutputFormat,
    labels: impl Fn(&str) -> Option<&'a [String]>,
) -> Result<(), Error> {
    for output in &mut response.outputs {
        if let Some(classes) = format.classes(&output.name) {
            output.tensor = classify(&output.tensor, classes, labels(&output.name)).map_err(|reason| {
                Error::invalid(format!(
                    "output '{}': parameters.classification: {reason}",
                    name(&output.name)
                ))
            })?;
        }
    }
    Ok(())
}

/// The `classes` greatest values of each row of a tensor, with their labels where there are any.
///
/// # Errors
/// Why they cannot be told.
pub fn classify(tensor: &Tensor, classes: u64, labels: Option<&[String]>) -> Result<Tensor, String> {
    let datatype = tensor.datatype();
    let Some(size) = datatype.size().filter(|_| datatype != Datatype::Bool) else {
        return Err(format!("{datatype} cannot be put in order: ask for the output as it is"));
    };
    let (rows, width) = match &tensor.shape()[..] {
        [rows, rest @ ..] if !rest.is_empty() => (Some(*rows), Shape::from(rest).elements().unwrap_or(0)),
        _ => (None, tensor.len()),
    };
    let kept = classes.min(width);
    let total = rows.unwrap_or(1).checked_mul(kept).filter(|total| *total <= MAX_TEXTS);
    let (Some(_), Ok(kept), Ok(width)) = (total, usize::try_from(kept), usize::try_from(width)) else {
        return Err(format!("more than {MAX_TEXTS} classes in all: ask for fewer"));
    };
    let mut texts = Vec::new();
    // Of a row without values there are no bytes, and no class.
    for row in tensor.data().chunks_exact((width * size).max(1)) {
        for Reverse(Ranked { score, index }) in greatest(datatype, row.chunks_exact(size), kept) {
            texts.push(match labels.and_then(|labels| labels.get(index)) {
                Some(label) => format!("{score}:{index}:{label}"),
                None => format!("{score}:{index}"),
            });
        }
    }
    let shape: Shape = rows.into_iter().chain([kept as u64]).collect();
    Tensor::from_elements(shape, &texts).map_err(|error| error.to_string())
}

/// The greatest values, the greatest first.
fn greatest<'a>(
    datatype: Datatype,
    values: impl Iterator<Item = &'a [u8]>,
    kept: usize,
) -> Vec<Reverse<Ranked>> {
    // The least of those kept is at the top.
    let mut heap = BinaryHeap::new();
    for (index, value) in values.enumerate() {
        let candidate = Reverse(Ranked { score: Score::read(datatype, value), index });
        if heap.len() < kept {
            heap.push(candidate);
        } else if let Some(mut least) = heap.peek_mut()
            && candidate < *least
        {
            *least = candidate;
        }
    }
    heap.into_sorted_vec()
}

/// A value; of one tensor all are of one kind.
#[derive(Clone, Copy)]
enum Score {
    Whole(i128),
    Fraction(f64),
}

impl Score {
    fn read(datatype: Datatype, bytes: &[u8]) -> Self {
        fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        match datatype {
            Datatype::Uint8 | Datatype::Bool | Datatype::Bytes => {
                Self::Whole(u8::from_le_bytes(fixed(bytes)).into())
            }
            Datatype::Uint16 => Self::Whole(u16::from_le_bytes(fixed(bytes)).into()),
            Datatype::Uint32 => Self::Whole(u32::from_le_bytes(fixed(bytes)).into()),
            Datatype::Uint64 => Self::Whole(u64::from_le_bytes(fixed(bytes)).into()),
            Datatype::Int8 => Self::Whole(i8::from_le_bytes(fixed(bytes)).into()),
            Datatype::Int16 => Self::Whole(i16::from_le_bytes(fixed(bytes)).into()),
            Datatype::Int32 => Self::Whole(i32::from_le_bytes(fixed(bytes)).into()),
            Datatype::Int64 => Self::Whole(i64::from_le_bytes(fixed(bytes)).into()),
            Datatype::Fp16 => Self::Fraction(f16::from_le_bytes(fixed(bytes)).into()),
            Datatype::Bf16 => Self::Fraction(bf16::from_le_bytes(fixed(bytes)).into()),
            Datatype::Fp32 => Self::Fraction(f32::from_le_bytes(fixed(bytes)).into()),
            Datatype::Fp64 => Self::Fraction(f64::from_le_bytes(fixed(bytes))),
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            // As C writes it.
            Self::Fraction(value) if value.is_nan() => f.write_str("nan"),
            Self::Fraction(value) => write!(f, "{value:.6}"),
        }
    }
}

/// A value at its place: the greater, the earlier it is to come.
struct Ranked {
    score: Score,
    index: usize,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = match (self.score, other.score) {
            (Score::Whole(one), Score::Whole(other)) => one.cmp(&other),
            (Score::Fraction(one), Score::Fraction(other)) => {
                one.partial_cmp(&other).unwrap_or_else(|| other.is_nan().cmp(&one.is_nan()))
            }
            _ => Ordering::Equal,
        };
        scores.then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(datatype: Datatype, shape: &[u64], data: Vec<u8>) -> Tensor {
        Tensor::new(datatype, Shape::from(shape), data.into()).unwrap()
    }

    fn floats(shape: &[u64], values: &[f32]) -> Tensor {
        tensor(Datatype::Fp32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn classes(tensor: &Tensor, classes: u64, labels: &[&str]) -> (Vec<u64>, Vec<String>) {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let labels = (!labels.is_empty()).then_some(&labels[..]);
        let classified = classify(tensor, classes, labels).unwrap();
        let texts = classified.elements().contents();
        (classified.shape().to_vec(), texts.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect())
    }

    #[test]
    fn each_row_s_greatest_come_first() {
        let scores = floats(&[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.25, 0.25]);
        let (shape, texts) = classes(&scores, 2, &["a", "b"]);
        assert_eq!(shape, [2, 2]);
        // A label that is not there is left out, as Triton does.
        assert_eq!(texts, ["0.700000:1:b", "0.200000:2", "0.500000:0:a", "0.250000:1:b"]);
    }

    #[test]
    fn one_dimension_is_one_row_and_no_more_than_there_are_come() {
        let (shape, texts) = classes(&floats(&[3], &[1.0, -2.5, 1e9]), 100, &[]);
        assert_eq!(shape, [3]);
        assert_eq!(texts, ["1000000000.000000:2", "1.000000:0", "-2.500000:1"]);
        assert_eq!(classes(&floats(&[], &[2.0]), 1, &[]), (vec![1], vec!["2.000000:0".to_owned()]));
    }

    #[test]
    fn further_dimensions_are_of_the_row() {
        let (shape, texts) = classes(&tensor(Datatype::Int8, &[1, 2, 2], vec![1, 255, 127, 128]), 2, &[]);
        assert_eq!((shape, texts), (vec![1, 2], vec!["127:2".to_owned(), "1:0".to_owned()]));
    }

    #[test]
    fn nan_comes_last_and_infinity_has_its_place() {
        let (_, texts) = classes(&floats(&[4], &[f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0]), 4, &[]);
        assert_eq!(texts, ["inf:2", "0.000000:3", "-inf:1", "nan:0"]);
    }

    #[test]
    fn whole_numbers_are_written_whole() {
        let data = [u64::MAX.to_le_bytes(), 7_u64.to_le_bytes()].concat();
        let (_, texts) = classes(&tensor(Datatype::Uint64, &[2], data), 1, &[]);
        assert_eq!(texts, ["18446744073709551615:0"]);
        let data = [f16::from_f32(0.5).to_le_bytes(), f16::from_f32(1.5).to_le_bytes()].concat();
        assert_eq!(classes(&tensor(Datatype::Fp16, &[2], data), 1, &[]).1, ["1.500000:1"]);
    }

    #[test]
    fn nothing_has_no_class() {
        assert_eq!(classes(&floats(&[0, 3], &[]), 2, &[]), (vec![0, 2], vec![]));
        assert_eq!(classes(&floats(&[3, 0], &[]), 2, &[]), (vec![3, 0], vec![]));
        assert_eq!(classes(&floats(&[1 << 40, 0], &[]), 2, &[]), (vec![1 << 40, 0], vec![]));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let text = Tensor::from_elements(Shape::from(&[1][..]), &["a"]).unwrap();
        assert!(classify(&text, 1, None).unwrap_err().starts_with("BYTES cannot be put in order"));
        assert!(classify(&tensor(Datatype::Bool, &[1], vec![1]), 1, None).is_err());
        let wide = tensor(Datatype::Uint8, &[1 << 21], vec![0; 1 << 21]);
        assert!(classify(&wide, u64::MAX, None).unwrap_err().contains("ask for fewer"));
        assert!(classify(&wide, 5, None).is_ok());
    }
}
