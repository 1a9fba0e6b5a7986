//! Between our tensors and wasi-nn's.
//!
//! Cost: an input is copied once here, for wasi-nn's tensor owns its bytes; an output is handed over.

use vespid_types::{Datatype, NamedTensor, Shape, Tensor, TensorSpec, note_copy};
use wasmtime_wasi_nn::Tensor as WasiNnTensor;
use wasmtime_wasi_nn::wit::TensorType;

use super::NAME;
use crate::NnError;

/// The datatypes that it carries.
pub const CARRIED: &str = "UINT8, INT32, INT64, FP16, BF16, FP32 and FP64";

pub(super) fn check_carried(spec: &TensorSpec) -> Result<(), NnError> {
    kind(&spec.name, spec.datatype).map(drop)
}

fn kind(name: &str, datatype: Datatype) -> Result<TensorType, NnError> {
    Ok(match datatype {
        Datatype::Uint8 => TensorType::U8,
        Datatype::Int32 => TensorType::I32,
        Datatype::Int64 => TensorType::I64,
        Datatype::Fp16 => TensorType::Fp16,
        Datatype::Bf16 => TensorType::Bf16,
        Datatype::Fp32 => TensorType::Fp32,
        Datatype::Fp64 => TensorType::Fp64,
        other => {
            return Err(NnError::UnsupportedDatatype {
                backend: NAME,
                name: name.to_owned(),
                datatype: other.to_string(),
                carried: CARRIED,
            });
        }
    })
}

pub(super) fn to_wasi_nn(input: &NamedTensor) -> Result<WasiNnTensor, NnError> {
    let NamedTensor { name, tensor } = input;
    let ty = kind(name, tensor.datatype())?;
    if tensor.data().is_empty() {
        let shape = tensor.shape();
        let message =
            format!("'{name}' has shape {shape} and no elements, and the openvino backend runs none");
        return Err(NnError::Run { message });
    }
    let dimensions = tensor.shape().iter().map(|extent| u32::try_from(*extent)).collect::<Result<_, _>>();
    let dimensions = dimensions.map_err(|_| NnError::Run {
        message: format!("'{name}' has shape {}: an extent takes at most 32 bits", tensor.shape()),
    })?;
    note_copy(tensor.data().len());
    Ok(WasiNnTensor::new(dimensions, ty, tensor.data().to_vec()))
}

pub(super) fn from_wasi_nn(spec: &TensorSpec, tensor: WasiNnTensor) -> Result<NamedTensor, NnError> {
    let declared = kind(&spec.name, spec.datatype)?;
    if tensor.ty != declared {
        let got = format!("{:?}", tensor.ty);
        return Err(NnError::Output { name: spec.name.clone(), declared: spec.datatype, got });
    }
    let shape: Shape = tensor.dimensions.iter().map(|extent| u64::from(*extent)).collect();
    let tensor = Tensor::new(spec.datatype, shape, tensor.data.into())
        .map_err(|error| NnError::Run { message: error.to_string() })?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}
