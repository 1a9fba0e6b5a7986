//! Tensors as values move through the server: a datatype, a shape, and shared bytes.
//!
//! Contract: a [`Tensor`] that exists is well formed; its byte length fits its datatype and shape, and the elements of a
//! BYTES tensor fit its data. Cost: making one checks lengths (for BYTES a pass over the length prefixes, for BOOL a
//! pass over the values), copies nothing; clones share the data. Left out on purpose: arithmetic and views.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::{BufMut, Bytes};
use smallvec::SmallVec;

use crate::Datatype;

/// The extents of a tensor, outermost first. No entry means a single element.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(SmallVec<[u64; 4]>);

impl Shape {
    /// The number of elements; `None` where it does not fit in 64 bits.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        if self.0.contains(&0) {
            return Some(0);
        }
        self.0.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent))
    }
}

impl Deref for Shape {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl From<&[u64]> for Shape {
    fn from(extents: &[u64]) -> Self {
        Self(SmallVec::from_slice(extents))
    }
}

impl FromIterator<u64> for Shape {
    fn from_iter<I: IntoIterator<Item = u64>>(extents: I) -> Self {
        Self(extents.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

/// Dimensions of a tensor at most: as many as numpy has. Whoever holds a tensor holds its shape, which would else be as long as a
/// guest likes.
pub const MAX_RANK: usize = 64;

/// Why bytes are not a tensor of some datatype and shape.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TensorError {
    /// The shape is longer than any that makes sense.
    #[error("a shape of {rank} dimensions; a tensor has at most {MAX_RANK}")]
    TooManyDimensions {
        /// The number of dimensions.
        rank: usize,
    },
    /// The shape names more elements than can be addressed.
    #[error("shape {shape} has more elements than can be addressed")]
    TooManyElements {
        /// The shape.
        shape: Shape,
    },
    /// The byte length differs from what the datatype and shape ask for.
    #[error("{got} bytes of data; {datatype} of shape {shape} takes {expected}")]
    ByteLength {
        /// The datatype.
        datatype: Datatype,
        /// The shape.
        shape: Shape,
        /// What it takes.
        expected: u64,
        /// What came.
        got: usize,
    },
    /// A BYTES tensor's data holds another number of elements than its shape.
    #[error("the data holds {got} BYTES elements; shape {shape} has {expected}")]
    ElementCount {
        /// The shape.
        shape: Shape,
        /// The shape's number of elements.
        expected: u64,
        /// Whole elements found.
        got: u64,
    },
    /// An element of a BYTES tensor reaches past the end of the data.
    #[error(
        "BYTES element {index} reaches past the end of the data: each is a 32-bit length and that many bytes"
    )]
    ElementLength {
        /// The element's position.
        index: u64,
    },
    /// A BOOL that is neither 0 nor 1.
    #[error("BOOL element {index} is {value}; use 0 or 1")]
    Bool {
        /// The element's position.
        index: usize,
        /// What came.
        value: u8,
    },
}

/// A typed, shaped array in the Open Inference Protocol's raw layout: row-major, little-endian, BOOL as one byte, each
/// element of BYTES as a 32-bit length and that many bytes. The data is shared between clones.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    datatype: Datatype,
    shape: Shape,
    data: Bytes,
}

impl Tensor {
    /// A tensor over `data`, which is not copied.
    ///
    /// # Errors
    /// A [`TensorError`] where the data does not fit.
    pub fn new(datatype: Datatype, shape: Shape, data: Bytes) -> Result<Self, TensorError> {
        if shape.len() > MAX_RANK {
            return Err(TensorError::TooManyDimensions { rank: shape.len() });
        }
        let Some(elements) = shape.elements() else {
            return Err(TensorError::TooManyElements { shape });
        };
        match datatype.size() {
            Some(size) => {
                let expected = elements.saturating_mul(size as u64);
                if data.len() as u64 != expected {
                    return Err(TensorError::ByteLength { datatype, shape, expected, got: data.len() });
                }
                if datatype == Datatype::Bool
                    && let Some(index) = data.iter().position(|value| *value > 1)
                {
                    let value = data.get(index).copied().unwrap_or_default();
                    return Err(TensorError::Bool { index, value });
                }
            }
            None => check_elements(&shape, elements, &data)?,
        }
        Ok(Self { datatype, shape, data })
    }

    /// A BYTES tensor of the given elements, which are copied.
    ///
    /// # Errors
    /// A [`TensorError`] where the number of elements is not the shape's, or one is longer than 4 GiB.
    pub fn from_elements<E: AsRef<[u8]>>(shape: Shape, elements: &[E]) -> Result<Self, TensorError> {
        Self::new(Datatype::Bytes, shape, encode_elements(elements)?)
    }

    /// The type of the elements.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The extents.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The raw data.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The raw data, without the rest.
    #[must_use]
    pub fn into_data(self) -> Bytes {
        self.data
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shape.elements().unwrap_or(0)
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contents of a BYTES tensor's elements, in order; none for other datatypes.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        let data = if self.datatype == Datatype::Bytes { &self.data[..] } else { &[] };
        Elements { data, at: 0 }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {}, {} bytes)", self.datatype, self.shape, self.data.len())
    }
}

/// Where the content of each element of a BYTES tensor lies in its data.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    /// The elements' contents rather than their places.
    pub fn contents(self) -> impl Iterator<Item = &'a [u8]> {
        let data = self.data;
        self.filter_map(move |range| data.get(range))
    }
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let prefix = self.data.get(self.at..)?.first_chunk::<4>()?;
        let start = self.at.checked_add(4)?;
        let end = start.checked_add(u32::from_le_bytes(*prefix) as usize)?;
        if end > self.data.len() {
            return None;
        }
        self.at = end;
        Some(start..end)
    }
}

fn check_elements(shape: &Shape, expected: u64, data: &[u8]) -> Result<(), TensorError> {
    let mut elements = Elements { data, at: 0 };
    let got = elements.by_ref().count() as u64;
    if elements.at != data.len() {
        return Err(TensorError::ElementLength { index: got });
    }
    if got != expected {
        return Err(TensorError::ElementCount { shape: shape.clone(), expected, got });
    }
    Ok(())
}

/// The raw layout of BYTES elements: each a 32-bit little-endian length and the bytes.
///
/// # Errors
/// [`TensorError::ElementLength`] where an element is longer than a 32-bit length can say.
pub fn encode_elements<E: AsRef<[u8]>>(elements: &[E]) -> Result<Bytes, TensorError> {
    let total = elements.iter().map(|element| 4 + element.as_ref().len()).sum();
    let mut data = Vec::with_capacity(total);
    for (index, element) in (0_u64..).zip(elements) {
        let element = element.as_ref();
        let length = u32::try_from(element.len()).map_err(|_| TensorError::ElementLength { index })?;
        data.put_u32_le(length);
        data.put_slice(element);
    }
    Ok(data.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(extents: &[u64]) -> Shape {
        Shape::from(extents)
    }

    #[test]
    fn lengths_are_checked() {
        let make = |extents: &[u64], bytes: usize| {
            Tensor::new(Datatype::Fp32, shape(extents), vec![0; bytes].into()).map_err(|e| e.to_string())
        };
        assert!(make(&[2, 3], 24).is_ok());
        assert!(make(&[], 4).is_ok());
        assert!(make(&[0, 3], 0).is_ok());
        assert_eq!(make(&[2, 3], 23).unwrap_err(), "23 bytes of data; FP32 of shape [2, 3] takes 24");
        assert!(make(&[u64::MAX, 2], 8).unwrap_err().contains("more elements"));
        assert!(make(&[u64::MAX], 8).is_err());
    }

    #[test]
    fn bytes_elements_are_checked_and_read_back() {
        let tensor = Tensor::from_elements(shape(&[3]), &["ab", "", "cde"]).unwrap();
        let read: Vec<&[u8]> = tensor.elements().contents().collect();
        assert_eq!(read, [&b"ab"[..], b"", b"cde"]);

        let data = tensor.into_data();
        let make = |extents: &[u64], data: Bytes| Tensor::new(Datatype::Bytes, shape(extents), data);
        assert_eq!(
            make(&[2], data.clone()).unwrap_err(),
            TensorError::ElementCount { shape: shape(&[2]), expected: 2, got: 3 }
        );
        assert_eq!(make(&[3], data.slice(..14)).unwrap_err(), TensorError::ElementLength { index: 2 });
        assert_eq!(
            make(&[1], Bytes::from_static(&[255, 255, 255, 255])).unwrap_err(),
            TensorError::ElementLength { index: 0 }
        );
    }

    #[test]
    fn bools_are_zero_or_one() {
        let error = Tensor::new(Datatype::Bool, shape(&[2]), Bytes::from_static(&[1, 2])).unwrap_err();
        assert_eq!(error, TensorError::Bool { index: 1, value: 2 });
    }

    #[test]
    fn a_shape_is_no_longer_than_makes_sense() {
        let of = |rank: usize| Tensor::new(Datatype::Uint8, Shape::from(&vec![1; rank][..]), vec![0].into());
        assert!(of(MAX_RANK).is_ok());
        assert_eq!(of(MAX_RANK + 1).unwrap_err(), TensorError::TooManyDimensions { rank: 65 });
    }
}
