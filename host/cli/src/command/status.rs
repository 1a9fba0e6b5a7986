//! `vespid status`: what a cluster serves, and what keeps it from serving the rest.

mod one;
mod tables;

use clap::Args;
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vespid_resources::{BatchPrediction, Model, ModelPool, StreamPrediction};

use crate::args::Output;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::ui;

/// How many resources one answer of the API server has.
const PAGE: u32 = 500;

const AFTER_HELP: &str = "\
Examples:
  vespid status                              models, pools, jobs and streams of the namespace
  vespid status scaler                       one model: its versions, its pods, and what they say
  vespid status --namespace models --output json";

/// Show what a cluster serves, and what keeps it from serving the rest
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct StatusArgs {
    /// A model [default: everything]
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The resources of a namespace.
#[derive(Serialize)]
struct Everything {
    models: Vec<Model>,
    pools: Vec<ModelPool>,
    batches: Vec<BatchPrediction>,
    streams: Vec<StreamPrediction>,
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster)?;
    match &args.model {
        Some(name) => one_model(&cluster, name, args.output),
        None => everything(&cluster, args.output),
    }
}

fn one_model(cluster: &Cluster, name: &str, output: Output) -> anyhow::Result<()> {
    let models: Api<Model> = cluster.api();
    let model = cluster.wait(models.get(name));
    let model =
        model.map_err(|error| cluster::failure(error, format!("the model {name} cannot be shown")))?;
    match output {
        Output::Json => Ok(ui::result(serde_json::to_string_pretty(&bare(model))?)?),
        Output::Table => one::print(&model),
    }
}

fn everything(cluster: &Cluster, output: Output) -> anyhow::Result<()> {
    let found = cluster.wait(async {
        let (models, pools, batches, streams) = tokio::join!(
            list(cluster.api::<Model>(), "models"),
            list(cluster.api::<ModelPool>(), "pools"),
            list(cluster.api::<BatchPrediction>(), "jobs"),
            list(cluster.api::<StreamPrediction>(), "streams"),
        );
        anyhow::Ok(Everything { models: models?, pools: pools?, batches: batches?, streams: streams? })
    })?;
    match output {
        Output::Json => Ok(ui::result(serde_json::to_string_pretty(&found)?)?),
        Output::Table => tables::print(&found, cluster.namespace()),
    }
}

/// All of a kind.
async fn list<K>(api: Api<K>, what: &str) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut found = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await;
        let page = page.map_err(|error| cluster::failure(error, format!("the {what} cannot be listed")))?;
        found.extend(page.items.into_iter().map(bare));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Without what nobody reads.
fn bare<K: kube::Resource>(mut resource: K) -> K {
    resource.meta_mut().managed_fields = None;
    resource
}
