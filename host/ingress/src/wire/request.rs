//! Requests as the ways other than `infer` make them: of inputs and parameters, for all outputs.

use vespid_types::{Error, ModelRef, NamedTensor, Parameters, Request};

use super::options::Options;

/// A request; what its parameters say to the server is taken out of them.
pub(super) fn new(
    model: ModelRef,
    id: Option<String>,
    mut parameters: Parameters,
    inputs: Vec<NamedTensor>,
) -> Result<Request, Error> {
    let Options { deadline, priority, sequence } = Options::take(&mut parameters)?;
    Ok(Request { model, id, parameters, inputs, outputs: Vec::new(), deadline, priority, sequence })
}
