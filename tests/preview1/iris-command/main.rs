//! Rates iris flowers by their measurements.

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};

use wasi_nn::{ExecutionTarget, GraphBuilder, GraphEncoding, TensorType};

const MEASUREMENTS: usize = 4;
const SPECIES: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut measurements = Vec::new();
    io::stdin().read_to_end(&mut measurements)?;
    let shape = env::var("VESPID_INPUT_SHAPE")?;
    let shape = shape.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let &[rows, MEASUREMENTS] = &shape[..] else { return Err(format!("a shape of {shape:?}").into()) };

    let builder = GraphBuilder::new(GraphEncoding::Onnx, ExecutionTarget::CPU);
    let graph = builder.build_from_cache("iris")?;
    let mut context = graph.init_execution_context()?;
    context.set_input(0, TensorType::F32, &shape, &measurements)?;
    context.compute()?;
    let mut probabilities = vec![0; rows * SPECIES * size_of::<f32>()];
    let length = context.get_output(0, &mut probabilities)?;
    io::stdout().write_all(&probabilities[..length])?;
    Ok(())
}
