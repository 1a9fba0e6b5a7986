//! Between the bindings' types and the core's. Tensors move by handle; names and parameters are copied.

use vespid_types::{
    Datatype, ErrorCode, Extent, NamedTensor, Parameter, Sequence, Signature, TensorSpec, clipped,
};

use crate::bindings::vespid::model::tensors::{Datatype as WitDatatype, NamedTensor as WitNamedTensor};
use crate::bindings::vespid::model::types as guest;
use crate::error::EngineError;
use crate::host::HostState;
use crate::plugin::{Answer, Call};

/// Bytes of a plugin's error that are kept, as of a line of its log.
const MAX_MESSAGE: usize = 4096;

pub(crate) fn request(state: &mut HostState, call: Call) -> Result<guest::Request, EngineError> {
    let Call { id, inputs, outputs, parameters, sequence, .. } = call;
    let inputs = lend_all(state, inputs).map_err(|error| EngineError::from_call(&error))?;
    let mut parameters: Vec<_> = parameters.into_iter().map(to_wit).collect();
    if let Some(Sequence { id, start, end }) = sequence {
        parameters.extend([
            ("sequence_id".to_owned(), guest::Parameter::Text(id.to_string())),
            ("sequence_start".to_owned(), guest::Parameter::Boolean(start)),
            ("sequence_end".to_owned(), guest::Parameter::Boolean(end)),
        ]);
    }
    Ok(guest::Request { id, inputs, outputs, parameters })
}

pub(crate) fn answer(state: &mut HostState, response: guest::Response) -> Result<Answer, EngineError> {
    let outputs = take_all(state, response.outputs).map_err(|error| EngineError::from_call(&error))?;
    let parameters = response.parameters.into_iter().map(from_wit).collect();
    Ok(Answer { outputs, parameters })
}

/// Puts tensors into the instance's table, under handles that the guest will own.
pub(crate) fn lend_all(
    state: &mut HostState,
    tensors: Vec<NamedTensor>,
) -> wasmtime::Result<Vec<WitNamedTensor>> {
    tensors
        .into_iter()
        .map(|NamedTensor { name, tensor }| Ok(WitNamedTensor { name, tensor: state.lend(tensor)? }))
        .collect()
}

/// Takes tensors that the guest gave away out of the instance's table.
pub(crate) fn take_all(
    state: &mut HostState,
    tensors: Vec<WitNamedTensor>,
) -> wasmtime::Result<Vec<NamedTensor>> {
    tensors
        .into_iter()
        .map(|WitNamedTensor { name, tensor }| Ok(NamedTensor { name, tensor: state.take(tensor)? }))
        .collect()
}

fn to_wit((name, value): (String, Parameter)) -> (String, guest::Parameter) {
    let value = match value {
        Parameter::Bool(value) => guest::Parameter::Boolean(value),
        Parameter::Int(value) => guest::Parameter::Integer(value),
        Parameter::Double(value) => guest::Parameter::Number(value),
        Parameter::Text(value) => guest::Parameter::Text(value),
    };
    (name, value)
}

fn from_wit((name, value): (String, guest::Parameter)) -> (String, Parameter) {
    let value = match value {
        guest::Parameter::Boolean(value) => Parameter::Bool(value),
        guest::Parameter::Integer(value) => Parameter::Int(value),
        guest::Parameter::Number(value) => Parameter::Double(value),
        guest::Parameter::Text(value) => Parameter::Text(value),
    };
    (name, value)
}

/// What a plugin answered; `was_refused` where something that it asked for the call had no room.
pub(crate) fn plugin_error(error: guest::Error, was_refused: bool) -> EngineError {
    let code = match error.code {
        guest::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
        guest::ErrorCode::NotFound => ErrorCode::NotFound,
        guest::ErrorCode::Unsupported => ErrorCode::Unsupported,
        guest::ErrorCode::Unavailable => ErrorCode::Unavailable,
        guest::ErrorCode::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        guest::ErrorCode::Internal => ErrorCode::PluginFailed,
    };
    let refused = was_refused && code == ErrorCode::Unavailable;
    EngineError::Answered { code, message: clipped(error.message, MAX_MESSAGE), refused }
}

pub(crate) fn signature(described: guest::Signature) -> Result<Signature, EngineError> {
    let specs = |specs: Vec<guest::TensorSpec>| specs.into_iter().map(tensor_spec).collect::<Result<_, _>>();
    let signature = Signature { inputs: specs(described.inputs)?, outputs: specs(described.outputs)? };
    signature.check_size().map_err(|reason| EngineError::BadAnswer { reason })?;
    Ok(signature)
}

fn tensor_spec(spec: guest::TensorSpec) -> Result<TensorSpec, EngineError> {
    let extent = |extent: i64| {
        Extent::from_signed(extent).ok_or_else(|| EngineError::BadAnswer {
            reason: format!("'{}' is described with the extent {extent}", spec.name),
        })
    };
    let shape = spec.shape.iter().copied().map(extent).collect::<Result<_, _>>()?;
    Ok(TensorSpec { shape, datatype: spec.datatype.into(), optional: spec.optional, name: spec.name })
}

/// The same datatypes on both sides, written once.
macro_rules! same_datatypes {
    ($($name:ident),*) => {
        impl From<WitDatatype> for Datatype {
            fn from(datatype: WitDatatype) -> Self {
                match datatype { $(WitDatatype::$name => Self::$name),* }
            }
        }

        impl From<Datatype> for WitDatatype {
            fn from(datatype: Datatype) -> Self {
                match datatype { $(Datatype::$name => Self::$name),* }
            }
        }
    };
}

same_datatypes!(
    Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes
);
