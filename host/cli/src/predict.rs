//! `vespid predict`: asks a model, with values from the command line, with files, or with a request written before.
//!
//! Values and files travel as binary tensors (`binary_tensor_data`): whatever the datatype, nothing is lost on the way.
//! Answers come as JSON.

pub(crate) mod input;
pub(crate) mod request;
pub(crate) mod shape;
mod table;
pub(crate) mod values;

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use vespid_types::{ModelName, Signature, Version};

use crate::args::{Output, Server};
use crate::client::Client;
use crate::oip::{self, Metadata, Prediction};
use crate::ui;

use input::InputArgs;

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
#[command(mut_group("input", |group| group.required(true)))]
pub(crate) struct PredictArgs {
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: ModelName,
    #[command(flatten)]
    input: InputArgs,
    /// The version to ask [default: the server's choice]
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
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
    let client = Client::new(&args.server.url, args.timeout)?;
    let model = oip::model_path(&args.model, args.version);
    let infer = format!("{model}/infer");
    let answer = if let Some(text) = args.input.whole()? {
        client.post(&infer, &text, None)?
    } else {
        let signature = Signature::from(client.get::<Metadata>(&model)?);
        let inputs = args.input.tensors(&signature)?;
        let request = request::encode(&inputs, &args.input.parameters, args.timeout)?;
        client.post(&infer, &request.body, Some(request.header))?
    };
    if args.output == Output::Json {
        let json: Value = client.decode(&answer)?;
        ui::result(format!("{json:#}"))?;
        return Ok(());
    }
    let prediction: Prediction = client.decode(&answer)?;
    ui::print_table(&table::render(&prediction, &args.input.file))?;
    Ok(())
}
