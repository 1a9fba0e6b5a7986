//! Takes more than its share of what the host holds for it, or hands it more than makes sense.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<str>("ask", [1]).output::<str>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let asked = request.input("ask")?.to_strings()?.remove(0);
        let (verb, number) = asked.split_once(' ').unwrap_or((&asked, "0"));
        let number: usize = number.parse().map_err(|_| Error::invalid("a verb and a number"))?;
        let told = |text: &str| Ok(Response::new().output("answer", Tensor::bytes(&[text], [1])?));
        let long = || "x".repeat(number);
        match verb {
            "error" => Err(Error::invalid(long())),
            "name" => Ok(Response::new().output(&long(), Tensor::bytes(&["x"], [1])?)),
            "outputs" => {
                let mut response = Response::new();
                for output in 0..number {
                    response = response.output(&format!("o{output}"), Tensor::new(&[1_u8], [1])?);
                }
                Ok(response)
            }
            "config" => told(&format!("{:?}", config(&long()))),
            "env" => told(&format!("{:?}", env(&long()))),
            "secret" => told(&format!("{:?}", secret(&long()))),
            "model" => {
                let error = infer(&long(), [("x", Tensor::new(&[1_u8], [1])?)]).map(|_| ()).unwrap_err();
                told(&error.to_string())
            }
            "log" => {
                (0..100).for_each(|_| log::info!("{}", long()));
                told("logged")
            }
            "answer" => told(&long()),
            _ => told(&hoard::without_end(verb, number)?),
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod hoard {
    use vespid_plugin::bindings::vespid::model::host::{remaining, sleep};
    use vespid_plugin::bindings::vespid::model::tensors::{Datatype, Tensor};
    use vespid_plugin::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding, load, load_by_name};
    use vespid_plugin::bindings::wasi::nn::tensor::{Tensor as NnTensor, TensorType};
    use vespid_plugin::prelude::{Error, Result};

    /// Makes things of a kind and keeps them, until the host has had enough; with tensors, of so many dimensions.
    pub(super) fn without_end(kind: &str, number: usize) -> Result<String> {
        match kind {
            "graphs" => keep(|| load_by_name("graph").map_err(|error| error.data())),
            "contexts" => {
                let graph = load_by_name("graph").map_err(|error| Error::internal(error.data()))?;
                keep(|| graph.init_execution_context().map_err(|error| error.data()))
            }
            "errors" => {
                keep(|| Ok(load(&[], GraphEncoding::Onnx, ExecutionTarget::Cpu).map(drop).unwrap_err()))
            }
            "nn-tensors" => keep(|| Ok(NnTensor::new(&[1], TensorType::U8, &[1]))),
            "shapes" => {
                let shape = vec![0; number];
                keep(|| Tensor::new(Datatype::Uint8, &shape, &[]).map_err(|error| format!("{error:?}")))
            }
            "nn-shapes" => {
                let shape = vec![0; number];
                keep(|| Ok(NnTensor::new(&shape, TensorType::U8, &[])))
            }
            "share" => {
                let tensor = Tensor::new(Datatype::Uint8, &[1], &[1])
                    .map_err(|error| Error::internal(format!("{error:?}")))?;
                keep(|| tensor.share().map_err(|error| format!("{error:?}")))
            }
            "sleep" => {
                sleep(u64::MAX);
                Ok(format!("awake, with {} left", remaining()))
            }
            "read" => {
                let tensor = Tensor::new(Datatype::Uint8, &[4], &[0; 4])
                    .map_err(|error| Error::internal(format!("{error:?}")))?;
                let ranges =
                    [(0, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0), (1 << 40, 1), (4, 1), (1, 4)];
                let refused = ranges.iter().all(|&(offset, length)| tensor.read(offset, length).is_err());
                Ok(format!("all are refused: {refused}"))
            }
            _ => Err(Error::invalid(format!("what is '{kind}'?"))),
        }
    }

    fn keep<T>(mut make: impl FnMut() -> Result<T, String>) -> Result<String> {
        let mut kept = Vec::new();
        loop {
            match make() {
                Ok(one) => kept.push(one),
                Err(error) => return Ok(format!("after {}: {error}", kept.len())),
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod hoard {
    use vespid_plugin::prelude::{Error, Result};

    pub(super) fn without_end(_: &str, _: usize) -> Result<String> {
        Err(Error::unsupported("for components"))
    }
}

vespid_plugin::export!(Hostile);
