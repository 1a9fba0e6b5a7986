//! What a client's configuration takes for granted, held against the model.
//!
//! Contract: a field that is not set agrees with any model. Dimensions may be with or without the rows before them.

use vespid_serving::ReadyModel;
use vespid_types::{BackendName, Error};

use super::describe::describe;
use super::overrides::wrong;
use crate::grpc::proto::{DataType, ModelConfig, ModelInput, ModelOutput};
use crate::wire::fault;

/// What a configuration says of the model itself.
pub(super) struct Asked {
    platform: Option<Platform>,
    backend: String,
    file: String,
    rows: Option<i32>,
    decoupled: Option<bool>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// An input or output as a configuration has it.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    name: String,
    data_type: i32,
    dims: Vec<i64>,
    /// An output is not.
    optional: bool,
}

/// What runs a model, by the name that Triton or this server has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    Onnx(BackendName),
    OpenVino,
    Plugin,
}

impl Platform {
    /// The platform of that name; none where none is named.
    pub(super) fn read(text: &str) -> Result<Option<Self>, Error> {
        // On a graphics processor this server's end in the device.
        let kind = text.split_once("_gpu:").map_or(text, |(kind, _)| kind);
        Ok(Some(match kind {
            "" => return Ok(None),
            "onnxruntime_onnx" | "onnx_onnxruntime" => Self::Onnx(BackendName::Onnxruntime),
            "onnx_embedded" => Self::Onnx(BackendName::Embedded),
            "openvino" | "openvino_openvino" => Self::OpenVino,
            _ if kind.starts_with("vespid_plugin") => Self::Plugin,
            _ => {
                let known = "use onnxruntime_onnx, openvino, or what the model's own configuration says";
                return Err(wrong("platform", format_args!("'{}' is not known: {known}", fault::name(text))));
            }
        }))
    }

    pub(super) fn backend(self) -> Option<BackendName> {
        match self {
            Self::Onnx(backend) => Some(backend),
            Self::OpenVino => Some(BackendName::Openvino),
            Self::Plugin => None,
        }
    }
}

impl Asked {
    pub(super) fn of(config: &ModelConfig, says_rows: bool) -> Result<Self, Error> {
        Ok(Self {
            platform: Platform::read(&config.platform)?,
            backend: config.backend.clone(),
            file: config.default_model_filename.clone(),
            rows: says_rows.then_some(config.max_batch_size),
            decoupled: config.model_transaction_policy.map(|policy| policy.decoupled),
            inputs: config.input.iter().map(input).collect::<Result<_, _>>()?,
            outputs: config.output.iter().map(output).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn check(&self, model: &ReadyModel) -> Result<(), Error> {
        self.check_config(&describe(model))
    }

    /// Holds it against the configuration that the model has.
    pub(super) fn check_config(&self, has: &ModelConfig) -> Result<(), Error> {
        let is = |value: &str| format!("it is '{value}' of this model");
        if self.platform.is_some() && self.platform != Platform::read(&has.platform)? {
            return Err(wrong("platform", is(&has.platform)));
        }
        if !self.backend.is_empty() && self.backend != has.backend {
            return Err(wrong("backend", is(&has.backend)));
        }
        if !self.file.is_empty() && self.file != has.default_model_filename {
            return Err(wrong("default_model_filename", is(&has.default_model_filename)));
        }
        // Batches of one row are none.
        if self.rows.is_some_and(|rows| rows != has.max_batch_size && (rows > 1 || has.max_batch_size > 1)) {
            let has = has.max_batch_size;
            let why = format_args!("it is {has} of this model, whose plugin decides: leave it out");
            return Err(wrong("max_batch_size", why));
        }
        let decoupled = has.model_transaction_policy.is_some_and(|policy| policy.decoupled);
        if self.decoupled.is_some_and(|asked| asked != decoupled) {
            return Err(wrong(
                "model_transaction_policy.decoupled",
                format_args!("it is {decoupled} of this model"),
            ));
        }
        let rows = has.max_batch_size > 0;
        check("input", &self.inputs, has.input.iter().map(input), rows)?;
        check("output", &self.outputs, has.output.iter().map(output), rows)
    }
}

/// Checks that `asked`, where it says anything, says of each tensor that there is what is true.
fn check(
    field: &str,
    asked: &[Tensor],
    has: impl Iterator<Item = Result<Tensor, Error>>,
    rows: bool,
) -> Result<(), Error> {
    if asked.is_empty() {
        return Ok(());
    }
    let has = has.collect::<Result<Vec<_>, _>>()?;
    if let Some(unknown) = asked.iter().find(|asked| !has.iter().any(|has| has.name == asked.name)) {
        let names: Vec<&str> = has.iter().map(|has| has.name.as_str()).collect();
        let why = format!(
            "the model has none of the name '{}', but {}",
            fault::name(&unknown.name),
            names.join(", ")
        );
        return Err(wrong(field, why));
    }
    for has in has {
        let given = asked.iter().find(|asked| asked.name == has.name);
        let Some(given) = given else {
            return Err(wrong(field, format_args!("'{}' of the model is missing", has.name)));
        };
        given.check(&has, rows).map_err(|why| wrong(field, format_args!("'{}': {why}", has.name)))?;
    }
    Ok(())
}

impl Tensor {
    fn check(&self, has: &Self, rows: bool) -> Result<(), String> {
        if self.data_type != 0 && self.data_type != has.data_type {
            let name = DataType::try_from(has.data_type).unwrap_or_default().as_str_name();
            return Err(format!("its data_type is {name}"));
        }
        let with_rows = || rows && matches!(self.dims.split_first(), Some((-1, rest)) if *rest == has.dims);
        let without_rows =
            || !rows && matches!(has.dims.split_first(), Some((-1, rest)) if *rest == self.dims);
        if !self.dims.is_empty() && self.dims != has.dims && !with_rows() && !without_rows() {
            return Err(format!("its dims are {:?}", has.dims));
        }
        if self.optional && !has.optional {
            return Err("it is not optional".to_owned());
        }
        Ok(())
    }
}

fn input(given: &ModelInput) -> Result<Tensor, Error> {
    let ModelInput {
        name,
        data_type,
        format,
        dims,
        reshape,
        is_shape_tensor,
        allow_ragged_batch,
        optional,
        is_non_linear_format_io,
    } = given;
    let refused = [
        ("format", *format != 0),
        ("reshape", reshape.is_some()),
        ("is_shape_tensor", *is_shape_tensor),
        ("allow_ragged_batch", *allow_ragged_batch),
        ("is_non_linear_format_io", *is_non_linear_format_io),
    ];
    refuse("input", name, &refused)?;
    Ok(Tensor { name: name.clone(), data_type: *data_type, dims: dims.clone(), optional: *optional })
}

fn output(given: &ModelOutput) -> Result<Tensor, Error> {
    let ModelOutput {
        name,
        data_type,
        dims,
        reshape,
        // Set, and not held against the model.
        label_filename: _,
        is_shape_tensor,
        is_non_linear_format_io,
    } = given;
    let refused = [
        ("reshape", reshape.is_some()),
        ("is_shape_tensor", *is_shape_tensor),
        ("is_non_linear_format_io", *is_non_linear_format_io),
    ];
    refuse("output", name, &refused)?;
    Ok(Tensor { name: name.clone(), data_type: *data_type, dims: dims.clone(), optional: false })
}

fn refuse(field: &str, name: &str, set: &[(&str, bool)]) -> Result<(), Error> {
    match set.iter().find(|(_, set)| *set) {
        Some((what, _)) => {
            let why =
                format_args!("'{}': {what}: this server has no equal of it: leave it out", fault::name(name));
            Err(wrong(field, why))
        }
        None => Ok(()),
    }
}
