//! The elements of a tensor as values, to be compared or shown.
//!
//! Contract: every element once, in row-major order. Cost: one conversion an element. Left out on purpose: computing with
//! them, which is a backend's.

use std::slice::ChunksExact;

use half::{bf16, f16};

use crate::tensor::Elements;
use crate::{Datatype, Tensor};

/// An element of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element<'a> {
    /// Of an integer datatype, or BOOL as 0 or 1.
    Whole(i128),
    /// Of a floating-point datatype.
    Number(f64),
    /// Of BYTES: its content.
    Bytes(&'a [u8]),
}

impl Element<'_> {
    /// Whether `other` may stand for this one: floating-point numbers may be off by `tolerance`, or by as large a part of this
    /// one; what is no number, and infinities, only stand for themselves, and so do other elements.
    #[must_use]
    pub fn is_close_to(&self, other: &Self, tolerance: f64) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) if a.is_nan() || a.is_infinite() => {
                a == b || (a.is_nan() && b.is_nan())
            }
            (Self::Number(a), Self::Number(b)) => (a - b).abs() <= tolerance * a.abs().max(1.0),
            _ => self == other,
        }
    }
}

/// The elements of a tensor, one after the other.
pub struct Values<'a>(Kind<'a>);

enum Kind<'a> {
    Fixed { datatype: Datatype, chunks: ChunksExact<'a, u8> },
    Bytes { data: &'a [u8], elements: Elements<'a> },
}

impl Tensor {
    /// Its elements.
    #[must_use]
    pub fn values(&self) -> Values<'_> {
        let datatype = self.datatype();
        Values(match datatype.size() {
            Some(size) => Kind::Fixed { datatype, chunks: self.data().chunks_exact(size) },
            None => Kind::Bytes { data: self.data(), elements: self.elements() },
        })
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        match &mut self.0 {
            Kind::Fixed { datatype, chunks } => element(*datatype, chunks.next()?),
            Kind::Bytes { data, elements } => Some(Element::Bytes(data.get(elements.next()?)?)),
        }
    }
}

fn element(datatype: Datatype, bytes: &[u8]) -> Option<Element<'_>> {
    macro_rules! whole {
        ($type:ty) => {
            Element::Whole(<$type>::from_le_bytes(bytes.try_into().ok()?).into())
        };
    }
    macro_rules! number {
        ($type:ty) => {
            Element::Number(<$type>::from_le_bytes(bytes.try_into().ok()?).into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shape, encode_elements};

    fn tensor(values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(Datatype::Fp32, Shape::from([values.len() as u64].as_slice()), data.into()).unwrap()
    }

    #[test]
    fn numbers_are_close_within_the_tolerance() {
        let close = |a: f32, b: f32, tolerance| {
            let (a, b) = (tensor(&[a]), tensor(&[b]));
            a.values().zip(b.values()).all(|(a, b)| a.is_close_to(&b, tolerance))
        };
        assert!(close(1.0, 1.000_001, 1e-5) && close(100.0, 100.0005, 1e-5));
        assert!(!close(1.0, 1.0001, 1e-5) && !close(1.0, f32::NAN, 1.0) && !close(f32::INFINITY, 1.0, 1.0));
        assert!(close(f32::NAN, f32::NAN, 0.0) && close(f32::INFINITY, f32::INFINITY, 0.0));
    }

    #[test]
    fn elements_of_bytes_are_their_contents() {
        let data = encode_elements(&[&b"a"[..], b""]).unwrap();
        let tensor = Tensor::new(Datatype::Bytes, Shape::from([2].as_slice()), data).unwrap();
        let values: Vec<_> = tensor.values().collect();
        assert_eq!(values, [Element::Bytes(b"a"), Element::Bytes(b"")]);
    }
}
