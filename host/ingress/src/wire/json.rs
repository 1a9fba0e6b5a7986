//! The JSON of an inference request, as it is written.
//!
//! Contract: unknown keys are ignored, as the protocol's other servers do; keys come in any order, so a tensor's data is
//! kept as it stands until its datatype is known. Cost: one pass; data and unescaped text borrow from the body.
//! Left out on purpose: a tree of values, and parameters of single inputs that this server does not know.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use vespid_types::{Error, Parameter, Parameters, Shape};

use super::{fault, options};

/// More dimensions than any library handles, and few enough to print.
pub(crate) const MAX_RANK: usize = 64;

/// More inputs, outputs or parameters than any model has, so that what a request costs is bounded by its bytes: one
/// entry takes many times the memory of its shortest text.
pub(crate) const MAX_ENTRIES: usize = 1024;

/// A struct that is written as an object. Serde's own reading takes an array of the fields as well.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// An array of at most [`MAX_ENTRIES`].
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    bounded::<A::Error>(items.len())?;
                    items.push(item);
                }
                Ok(List(items))
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// An object's fields as they stand, at most [`MAX_ENTRIES`].
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    bounded::<A::Error>(fields.len())?;
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Text that is borrowed where it has no escapes, which serde does for a field of a struct alone.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Reads a body that is JSON and nothing else; `what` it is to be, for messages.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, Error> {
    if body.is_empty() {
        return Err(Error::invalid(format!("request body is empty: send {what} in JSON")));
    }
    let json = std::str::from_utf8(body).map_err(|error| {
        Error::invalid(format!("request body is not valid JSON: byte {} is not UTF-8", error.valid_up_to()))
    })?;
    serde_json::from_str(json).map_err(|error| fault::not_a::<T>(json, what, &error))
}

fn bounded<E: serde::de::Error>(entries: usize) -> Result<(), E> {
    if entries < MAX_ENTRIES {
        Ok(())
    } else {
        Err(E::custom(format_args!("more than {MAX_ENTRIES} entries")))
    }
}

pub(super) type InferRequest<'a> = Object<RequestBody<'a>>;

#[derive(serde::Deserialize)]
pub(super) struct RequestBody<'a> {
    pub(super) id: Option<String>,
    pub(super) parameters: Option<RequestParameters>,
    #[serde(borrow)]
    pub(super) inputs: List<Object<Input<'a>>>,
    pub(super) outputs: Option<List<Object<Output>>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Input<'a> {
    pub(super) name: String,
    pub(super) shape: WireShape,
    #[serde(borrow)]
    pub(super) datatype: Cow<'a, str>,
    pub(super) parameters: Option<Object<InputParameters>>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
pub(super) struct InputParameters {
    pub(super) binary_data_size: Option<Count>,
    pub(super) shared_memory_region: Option<IgnoredAny>,
}

#[derive(serde::Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) parameters: Option<Object<OutputParameters>>,
}

#[derive(serde::Deserialize)]
pub(super) struct OutputParameters {
    pub(super) binary_data: Option<bool>,
    pub(super) classification: Option<Count>,
    pub(super) shared_memory_region: Option<IgnoredAny>,
}

pub(super) struct WireShape(pub(super) Shape);

impl<'de> Deserialize<'de> for WireShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;

        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = WireShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers of elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<WireShape, A::Error> {
                let mut failed = None;
                let next = || {
                    seq.next_element::<Count>().unwrap_or_else(|error| {
                        failed = Some(error);
                        None
                    })
                };
                let shape: Shape =
                    std::iter::from_fn(next).take(MAX_RANK + 1).map(|Count(extent)| extent).collect();
                match failed {
                    Some(error) => Err(error),
                    None if shape.len() > MAX_RANK => {
                        Err(A::Error::custom(format_args!("more than {MAX_RANK} dimensions")))
                    }
                    None => Ok(WireShape(shape)),
                }
            }
        }

        deserializer.deserialize_seq(ShapeVisitor)
    }
}

/// A number of elements, bytes or classes.
pub(super) struct Count(pub(super) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;

        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Count, E> {
                Ok(Count(value))
            }
        }

        deserializer.deserialize_u64(CountVisitor)
    }
}

pub(super) struct RequestParameters(pub(super) Parameters);

impl<'de> Deserialize<'de> for RequestParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParametersVisitor;

        impl<'de> Visitor<'de> for ParametersVisitor {
            type Value = RequestParameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut parameters = Parameters::new();
                while let Some((name, WireParameter(value))) = map.next_entry()? {
                    bounded::<A::Error>(parameters.len())?;
                    parameters.insert(name, value);
                }
                Ok(RequestParameters(parameters))
            }
        }

        deserializer.deserialize_map(ParametersVisitor)
    }
}

pub(super) struct WireParameter(pub(super) Parameter);

impl<'de> Deserialize<'de> for WireParameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParameterVisitor;

        impl Visitor<'_> for ParameterVisitor {
            type Value = WireParameter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a number or a string")
            }

            fn visit_bool<E>(self, value: bool) -> Result<WireParameter, E> {
                Ok(WireParameter(Parameter::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<WireParameter, E> {
                Ok(WireParameter(Parameter::Int(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<WireParameter, E> {
                Ok(WireParameter(options::whole(value)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<WireParameter, E> {
                Ok(WireParameter(Parameter::Double(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<WireParameter, E> {
                Ok(WireParameter(Parameter::Text(value.to_owned())))
            }

            fn visit_string<E>(self, value: String) -> Result<WireParameter, E> {
                Ok(WireParameter(Parameter::Text(value)))
            }
        }

        deserializer.deserialize_any(ParameterVisitor)
    }
}
