//! Jobs over files in a server: what is said of them on the command line, and how they begin.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use vespid_batch::{Jobs, JobsOptions};
use vespid_package::StoreLocation;
use vespid_serving::Predictor;

use super::ServeArgs;

/// What of the drain time is left to the parts in hand.
const GRACE: Duration = Duration::from_secs(25);

/// How a server runs jobs over files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Jobs over files")]
pub(super) struct JobArgs {
    /// Where jobs may read and write: a folder, or s3://BUCKET/PREFIX, gs://... or az://...; repeatable [default: nowhere,
    /// and no jobs are taken]
    #[arg(long, value_name = "DIR|URL")]
    batch_root: Vec<StoreLocation>,
    /// Where the jobs are kept, which is this server's alone [default: the folder jobs of --store, where that is a folder]
    #[arg(long, value_name = "DIR|URL", requires = "batch_root")]
    batch_jobs: Option<String>,
    /// Calls of a model at once for jobs [default: one for each core]
    #[arg(long, value_name = "N", requires = "batch_root", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch_calls: Option<u16>,
}

/// The threads that do the work of files.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(cores().div_ceil(2)).thread_name("files").enable_all();
    builder.build().context("no threads to run on")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl JobArgs {
    pub(super) async fn start(
        &self,
        args: &ServeArgs,
        predictor: &Predictor,
        files: Handle,
        stopping: &watch::Receiver<bool>,
    ) -> anyhow::Result<Option<Jobs>> {
        if self.batch_root.is_empty() {
            return Ok(None);
        }
        let folder = match (&self.batch_jobs, &args.store) {
            (Some(folder), _) => folder.clone(),
            (None, StoreLocation::Folder(store)) => store.join("jobs").display().to_string(),
            (None, StoreLocation::Bucket(_)) => {
                anyhow::bail!(
                    "--batch-jobs is missing: several servers may have this store, and each keeps its own jobs"
                )
            }
        };
        let options = JobsOptions {
            folder,
            roots: self.batch_root.iter().cloned().collect(),
            predictor: predictor.clone(),
            calls: self.batch_calls.map_or_else(cores, usize::from),
            grace: args.drain.min(GRACE),
            runtime: files,
            stopping: stopping.clone(),
        };
        Jobs::start(options).await.context("--batch-jobs").map(Some)
    }
}
