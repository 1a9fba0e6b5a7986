//! The options about which models are served, and which of them are in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use vespid_serving::{Control, DEFAULT_POLL, Loading};
use vespid_types::ModelName;

#[derive(Debug, Args)]
#[command(next_help_heading = "Models")]
pub(crate) struct Models {
    /// Which models of the store are served
    #[arg(long, value_enum, value_name = "WHICH", default_value = "all")]
    model_control: Which,
    /// How often the store is looked at, with --model-control poll [default: 15s]
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    poll_interval: Option<Duration>,
    /// A model that is served from the start, with --model-control explicit; may be given several times
    #[arg(long, value_name = "MODEL")]
    load_model: Vec<ModelName>,
    /// When models of the store are loaded
    #[arg(long, value_enum, value_name = "WHEN", default_value = "at-once")]
    load: When,
    /// How much memory loaded models may take up together: the one that was asked longest ago gives way, and is loaded
    /// again when it is asked [default: as much as they take]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<ByteSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// All that it holds at the start, and those that are pushed
    All,
    /// All, and it is looked at from time to time for what others put there, change and remove
    Poll,
    /// Those that --load-model names, and those that are pushed or loaded over the API
    Explicit,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    /// When the server starts, or they are found
    AtOnce,
    /// When they are asked for the first time
    WhenAsked,
}

impl Models {
    pub(crate) fn control(&self) -> anyhow::Result<Control> {
        if self.poll_interval.is_some() && self.model_control != Which::Poll {
            anyhow::bail!("--poll-interval is for --model-control poll");
        }
        if !self.load_model.is_empty() && self.model_control != Which::Explicit {
            anyhow::bail!("--load-model is for --model-control explicit: otherwise all models are served");
        }
        Ok(match self.model_control {
            Which::All => Control::All,
            Which::Poll => Control::Poll(self.poll_interval.unwrap_or(DEFAULT_POLL)),
            Which::Explicit => Control::Explicit(self.load_model.iter().cloned().collect::<BTreeSet<_>>()),
        })
    }

    pub(crate) fn loading(&self) -> Loading {
        match self.load {
            When::AtOnce => Loading::AtOnce,
            When::WhenAsked => Loading::WhenAsked,
        }
    }

    pub(crate) fn memory(&self) -> Option<ByteSize> {
        self.memory_budget
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text).map_err(|error| error.to_string())? {
        time if time < Duration::from_millis(100) => Err("use at least 100ms".to_owned()),
        time => Ok(time),
    }
}
