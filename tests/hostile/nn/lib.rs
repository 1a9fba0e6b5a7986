//! Uses wasi-nn as it should not be used. BYTES `ask` says how, one each; `answer` is the error that came of it.
//!
//! `load`; `name NAME`; `compute NAME:DATATYPE:SHAPE...` with zeros of that datatype and shape (extents joined by `x`); `tensor
//! DATATYPE:SHAPE:BYTES` and `nn DATATYPE:SHAPE:BYTES`, which make a tensor of so many bytes.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<str>("ask", [ANY]).output::<str>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let asked = request.input("ask")?.to_strings()?;
        let answers: Vec<String> = asked.iter().map(|asked| nn::answer(asked)).collect();
        Ok(Response::new().output("answer", Tensor::bytes(&answers, [answers.len()])?))
    }
}

#[cfg(target_arch = "wasm32")]
mod nn {
    use vespid_plugin::bindings::vespid::model::tensors::{Datatype, Tensor};
    use vespid_plugin::bindings::wasi::nn::errors::Error;
    use vespid_plugin::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding, load, load_by_name};
    use vespid_plugin::bindings::wasi::nn::tensor::{Tensor as NnTensor, TensorType};

    const DATATYPES: [(&str, Datatype, u64); 14] = [
        ("BOOL", Datatype::Bool, 1),
        ("UINT8", Datatype::Uint8, 1),
        ("UINT16", Datatype::Uint16, 2),
        ("UINT32", Datatype::Uint32, 4),
        ("UINT64", Datatype::Uint64, 8),
        ("INT8", Datatype::Int8, 1),
        ("INT16", Datatype::Int16, 2),
        ("INT32", Datatype::Int32, 4),
        ("INT64", Datatype::Int64, 8),
        ("FP16", Datatype::Fp16, 2),
        ("BF16", Datatype::Bf16, 2),
        ("FP32", Datatype::Fp32, 4),
        ("FP64", Datatype::Fp64, 8),
        // An empty element takes its length.
        ("BYTES", Datatype::Bytes, 4),
    ];

    const NN_TYPES: [(&str, TensorType); 7] = [
        ("FP16", TensorType::Fp16),
        ("FP32", TensorType::Fp32),
        ("FP64", TensorType::Fp64),
        ("BF16", TensorType::Bf16),
        ("UINT8", TensorType::U8),
        ("INT32", TensorType::I32),
        ("INT64", TensorType::I64),
    ];

    pub(super) fn answer(asked: &str) -> String {
        let (verb, rest) = asked.split_once(' ').unwrap_or((asked, ""));
        let answered = match verb {
            "load" => load(&[vec![0; 16]], GraphEncoding::Onnx, ExecutionTarget::Gpu).map(drop).map_err(text),
            "name" => load_by_name(rest).map(drop).map_err(text),
            "compute" => compute(rest),
            "tensor" => made(rest).map(drop),
            "nn" => nn_made(rest),
            _ => Err(format!("what is '{verb}'?")),
        };
        answered.err().unwrap_or_else(|| "done".to_owned())
    }

    fn text(error: Error) -> String {
        format!("{:?}: {}", error.code(), error.data())
    }

    fn compute(inputs: &str) -> Result<(), String> {
        let inputs = inputs.split_whitespace().map(input).collect::<Result<Vec<_>, _>>()?;
        let context = load_by_name("graph").and_then(|graph| graph.init_execution_context()).map_err(text)?;
        context.compute(inputs).map(drop).map_err(text)
    }

    fn input(spec: &str) -> Result<(String, NnTensor), String> {
        let (name, spec) = spec.split_once(':').ok_or("a name is missing")?;
        Ok((name.to_owned(), Tensor::to_nn(made(spec)?).map_err(|error| format!("{error:?}"))?))
    }

    fn extents(shape: &str) -> Vec<u64> {
        shape.split('x').filter_map(|extent| extent.parse().ok()).collect()
    }

    fn made(spec: &str) -> Result<Tensor, String> {
        let mut parts = spec.split(':');
        let name = parts.next().unwrap_or_default();
        let &(_, datatype, size) =
            DATATYPES.iter().find(|(own, ..)| *own == name).ok_or("which datatype?")?;
        let shape = extents(parts.next().unwrap_or_default());
        let length = match parts.next() {
            Some(length) => length.parse().map_err(|_| "how many bytes?")?,
            None => shape.iter().product::<u64>() * size,
        };
        Tensor::new(datatype, &shape, &vec![0; length as usize]).map_err(|error| format!("{error:?}"))
    }

    /// wasi-nn's constructor cannot fail: what it refuses ends the call.
    fn nn_made(spec: &str) -> Result<(), String> {
        let mut parts = spec.split(':');
        let name = parts.next().unwrap_or_default();
        let &(_, datatype) = NN_TYPES.iter().find(|(own, _)| *own == name).ok_or("which datatype?")?;
        let shape: Vec<u32> =
            extents(parts.next().unwrap_or_default()).iter().map(|extent| *extent as u32).collect();
        let length = parts.next().and_then(|length| length.parse().ok()).ok_or("how many bytes?")?;
        drop(NnTensor::new(&shape, datatype, &vec![0; length]));
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod nn {
    pub(super) fn answer(_: &str) -> String {
        "for components".to_owned()
    }
}

vespid_plugin::export!(Hostile);
