//! Streams in a server, over the models that it serves.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use vespid_serving::Predictor;
use vespid_stream::{Metrics, Streams};
use vespid_telemetry::Telemetry;
use vespid_types::{ModelName, ModelRef};

use crate::command::stream::read;

/// Which streams a server has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Streams")]
pub(super) struct StreamArgs {
    /// A file with a stream, which asks a model of this server (docs/stream.md); repeatable
    #[arg(long, value_name = "STREAM.yaml")]
    stream: Vec<PathBuf>,
}

impl StreamArgs {
    pub(super) fn are_given(&self) -> bool {
        !self.stream.is_empty()
    }

    pub(super) fn start(
        &self,
        predictor: &Predictor,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Option<Streams>> {
        if !self.are_given() {
            return Ok(None);
        }
        let mut streams = Vec::with_capacity(self.stream.len());
        for file in &self.stream {
            let spec = read(file)?;
            let name: ModelName = spec
                .model
                .parse()
                .with_context(|| format!("{}: the model of a server is a name", file.display()))?;
            let model = ModelRef { name, version: spec.version };
            streams.push((spec, model));
        }
        let metrics = Metrics::new()?;
        telemetry.register(Box::new(metrics.clone()))?;
        Ok(Some(Streams::start(streams, predictor, &metrics)?))
    }
}
