//! The host, as a component reaches it. Nothing but this knows the generated bindings.

#[cfg(feature = "assets")]
#[path = "component/assets.rs"]
pub(crate) mod assets;
#[cfg(feature = "http")]
#[path = "component/http.rs"]
pub(crate) mod http;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::exports::vespid::model::model;
use crate::bindings::vespid::model::{host, tensors, types as exported};
use crate::bindings::wasi::nn::{errors, graph, inference};
use crate::host::Level;
use crate::session::exports::vespid::model::session;
use crate::streaming::exports::vespid::model::streaming;
use crate::{
    Code, Datatype, Error, Model, Parameter, Request, Response, Result, Session, Signature, Streaming,
    TensorSpec, Tensors,
};

pub(crate) struct Tensor(tensors::Tensor);

impl Tensor {
    pub(crate) fn new(datatype: Datatype, shape: &[u64], data: &[u8]) -> Result<Self> {
        Ok(Self(tensors::Tensor::new(datatype.into(), shape, data)?))
    }

    pub(crate) fn datatype(&self) -> Datatype {
        self.0.datatype().into()
    }

    pub(crate) fn shape(&self) -> Vec<u64> {
        self.0.shape()
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.0.byte_length()
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.0.data()
    }

    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        Ok(self.0.read(offset, length)?)
    }

    pub(crate) fn share(&self) -> Result<Self> {
        Ok(Self(self.0.share()?))
    }

    pub(crate) fn elements(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.0.elements()?)
    }
}

pub(crate) struct Graph {
    context: inference::GraphExecutionContext,
}

impl Graph {
    pub(crate) fn load(name: &str) -> Result<Self> {
        Ok(Self { context: graph::load_by_name(name)?.init_execution_context()? })
    }

    pub(crate) fn compute(&self, inputs: impl Iterator<Item = (String, crate::Tensor)>) -> Result<Tensors> {
        let inputs = inputs
            .map(|(name, tensor)| match tensors::Tensor::to_nn(tensor.into_handle().0) {
                Ok(tensor) => Ok((name, tensor)),
                Err(error) => Err(Error::from(error).context(format_args!("graph input '{name}'"))),
            })
            .collect::<Result<Vec<_>>>()?;
        let outputs = self.context.compute(inputs)?.into_iter();
        Ok(outputs.map(|(name, tensor)| (name, Tensor(tensors::Tensor::from_nn(tensor)).into())).collect())
    }
}

pub(crate) fn config(key: &str) -> Option<String> {
    host::config(key)
}

pub(crate) fn env(name: &str) -> Option<String> {
    host::env(name)
}

pub(crate) fn secret(name: &str) -> Option<String> {
    host::secret(name)
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => host::LogLevel::Trace,
        Level::Debug => host::LogLevel::Debug,
        Level::Info => host::LogLevel::Info,
        Level::Warn => host::LogLevel::Warn,
        Level::Error => host::LogLevel::Error,
    };
    host::log(level, message);
}

pub(crate) fn remaining() -> Duration {
    Duration::from_nanos(host::remaining())
}

pub(crate) fn sleep(duration: Duration) {
    host::sleep(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

pub(crate) fn infer(
    model: &str,
    version: Option<&str>,
    inputs: impl Iterator<Item = (String, crate::Tensor)>,
) -> Result<Tensors> {
    let inputs = inputs.map(lower).collect();
    match host::infer(model, version, inputs) {
        Ok(outputs) => Ok(outputs.into_iter().map(lift).collect()),
        Err(host::InferError { code, message }) => {
            let code = Code::from_name(&code).unwrap_or(Code::Internal);
            Err(Error::new(code, format!("model '{model}': {message}")))
        }
    }
}

fn lift(named: tensors::NamedTensor) -> (String, crate::Tensor) {
    (named.name, Tensor(named.tensor).into())
}

fn lower((name, tensor): (String, crate::Tensor)) -> tensors::NamedTensor {
    tensors::NamedTensor { name, tensor: tensor.into_handle().0 }
}

impl From<tensors::TensorError> for Error {
    fn from(error: tensors::TensorError) -> Self {
        // Neither is the caller's doing: the host has checked the request before the plugin saw it.
        match error {
            tensors::TensorError::SizeMismatch(message)
            | tensors::TensorError::OutOfRange(message)
            | tensors::TensorError::OutOfMemory(message) => Self::internal(message),
            tensors::TensorError::Unsupported(message) => Self::unsupported(message),
        }
    }
}

impl From<errors::Error> for Error {
    /// wasi-nn has fewer codes than the server, so the server's stands before the text where it has one.
    fn from(error: errors::Error) -> Self {
        let message = error.data();
        if let Some((name, rest)) = message.split_once(": ")
            && let Some(code) = Code::from_name(name)
        {
            return Self::new(code, rest);
        }
        let code = match error.code() {
            errors::ErrorCode::InvalidArgument => Code::InvalidArgument,
            errors::ErrorCode::Timeout => Code::DeadlineExceeded,
            errors::ErrorCode::UnsupportedOperation => Code::Unsupported,
            // A graph that is not there is the package's fault, not the caller's.
            errors::ErrorCode::NotFound
            | errors::ErrorCode::InvalidEncoding
            | errors::ErrorCode::RuntimeError
            | errors::ErrorCode::TooLarge
            | errors::ErrorCode::Security
            | errors::ErrorCode::Unknown => Code::Internal,
        };
        Self::new(code, message)
    }
}

/// What the component exports for the model `M`.
pub struct Exported<M>(PhantomData<M>);

impl<M: Model> model::Guest for Exported<M> {
    fn describe() -> Result<exported::Signature, exported::Error> {
        log_panics();
        let Signature { inputs, outputs } = M::describe().map_err(exported::Error::from)?;
        let lower = |specs: Vec<TensorSpec>| specs.into_iter().map(exported::TensorSpec::from).collect();
        Ok(exported::Signature { inputs: lower(inputs), outputs: lower(outputs) })
    }

    fn predict(request: exported::Request) -> Result<exported::Response, exported::Error> {
        log_panics();
        Ok(M::predict(request.into()).map_err(exported::Error::from)?.into())
    }
}

impl<M: Session> session::Guest for Exported<M> {
    fn save() -> Result<Vec<u8>, exported::Error> {
        Ok(M::save()?)
    }

    fn restore(state: Vec<u8>) -> Result<(), exported::Error> {
        Ok(M::restore(&state)?)
    }
}

impl<M: Streaming> streaming::Guest for Exported<M> {
    type Responses = Responses;

    fn predict_stream(request: exported::Request) -> Result<streaming::Responses, exported::Error> {
        log_panics();
        let responses = M::predict_stream(request.into()).map_err(exported::Error::from)?;
        Ok(streaming::Responses::new(Responses(RefCell::new(Box::new(responses)))))
    }
}

/// The responses that are still to come.
pub struct Responses(RefCell<Box<dyn Iterator<Item = Result<Response>>>>);

impl streaming::GuestResponses for Responses {
    fn next(&self) -> Result<Option<exported::Response>, exported::Error> {
        let next = self.0.borrow_mut().next().transpose();
        Ok(next.map_err(exported::Error::from)?.map(exported::Response::from))
    }
}

impl From<exported::Request> for Request {
    fn from(request: exported::Request) -> Self {
        Self {
            id: request.id,
            inputs: request.inputs.into_iter().map(lift).collect(),
            outputs: request.outputs,
            parameters: request.parameters.into_iter().map(|(name, value)| (name, value.into())).collect(),
        }
    }
}

impl From<Response> for exported::Response {
    fn from(Response { outputs, parameters }: Response) -> Self {
        Self {
            outputs: outputs.into_iter().map(lower).collect(),
            parameters: parameters.into_iter().map(|(name, value)| (name, value.into())).collect(),
        }
    }
}

/// A component has no standard error that a panic's message could go to.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
}

impl From<TensorSpec> for exported::TensorSpec {
    fn from(spec: TensorSpec) -> Self {
        let TensorSpec { name, datatype, shape, optional } = spec;
        Self { name, datatype: datatype.into(), shape, optional }
    }
}

impl From<Error> for exported::Error {
    fn from(error: Error) -> Self {
        let code = match error.code() {
            Code::InvalidArgument => exported::ErrorCode::InvalidArgument,
            Code::NotFound => exported::ErrorCode::NotFound,
            Code::Unsupported => exported::ErrorCode::Unsupported,
            Code::Unavailable => exported::ErrorCode::Unavailable,
            Code::DeadlineExceeded => exported::ErrorCode::DeadlineExceeded,
            Code::Internal => exported::ErrorCode::Internal,
        };
        Self { code, message: error.into_message() }
    }
}

/// An enum that is the same on both sides.
macro_rules! same {
    ($ours:ident, $theirs:path: $($variant:ident $(($value:ident))?),* $(,)?) => {
        impl From<$ours> for $theirs {
            fn from(value: $ours) -> Self {
                match value { $($ours::$variant $(($value))? => Self::$variant $(($value))?,)* }
            }
        }

        impl From<$theirs> for $ours {
            fn from(value: $theirs) -> Self {
                use $theirs as Theirs;
                match value { $(Theirs::$variant $(($value))? => Self::$variant $(($value))?,)* }
            }
        }
    };
}

same!(Datatype, tensors::Datatype: Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64,
    Bytes);
same!(Parameter, exported::Parameter: Boolean(value), Integer(value), Number(value), Text(value));
