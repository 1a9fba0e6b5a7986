//! `vespid traffic`: shows and sets which of a model's versions are served, and how requests are led to them.

use clap::Args;
use serde_json::{Map, Value, json};
use vespid_package::{Shadow, Traffic};
use vespid_types::{ModelName, Version};

use crate::args::{Output, Server};
use crate::client::{Client, Upload};
use crate::failure::Failure;
use crate::oip;
use crate::ui;

const AFTER_HELP: &str = "\
Examples:
  vespid traffic scaler                      show it
  vespid traffic scaler 1=90 2=10            nine of ten requests that name no version to 1
  vespid traffic scaler 1=1 --shadow 2 --percent 5
                                             copies of 5 % of them to 2, whose answers are compared and counted
  vespid traffic scaler --latest 2           serve the two greatest versions
  vespid traffic scaler --reset              serve all, the greatest answers

What is set replaces all that was set before, and survives a restart.";

/// Show or set how a model's traffic is led to its versions
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TrafficArgs {
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: ModelName,
    /// Shares of the requests that name no version
    #[arg(value_name = "VERSION=WEIGHT", value_parser = parse_weight)]
    weights: Vec<(Version, u32)>,
    /// Serve so many versions, the greatest
    #[arg(long, value_name = "N", conflicts_with = "only")]
    latest: Option<u32>,
    /// Serve these versions alone
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    only: Vec<Version>,
    /// Send this version copies of requests, and compare its answers
    #[arg(long, value_name = "VERSION")]
    shadow: Option<Version>,
    /// Of how many of a hundred requests the shadow version gets a copy [default: 100]
    #[arg(long, value_name = "PERCENT", requires = "shadow")]
    percent: Option<f64>,
    /// By how much elements of floating-point outputs may differ [default: 1e-5]
    #[arg(long, value_name = "TOLERANCE", requires = "shadow")]
    tolerance: Option<f64>,
    /// Back to how it is where nothing is set
    #[arg(long, conflicts_with_all = ["weights", "latest", "only", "shadow"])]
    reset: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: &TrafficArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server.url, None)?;
    let path = oip::traffic_path(&args.model);
    let traffic: Traffic = match args.document()? {
        None => client.get(&path)?,
        Some(document) => {
            let mut body: &[u8] = &document;
            let length = document.len() as u64;
            let body = Upload { reader: &mut body, length, content_type: "application/json" };
            client.decode(&client.put(&path, body)?)?
        }
    };
    match args.output {
        Output::Json => ui::result(serde_json::to_string_pretty(&traffic)?)?,
        Output::Table => lines(&traffic).into_iter().try_for_each(ui::result)?,
    }
    Ok(())
}

impl TrafficArgs {
    /// What is to be set; nothing where it is to be shown.
    fn document(&self) -> Result<Option<Vec<u8>>, Failure> {
        let mut document = Map::new();
        if let Some(latest) = self.latest {
            document.insert("versions".to_owned(), json!({"latest": latest}));
        }
        if !self.only.is_empty() {
            document.insert("versions".to_owned(), json!({"specific": self.only}));
        }
        if !self.weights.is_empty() {
            let weights = self.weights.iter().filter(|(_, weight)| *weight > 0);
            let weights: Map<String, Value> =
                weights.map(|(version, weight)| (version.to_string(), json!(weight))).collect();
            document.insert("weights".to_owned(), weights.into());
        }
        if let Some(version) = self.shadow {
            let options = [("percent", self.percent), ("tolerance", self.tolerance)];
            let options =
                options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
            let shadow: Map<String, Value> =
                [("version".to_owned(), json!(version))].into_iter().chain(options).collect();
            document.insert("shadow".to_owned(), shadow.into());
        }
        if document.is_empty() && !self.reset {
            return Ok(None);
        }
        let document = Value::Object(document).to_string().into_bytes();
        // Here as there, so that a mistake shows before anything is sent.
        Traffic::parse(&document).map_err(|error| Failure::new(error.to_string()))?;
        Ok(Some(document))
    }
}

fn parse_weight(text: &str) -> Result<(Version, u32), String> {
    let (version, weight) = text.split_once('=').ok_or("use VERSION=WEIGHT, such as 2=10")?;
    let version = version.parse().map_err(|error| format!("{error}"))?;
    Ok((version, weight.parse().map_err(|_| format!("'{weight}' is not a weight: use a whole number"))?))
}

fn lines(traffic: &Traffic) -> Vec<String> {
    let Traffic { versions, weights, shadow } = traffic;
    let served = match versions {
        vespid_package::VersionPolicy::All => "all".to_owned(),
        vespid_package::VersionPolicy::Latest(number) => format!("the greatest {number}"),
        vespid_package::VersionPolicy::Specific(versions) => {
            versions.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")
        }
    };
    let mut lines = vec![format!("served  {served}")];
    let total: u64 = weights.values().map(|weight| u64::from(weight.get())).sum();
    if weights.is_empty() {
        lines.push("traffic to the greatest that is ready".to_owned());
    }
    for (version, weight) in weights {
        let percent = f64::from(weight.get()) * 100.0 / total as f64;
        lines.push(format!("traffic {percent:.1} % to version {version}"));
    }
    if let Some(Shadow { version, percent, tolerance }) = shadow {
        lines.push(format!("shadow  copies of {percent} % to version {version}, tolerance {tolerance}"));
    }
    lines
}
