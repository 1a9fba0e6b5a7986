//! The datatypes, and the Rust types that stand for them.
//!
//! Contract: the implementations of [`Scalar`] are closed, and for each of them any bytes that `Scalar::repair` has seen
//! are valid values; this is what lets the data of a tensor be read in place.

use std::fmt;

/// The datatypes of the Open Inference Protocol v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named after what they are")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    /// The protocol's name of it, such as `FP32`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A type that stands for a datatype: the numbers, `bool`, and `str` or `[u8]` for BYTES.
pub trait Kind: sealed::Sealed {
    /// The datatype that it stands for.
    const DATATYPE: Datatype;
}

/// A type of fixed size that stands for a datatype.
pub trait Scalar: Kind + Copy + 'static {
    /// Makes valid values of bytes that are not.
    #[doc(hidden)]
    fn repair(_bytes: &mut [u8]) {}
}

/// A half-precision float, as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(
    /// The bits: sign, 5 of exponent, 10 of fraction.
    pub u16,
);

/// A bfloat16, as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(
    /// The bits: the upper half of a float's.
    pub u16,
);

impl F16 {
    /// The same number as a float.
    #[must_use]
    pub fn to_f32(self) -> f32 {
        let sign = u32::from(self.0 & 0x8000) << 16;
        let exponent = u32::from(self.0 >> 10) & 0x1f;
        let fraction = u32::from(self.0 & 0x3ff);
        let magnitude = match (exponent, fraction) {
            (0, _) => (fraction as f32 * 2.0f32.powi(-24)).to_bits(),
            (0x1f, _) => 0x7f80_0000 | fraction << 13,
            _ => (exponent + 112) << 23 | fraction << 13,
        };
        f32::from_bits(sign | magnitude)
    }
}

impl Bf16 {
    /// The same number as a float.
    #[must_use]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

macro_rules! kinds {
    ($($type:ty => $datatype:ident),* $(,)?) => {
        $(impl sealed::Sealed for $type {}
        impl Kind for $type {
            const DATATYPE: Datatype = Datatype::$datatype;
        })*
    };
}

kinds! {
    bool => Bool, u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64, i8 => Int8, i16 => Int16, i32 => Int32,
    i64 => Int64, F16 => Fp16, Bf16 => Bf16, f32 => Fp32, f64 => Fp64, str => Bytes, [u8] => Bytes,
}

macro_rules! scalars {
    ($($type:ty)*) => { $(impl Scalar for $type {})* };
}

scalars! { u8 u16 u32 u64 i8 i16 i32 i64 F16 Bf16 f32 f64 }

impl Scalar for bool {
    fn repair(bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
}

mod sealed {
    pub trait Sealed {}
}

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian and read in place");

/// The bytes of the values.
#[allow(unsafe_code)]
pub(crate) fn as_bytes<T: Scalar>(values: &[T]) -> &[u8] {
    // SAFETY: a `Scalar` has no padding, so each of its bytes is initialised; the length is the slice's own.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The values that repaired bytes are, where they are aligned as such values must be.
#[allow(unsafe_code)]
pub(crate) fn from_bytes<T: Scalar>(bytes: &[u8]) -> Option<&[T]> {
    let aligned = bytes.as_ptr().cast::<T>().is_aligned();
    // SAFETY: aligned as `T`, no longer than the bytes are, and of valid values: any bits are a number, and a `bool`'s
    // bytes have been through `repair` in `Values::new`, the only caller.
    aligned
        .then(|| unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// The values that bytes of any alignment are.
#[allow(unsafe_code)]
pub(crate) fn copy_from_bytes<T: Scalar>(bytes: &[u8]) -> Vec<T> {
    bytes
        .chunks_exact(size_of::<T>())
        // SAFETY: `T`'s size long, and valid values, as in `from_bytes`.
        .map(|chunk| unsafe { chunk.as_ptr().cast::<T>().read_unaligned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_are_what_the_standard_says() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0x3555, 0.333_251_95),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(F16(bits).to_f32().to_bits(), f32::to_bits(value), "{bits:#06x}");
        }
        assert!(F16(0x7e00).to_f32().is_nan());
        assert_eq!(Bf16(0x3f80).to_f32(), 1.0);
        assert_eq!(Bf16(0xc040).to_f32(), -3.0);
    }

    #[test]
    fn values_and_their_bytes_are_one() {
        let values = [1.5f64, -2.0, f64::MAX];
        let bytes = as_bytes(&values);
        assert_eq!(bytes.len(), 24);
        assert_eq!(from_bytes::<f64>(bytes), Some(values.as_slice()));
        let mut shifted = vec![0u8];
        shifted.extend(bytes);
        assert_eq!(copy_from_bytes::<f64>(&shifted[1..]), values);
    }
}
