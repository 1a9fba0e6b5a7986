//! What a model is asked about, as the command line says it: values by name, files, or a whole request.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde_json::Value;
use vespid_types::{NamedTensor, Signature};

use super::values;
use crate::failure::{Failure, Hint};

/// The inputs of a request.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").args(["inputs", "file", "json"]))]
pub(crate) struct InputArgs {
    /// Inputs by name
    #[arg(value_name = "NAME=VALUES")]
    inputs: Vec<String>,
    /// Files, each an element of the model's one BYTES input
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,
    /// A whole request of the Open Inference Protocol, sent as it is; '-' reads it from standard input
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A parameter of the request: true, false, a number or text
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = super::request::parameter, conflicts_with = "json")]
    pub(crate) parameters: Vec<(String, Value)>,
}

impl InputArgs {
    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.file.is_empty() && self.json.is_none()
    }

    /// The whole request, where it was written before.
    pub(crate) fn whole(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.json.as_deref().map(read_json).transpose()
    }

    /// The tensors that values or files make.
    pub(crate) fn tensors(&self, signature: &Signature) -> Result<Vec<NamedTensor>, Failure> {
        if self.file.is_empty() {
            values::read(&self.inputs, signature)
        } else {
            Ok(vec![read_files(&self.file, signature)?])
        }
    }
}

fn read_json(path: &Path) -> Result<Vec<u8>, Failure> {
    if path != Path::new("-") {
        return fs::read(path).hint(format!("{} cannot be read", path.display()), "check the path");
    }
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .hint("standard input cannot be read", "name a file instead of '-'")?;
    Ok(text)
}

/// All files as the elements of the one input that takes bytes.
fn read_files(files: &[PathBuf], signature: &Signature) -> Result<NamedTensor, Failure> {
    let spec = match signature.inputs.as_slice() {
        [spec] => Some(spec),
        several => {
            let mut required = several.iter().filter(|spec| !spec.optional);
            required.next().filter(|_| required.next().is_none())
        }
    };
    let unfit = |reason: &str| {
        Failure::usage(format!("--file does not fit the model: it {reason}"))
            .hint(format!("write NAME=VALUES; {}", values::describe(signature)))
    };
    let spec = spec.ok_or_else(|| unfit("has several inputs"))?;
    if spec.datatype != vespid_types::Datatype::Bytes {
        return Err(unfit(&format!("takes {} and not BYTES", spec.datatype)));
    }
    let read = |path: &PathBuf| {
        fs::read(path)
            .hint(format!("{} cannot be read", path.display()), "check the path and its permissions")
    };
    let elements = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    values::bytes_tensor(spec, None, (files.len(), 1), &elements)
}
