//! A body that is nothing but one raw tensor (`Inference-Header-Content-Length: 0`).
//!
//! Contract: the model's signature says which input it is and of what datatype; the shape is taken from there too, one
//! open dimension being inferred from the length. Outputs are binary, as Triton answers. Cost: the body becomes the
//! tensor as it is, except for BYTES. Left out on purpose: BYTES of more than one element, and request parameters.

use bytes::{BufMut, Bytes, BytesMut};
use vespid_types::{Datatype, Error, Extent, NamedTensor, Shape, Signature, Tensor, TensorSpec};

use super::fault::name;

const REMEDY: &str =
    "describe the input in JSON instead, and give its length in Inference-Header-Content-Length";

/// The one input that `body` is.
pub(super) fn decode(body: Bytes, signature: &Signature) -> Result<NamedTensor, Error> {
    let mut required = signature.inputs.iter().filter(|spec| !spec.optional);
    let (Some(spec), None) = (required.next(), required.next()) else {
        let count = signature.inputs.iter().filter(|spec| !spec.optional).count();
        return Err(Error::invalid(format!(
            "a body of one raw tensor (Inference-Header-Content-Length: 0) needs a model with exactly one required \
             input; this one has {count}: {REMEDY}"
        )));
    };
    let refuse = |reason: String| {
        Error::invalid(format!("input '{}' from a body of one raw tensor: {reason}", name(&spec.name)))
    };
    let tensor = match spec.datatype.size() {
        Some(size) => {
            let shape = infer_shape(spec, body.len(), size).map_err(refuse)?;
            Tensor::new(spec.datatype, shape, body)
        }
        None => Tensor::new(Datatype::Bytes, single(spec).map_err(refuse)?, prefixed(&body).map_err(refuse)?),
    };
    let tensor = tensor.map_err(|error| refuse(error.to_string()))?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

/// Whether the body would be an element of BYTES, of which the empty one is as good as any.
pub(super) fn takes_bytes(signature: &Signature) -> bool {
    let mut required = signature.inputs.iter().filter(|spec| !spec.optional);
    required.next().is_some_and(|spec| spec.datatype == Datatype::Bytes)
}

/// The shape of one element: 1 in every dimension.
fn single(spec: &TensorSpec) -> Result<Shape, String> {
    match spec.shape.iter().find(|extent| !matches!(extent, Extent::Any | Extent::Fixed(1))) {
        Some(extent) => Err(format!(
            "the model wants {} BYTES elements in one dimension and the body is one: {REMEDY}",
            extent.to_signed()
        )),
        None => Ok(spec.shape.iter().map(|_| 1).collect()),
    }
}

/// The body with its length before it, as BYTES are laid out. A copy, the only one on the way of a binary body: there
/// is no room before the body, and moving it within its own memory would cost the same.
fn prefixed(body: &Bytes) -> Result<Bytes, String> {
    let length = u32::try_from(body.len()).map_err(|_| "a BYTES element takes up to 4 GiB".to_owned())?;
    let mut data = BytesMut::with_capacity(body.len().saturating_add(4));
    data.put_u32_le(length);
    data.put_slice(body);
    Ok(data.freeze())
}

/// The signature's shape with its one open dimension, if any, inferred from the number of bytes.
fn infer_shape(spec: &TensorSpec, bytes: usize, size: usize) -> Result<Shape, String> {
    let open = spec.shape.iter().filter(|extent| **extent == Extent::Any).count();
    if open > 1 {
        return Err(format!(
            "{open} dimensions of the model's shape are open, one can be inferred: {REMEDY}"
        ));
    }
    let fixed = spec.shape.iter().try_fold(size as u64, |product, extent| match extent {
        Extent::Any => Some(product),
        Extent::Fixed(n) => product.checked_mul(*n),
    });
    let inferred = match fixed {
        Some(row) if row > 0 && (bytes as u64).is_multiple_of(row) => bytes as u64 / row,
        _ if open == 0 => 0,
        Some(row) if row > 0 => {
            return Err(format!("{bytes} bytes are no multiple of {row}, which is what one row takes"));
        }
        _ => return Err(format!("the open dimension cannot be inferred from {bytes} bytes: {REMEDY}")),
    };
    Ok(spec
        .shape
        .iter()
        .map(|extent| match extent {
            Extent::Any => inferred,
            Extent::Fixed(n) => *n,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(datatype: Datatype, shape: &[i64], bytes: usize) -> Result<Vec<u64>, String> {
        let shape = shape.iter().map(|extent| Extent::from_signed(*extent).unwrap()).collect();
        let input = TensorSpec { name: "x".into(), datatype, shape, optional: false };
        let signature = Signature { inputs: vec![input], outputs: vec![] };
        decode(vec![0; bytes].into(), &signature)
            .map(|input| input.tensor.shape().to_vec())
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn one_open_dimension_is_inferred() {
        assert_eq!(shape_of(Datatype::Fp32, &[-1, 4], 48), Ok(vec![3, 4]));
        assert_eq!(shape_of(Datatype::Fp32, &[2, 4], 32), Ok(vec![2, 4]));
        assert!(shape_of(Datatype::Fp32, &[2, 4], 31).unwrap_err().ends_with("takes 32"));
        assert!(shape_of(Datatype::Fp32, &[-1, 4], 47).unwrap_err().contains("no multiple of 16"));
        assert!(shape_of(Datatype::Fp32, &[-1, -1], 16).unwrap_err().contains("2 dimensions"));
        assert!(shape_of(Datatype::Fp32, &[-1, 0], 16).unwrap_err().contains("cannot be inferred"));
        assert!(shape_of(Datatype::Fp32, &[-1, i64::MAX, 8], 16).unwrap_err().contains("cannot be inferred"));
        assert!(shape_of(Datatype::Fp32, &[i64::MAX, 8], 16).unwrap_err().contains("addressed"));
    }

    #[test]
    fn bytes_are_one_element() {
        assert_eq!(shape_of(Datatype::Bytes, &[-1, 1], 48), Ok(vec![1, 1]));
        assert_eq!(shape_of(Datatype::Bytes, &[], 48), Ok(vec![]));
        assert!(shape_of(Datatype::Bytes, &[2], 48).unwrap_err().contains("wants 2 BYTES elements"));
    }
}
