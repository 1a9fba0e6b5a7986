//! `vespid predict`: asks a model, with values from the command line, with files, or with a request written before.
//!
//! Values and files travel as binary tensors (`binary_tensor_data`): whatever the datatype, nothing is lost on the way.
//! Answers come as JSON.

mod request;
mod shape;
mod table;
mod values;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::Value;
use vespid_types::{ModelName, NamedTensor, Signature, Version};

use crate::args::{Output, Server};
use crate::client::Client;
use crate::failure::{Failure, Hint};
use crate::oip::{self, Metadata, Prediction};
use crate::ui;

const AFTER_HELP: &str = "\
Examples:
  vespid predict iris measurements='5.1,3.5,1.4,0.2;6.2,2.9,4.3,1.3'
  vespid predict file-type --file *.bin
  vespid predict simple INPUT0=1,2,3,4 INPUT1=5,6,7,8 --output json
  vespid predict scaler --json request.json

Values:
  ',' sets values apart and ';' rows of the first dimension. The datatype comes from the model's metadata, and so does \
the shape; where that leaves it open, write it out: 'image[1,2,3]=1,2,3,4,5,6'.

  For BYTES each value is a text (a backslash takes ',' ';' '@' literally) and @PATH stands for a file's content. For \
other datatypes @PATH is a file of raw little-endian data.";

const USAGE: &str = "vespid predict [OPTIONS] <MODEL> <NAME=VALUES>...
       vespid predict [OPTIONS] <MODEL> --file <PATH>...
       vespid predict [OPTIONS] <MODEL> --json <FILE>";

/// Ask a model for a prediction
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
#[command(group = ArgGroup::new("input").required(true).args(["inputs", "file", "json"]))]
pub(crate) struct PredictArgs {
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: ModelName,
    /// Inputs by name
    #[arg(value_name = "NAME=VALUES")]
    inputs: Vec<String>,
    /// Files, each an element of the model's one BYTES input
    #[arg(long, value_name = "PATH", num_args = 1..)]
    file: Vec<PathBuf>,
    /// A whole request of the Open Inference Protocol, sent as it is; '-' reads it from standard input
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The version to ask [default: the server's choice]
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// A parameter of the request: true, false, a number or text
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = request::parameter, conflicts_with = "json")]
    parameters: Vec<(String, Value)>,
    /// How the outputs are printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// How long the prediction may take, such as 500ms or 10s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server.url, args.timeout);
    let model = oip::model_path(&args.model, args.version);
    let infer = format!("{model}/infer");
    let answer = if let Some(path) = &args.json {
        client.post(&infer, &read_json(path)?, None)?
    } else {
        let signature = Signature::from(client.get::<Metadata>(&model)?);
        let inputs = if args.file.is_empty() {
            values::read(&args.inputs, &signature)?
        } else {
            vec![read_files(&args.file, &signature)?]
        };
        let request = request::encode(&inputs, &args.parameters, args.timeout)?;
        client.post(&infer, &request.body, Some(request.header))?
    };
    if args.output == Output::Json {
        let json: Value = client.decode(&answer)?;
        ui::result(format!("{json:#}"))?;
        return Ok(());
    }
    let prediction: Prediction = client.decode(&answer)?;
    ui::print_table(&table::render(&prediction, &args.file))?;
    Ok(())
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
