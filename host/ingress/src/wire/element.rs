//! One element of a tensor's JSON `data`, turned into its bytes.
//!
//! Contract: a number that the datatype cannot hold is refused, never wrapped or made infinite; a decimal fraction is
//! rounded to the nearest value. Whole numbers are written without a fraction, as every client does: 1.0 is no INT32.
//! Cost: one parse of the token, no allocation but for strings with escapes. Left out on purpose: NaN and infinity in
//! any spelling, for JSON has none; they travel in binary tensors.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::{bf16, f16};
use vespid_types::Datatype;

use super::fault::Clipped;

/// A datatype's way from a token of JSON to bytes.
pub(super) trait Element {
    /// The datatype.
    const DATATYPE: Datatype;

    /// Appends the bytes of `token`, one JSON value that is no array. The error completes "data\[3\]: ...".
    fn push(token: &str, out: &mut Vec<u8>) -> Result<(), String>;

    /// Appends the bytes of the number that `text` begins with, and says how long its text is: the quick way for what nearly
    /// all of a body is. Where this is not plain, nothing comes of it, and [`Element::push`] decides.
    fn take(_text: &[u8], _out: &mut Vec<u8>) -> Option<usize> {
        None
    }
}

pub(super) struct Bool;

impl Element for Bool {
    const DATATYPE: Datatype = Datatype::Bool;

    fn push(token: &str, out: &mut Vec<u8>) -> Result<(), String> {
        out.push(match token {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return Err(format!("expected true, false, 1 or 0, got {}", Got(token))),
        });
        Ok(())
    }
}

/// A whole number of type `T`.
pub(super) struct Whole<T>(T);

/// A number with a fraction of type `T`.
pub(super) struct Fraction<T>(T);

macro_rules! whole {
    ($($type:ty => $datatype:ident),*) => {$(
        impl Element for Whole<$type> {
            const DATATYPE: Datatype = Datatype::$datatype;

            #[inline]
            fn push(token: &str, out: &mut Vec<u8>) -> Result<(), String> {
                let value: $type = number(token).ok_or_else(|| not_whole::<$type>(Self::DATATYPE, token))?;
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }

            #[inline]
            fn take(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
                let (value, length) = lexical_core::parse_partial::<$type>(text).ok()?;
                out.extend_from_slice(&value.to_le_bytes());
                Some(length)
            }
        }
    )*};
}

macro_rules! fraction {
    ($($type:ty, $read:ty, $narrow:expr => $datatype:ident),*) => {$(
        impl Element for Fraction<$type> {
            const DATATYPE: Datatype = Datatype::$datatype;

            #[inline]
            fn push(token: &str, out: &mut Vec<u8>) -> Result<(), String> {
                let value: Option<$type> = number::<$read>(token).map($narrow).filter(|value| value.is_finite());
                let value = value.ok_or_else(|| not_fraction(Self::DATATYPE, token))?;
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }

            #[inline]
            fn take(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
                let (value, length) = lexical_core::parse_partial::<$read>(text).ok()?;
                let value: $type = ($narrow)(value);
                out.extend_from_slice(&value.to_le_bytes());
                value.is_finite().then_some(length)
            }
        }
    )*};
}

whole!(u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64);
// FP32 is read as such, for on a way over FP64 it would be rounded twice.
fraction!(f16, f64, f16::from_f64 => Fp16, bf16, f64, bf16::from_f64 => Bf16, f32, f32, |value| value => Fp32,
    f64, f64, |value| value => Fp64);

pub(super) struct Text;

impl Element for Text {
    const DATATYPE: Datatype = Datatype::Bytes;

    fn push(token: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let Some(inner) = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Err(format!("expected a string, for the datatype is BYTES; got {}", Got(token)));
        };
        if inner.contains('\\') {
            let text: String = serde_json::from_str(token).map_err(|_| {
                "the string has an escape that stands for no character: send such bytes in a binary tensor".to_owned()
            })?;
            push_bytes(text.as_bytes(), out)
        } else {
            push_bytes(inner.as_bytes(), out)
        }
    }
}

/// BYTES as text, or as TensorFlow Serving writes any bytes: `{"b64": "..."}`.
pub(super) struct TextOrBase64;

impl Element for TextOrBase64 {
    const DATATYPE: Datatype = Datatype::Bytes;

    fn push(token: &str, out: &mut Vec<u8>) -> Result<(), String> {
        if !token.starts_with('{') {
            return Text::push(token, out);
        }
        let Base64 { b64 } = serde_json::from_str(token).map_err(|_| {
            "expected a string, or an object {\"b64\": ...} and nothing else in it".to_owned()
        })?;
        let bytes = STANDARD.decode(&*b64).map_err(|error| format!("b64: not base64: {error}"))?;
        push_bytes(&bytes, out)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64<'a> {
    #[serde(borrow)]
    b64: Cow<'a, str>,
}

/// Whether a token is BYTES in base64, and not any other object.
pub(super) fn is_base64(token: &str) -> bool {
    token.starts_with('{') && serde_json::from_str::<Base64<'_>>(token).is_ok()
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let length = u32::try_from(bytes.len()).map_err(|_| "the string is longer than 4 GiB".to_owned())?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// The token as a number. Rust reads a few words and signs that JSON does not have; those never come here, for the
/// data has been read as JSON before.
#[inline]
fn number<T: FromStr>(token: &str) -> Option<T> {
    token.parse().ok().filter(|_| is_number(token))
}

fn is_number(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

trait Range: fmt::Display {
    const MIN: Self;
    const MAX: Self;
}

macro_rules! range {
    ($($type:ty),*) => {$(
        impl Range for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;
        }
    )*};
}

range!(u8, u16, u32, u64, i8, i16, i32, i64);

#[cold]
fn not_whole<T: Range>(datatype: Datatype, token: &str) -> String {
    if !is_number(token) {
        return not_number(datatype, token);
    }
    let got = Clipped(token, 40);
    if token.contains(['.', 'e', 'E']) {
        format!("expected {} whole number without fraction or exponent, got {got}", article(datatype))
    } else {
        format!("{got} is out of range for {datatype} ({} to {})", T::MIN, T::MAX)
    }
}

#[cold]
fn not_fraction(datatype: Datatype, token: &str) -> String {
    if is_number(token) {
        format!("{} is out of range for {datatype}", Clipped(token, 40))
    } else {
        not_number(datatype, token)
    }
}

#[cold]
fn not_number(datatype: Datatype, token: &str) -> String {
    let article = article(datatype);
    let remedy = match token {
        "null" => " (if it stands for NaN: send NaN in a binary tensor)",
        _ => "",
    };
    format!("expected {article} number, got {}{remedy}", Got(token))
}

fn article(datatype: Datatype) -> String {
    let an = datatype.as_str().starts_with(['I', 'F', 'U']) && !datatype.as_str().starts_with("UI");
    format!("{} {datatype}", if an { "an" } else { "a" })
}

/// What kind of JSON value came.
pub(super) struct Got<'a>(pub(super) &'a str);

impl fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_bytes().first() {
            Some(b'"') => f.write_str("a string"),
            Some(b'{') => f.write_str("an object"),
            Some(b'[') => f.write_str("an array"),
            _ => write!(f, "{}", Clipped(self.0, 40)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push<E: Element>(token: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        E::push(token, &mut out).map(|()| out)
    }

    #[test]
    fn numbers_keep_to_their_range() {
        assert_eq!(push::<Whole<u8>>("255"), Ok(vec![255]));
        assert_eq!(push::<Whole<u8>>("256").unwrap_err(), "256 is out of range for UINT8 (0 to 255)");
        assert_eq!(push::<Whole<i8>>("-128"), Ok(vec![0x80]));
        assert_eq!(push::<Whole<u64>>("18446744073709551615"), Ok(vec![255; 8]));
        assert!(push::<Whole<i64>>("9223372036854775808").is_err());
        assert_eq!(
            push::<Whole<i32>>("1.0").unwrap_err(),
            "expected an INT32 whole number without fraction or exponent, got 1.0"
        );
        assert_eq!(push::<Fraction<f32>>("1e39").unwrap_err(), "1e39 is out of range for FP32");
        assert_eq!(push::<Fraction<f64>>("1e999").unwrap_err(), "1e999 is out of range for FP64");
        assert_eq!(push::<Fraction<f16>>("65504"), Ok(f16::MAX.to_le_bytes().to_vec()));
        assert!(push::<Fraction<f16>>("65520").is_err());
        assert_eq!(push::<Fraction<bf16>>("-0.0"), Ok(bf16::NEG_ZERO.to_le_bytes().to_vec()));
        assert_eq!(push::<Fraction<f32>>("1E+2"), Ok(100_f32.to_le_bytes().to_vec()));
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert_eq!(push::<Whole<u8>>("\"1\"").unwrap_err(), "expected a UINT8 number, got a string");
        assert_eq!(push::<Fraction<f32>>("true").unwrap_err(), "expected an FP32 number, got true");
        assert!(push::<Fraction<f64>>("null").unwrap_err().contains("binary tensor"));
        assert_eq!(push::<Fraction<bf16>>("{").unwrap_err(), "expected a BF16 number, got an object");
        assert!(push::<Bool>("2").is_err());
    }

    #[test]
    fn strings_are_unescaped() {
        assert_eq!(push::<Text>(r#""a\n\u00e4""#), Ok("\x04\0\0\0a\nä".as_bytes().to_vec()));
        assert!(push::<Text>(r#""\ud800""#).unwrap_err().contains("binary tensor"));
        assert!(push::<Text>("1").is_err());
    }

    #[test]
    fn bytes_may_be_base64_where_that_is_agreed() {
        assert_eq!(push::<TextOrBase64>(r#"{"b64": "/w=\u003d"}"#), Ok(b"\x01\0\0\0\xff".to_vec()));
        assert_eq!(push::<TextOrBase64>(r#""a""#), Ok(b"\x01\0\0\0a".to_vec()));
        assert!(push::<TextOrBase64>(r#"{"b64": "?"}"#).unwrap_err().starts_with("b64: not base64"));
        for other in [r#"{"b64": 1}"#, "{}", r#"{"b64": "", "c": 1}"#, "{\"b64\"", "{"] {
            assert!(push::<TextOrBase64>(other).unwrap_err().contains("nothing else in it"), "{other}");
        }
        assert!(push::<Text>(r#"{"b64": ""}"#).is_err());
    }
}
