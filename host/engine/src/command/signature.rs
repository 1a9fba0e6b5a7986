//! Between tensors and a command's standard streams.
//!
//! Contract: a command has one input and one output, which the manifest writes. The streams carry raw data, row-major and
//! little-endian. A BYTES input is one element and its content alone is handed over; a BYTES output is one element, of
//! shape [1]. Of an output of another datatype one extent may be left open (-1), and follows from what was written. Cost:
//! nothing is copied.

use bytes::Bytes;
use vespid_types::{Datatype, Extent, NamedTensor, Shape, Signature, Tensor, TensorSpec};

use crate::error::EngineError;

/// The length that precedes the content of a BYTES element.
const PREFIX: usize = size_of::<u32>();

/// What a call takes and gives.
pub(super) struct Io {
    /// The input's name.
    input: String,
    output: TensorSpec,
}

/// What a command gets to read.
pub(super) struct Input {
    pub(super) shape: Shape,
    pub(super) content: Bytes,
}

impl Io {
    /// Checks what the manifest writes.
    pub(super) fn of(written: &Signature) -> Result<Self, EngineError> {
        let bad = |field, reason: &str| EngineError::CommandManifest { field, reason: reason.to_owned() };
        let [input] = &written.inputs[..] else {
            return Err(bad("[[input]]", "a command cannot describe itself: write exactly one"));
        };
        let [output] = &written.outputs[..] else {
            return Err(bad("[[output]]", "a command cannot describe itself: write exactly one"));
        };
        if input.optional {
            return Err(bad("input.optional", "it is all that a command gets: leave it out"));
        }
        if output.datatype == Datatype::Bytes {
            if !matches!(output.shape[..], [Extent::Any | Extent::Fixed(1)]) {
                return Err(bad("output.shape", "of BYTES a command gives one element: use [1]"));
            }
        } else if output.shape.iter().filter(|extent| **extent == Extent::Any).count() > 1 {
            return Err(bad(
                "output.shape",
                "one extent follows from what a command writes: use one -1 at most",
            ));
        } else if row(output).is_none() {
            return Err(bad("output.shape", "it has more elements than can be addressed"));
        }
        Ok(Self { input: input.name.clone(), output: output.clone() })
    }

    /// What the command gets to read of a request's inputs, which fit the signature.
    pub(super) fn stdin(&self, inputs: Vec<NamedTensor>) -> Result<Input, EngineError> {
        let bad = |reason| EngineError::Input { name: self.input.clone(), reason };
        let input = inputs.into_iter().next();
        let NamedTensor { tensor, .. } = input.ok_or_else(|| bad("it is missing".to_owned()))?;
        let shape = tensor.shape().clone();
        if tensor.datatype() != Datatype::Bytes {
            return Ok(Input { shape, content: tensor.into_data() });
        }
        let mut elements = tensor.elements();
        match (elements.next(), elements.next()) {
            (Some(only), None) => Ok(Input { shape, content: tensor.data().slice(only) }),
            _ => Err(bad(format!(
                "a command takes one element of BYTES, not {}: send each alone",
                tensor.len()
            ))),
        }
    }

    /// Bytes that are to be kept free before what the command writes.
    pub(super) fn prefix(&self) -> usize {
        if self.output.datatype == Datatype::Bytes { PREFIX } else { 0 }
    }

    /// The output, of what the command wrote behind the [prefix](Self::prefix).
    pub(super) fn output(&self, mut written: Vec<u8>) -> Result<NamedTensor, EngineError> {
        let shape = if self.output.datatype == Datatype::Bytes {
            let length = u32::try_from(written.len().saturating_sub(PREFIX)).ok();
            if let (Some(length), Some(prefix)) = (length, written.first_chunk_mut::<PREFIX>()) {
                *prefix = length.to_le_bytes();
            }
            Some(Shape::from(&[1][..]))
        } else {
            self.shape_of(written.len() as u64)
        };
        let wrong = |what: String| EngineError::BadAnswer { reason: what };
        let length = written.len();
        let TensorSpec { name, datatype, .. } = &self.output;
        let shape = shape.ok_or_else(|| {
            let extents: Vec<i64> = self.output.shape.iter().map(|extent| extent.to_signed()).collect();
            wrong(format!(
                "it wrote {length} bytes to its standard output, and output '{name}' is {datatype} of shape {extents:?}"
            ))
        })?;
        let tensor = Tensor::new(*datatype, shape, written.into())
            .map_err(|error| wrong(format!("output '{name}': {error}")))?;
        Ok(NamedTensor { name: name.clone(), tensor })
    }

    /// The shape that `length` bytes have, if there is one.
    fn shape_of(&self, length: u64) -> Option<Shape> {
        let row = row(&self.output)?;
        let open = self.output.shape.contains(&Extent::Any);
        let any = match (open, row) {
            (false, _) => (length == row).then_some(0),
            (true, 0) => (length == 0).then_some(0),
            (true, _) => length.is_multiple_of(row).then_some(length / row),
        }?;
        let extent = |extent: &Extent| match extent {
            Extent::Any => any,
            Extent::Fixed(extent) => *extent,
        };
        Some(self.output.shape.iter().map(extent).collect())
    }
}

/// The bytes of what the fixed extents span; `None` where they do not fit in 64 bits.
fn row(output: &TensorSpec) -> Option<u64> {
    let size = output.datatype.size()? as u64;
    output.shape.iter().try_fold(size, |product, extent| match extent {
        Extent::Any => Some(product),
        Extent::Fixed(extent) => product.checked_mul(*extent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(datatype: Datatype, shape: &[i64]) -> TensorSpec {
        let shape = shape.iter().map(|extent| Extent::from_signed(*extent).unwrap()).collect();
        TensorSpec { name: "x".to_owned(), datatype, shape, optional: false }
    }

    fn io(datatype: Datatype, shape: &[i64]) -> Result<Io, EngineError> {
        let spec = spec(datatype, shape);
        Io::of(&Signature { inputs: vec![spec.clone()], outputs: vec![spec] })
    }

    fn bytes(elements: &[&str]) -> Vec<NamedTensor> {
        let tensor = Tensor::from_elements(Shape::from(&[elements.len() as u64][..]), elements).unwrap();
        vec![NamedTensor { name: "x".to_owned(), tensor }]
    }

    #[test]
    fn an_open_extent_follows_from_what_was_written() {
        type Case = (&'static [i64], usize, Option<&'static [u64]>);
        let cases: [Case; 10] = [
            (&[-1, 3], 24, Some(&[2, 3])),
            (&[-1, 3], 0, Some(&[0, 3])),
            (&[-1, 3], 13, None),
            (&[2, -1], 24, Some(&[2, 3])),
            (&[2, 3], 24, Some(&[2, 3])),
            (&[2, 3], 28, None),
            (&[], 4, Some(&[])),
            (&[], 0, None),
            (&[-1, 0], 0, Some(&[0, 0])),
            (&[-1, 0], 4, None),
        ];
        for (shape, length, expected) in cases {
            let output = io(Datatype::Fp32, shape).unwrap().output(vec![0; length]);
            match (output, expected) {
                (Ok(output), Some(expected)) => assert_eq!(&output.tensor.shape()[..], expected),
                (Err(EngineError::BadAnswer { reason }), None) => {
                    assert!(reason.contains("output 'x'"), "{reason}");
                }
                (output, _) => panic!("{shape:?}, {length} bytes: {output:?}"),
            }
        }
    }

    #[test]
    fn an_element_of_bytes_travels_without_its_length() {
        let io = io(Datatype::Bytes, &[-1]).unwrap();
        let Input { shape, content } = io.stdin(bytes(&["élan"])).unwrap();
        assert_eq!((&shape[..], &content[..]), (&[1][..], "élan".as_bytes()));
        let mut written = vec![0; io.prefix()];
        written.extend_from_slice(&content);
        assert_eq!(io.output(written).unwrap(), bytes(&["élan"]).remove(0));
        for elements in [&[][..], &["a", "b"]] {
            let error = io.stdin(bytes(elements)).err().unwrap().to_string();
            assert!(error.contains(&format!("one element of BYTES, not {}", elements.len())), "{error}");
        }
    }

    #[test]
    fn a_signature_that_no_command_has_is_refused() {
        let one = || vec![spec(Datatype::Fp32, &[-1])];
        let signature = |inputs, outputs| Io::of(&Signature { inputs, outputs }).err().unwrap().to_string();
        let optional = TensorSpec { optional: true, ..spec(Datatype::Fp32, &[-1]) };
        for (text, expected) in [
            (signature(vec![], vec![]), "[[input]]: a command cannot describe itself: write exactly one"),
            (signature(one(), [one(), one()].concat()), "[[output]]: a command cannot describe itself"),
            (signature(vec![optional], one()), "input.optional"),
            (signature(one(), vec![spec(Datatype::Bytes, &[2])]), "output.shape: of BYTES"),
            (signature(one(), vec![spec(Datatype::Fp32, &[-1, -1])]), "output.shape: one extent"),
            (signature(one(), vec![spec(Datatype::Fp32, &[i64::MAX, 8])]), "than can be addressed"),
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
