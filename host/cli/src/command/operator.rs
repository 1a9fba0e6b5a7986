//! `vespid operator`: the controllers of a namespace, until a signal ends them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::core::v1::EnvVar;
use kube::Client;
use vespid_operator::{Operator, OperatorOptions, Peers};

use crate::cluster;
use crate::serve::{LogFormat, Signals, start_log};

const AFTER_HELP: &str = "\
Examples:
  vespid operator --namespace models --image registry.example/vespid:0.1.0 --host-role vespid-host
  KUBECONFIG=admin.yaml VESPID_LOG=debug vespid operator --image vespid

The chart runs it, with the rights that it takes. Several may run: one leads, the others stand by.";

/// Make of a cluster's resources what it runs
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct OperatorArgs {
    /// The namespace that it looks after [default: that of the pod's account, or of the kubeconfig]
    #[arg(short, long, value_name = "NAMESPACE", env = "POD_NAMESPACE", hide_env_values = true)]
    namespace: Option<String>,
    /// What this process is called among those that want to lead [default: its pod's name, else one that nobody has]
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide_env_values = true)]
    identity: Option<String>,
    /// The image of pods whose resource names none [default: that of its own pod]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// When it is pulled: Always, IfNotPresent or Never
    #[arg(long, value_name = "WHEN")]
    image_pull_policy: Option<String>,
    /// A Secret that it is pulled with; repeatable
    #[arg(long, value_name = "SECRET")]
    image_pull_secret: Vec<String>,
    /// The Role that the account of each pool's pods is bound to
    #[arg(long, value_name = "ROLE", default_value = "vespid-host")]
    host_role: String,
    /// Where pods fetch uploaded packages, such as http://vespid-gateway-packages:8003
    #[arg(long, value_name = "URL")]
    packages: Option<String>,
    /// A ConfigMap with pools that are to be there: the spec of each under its name
    #[arg(long, value_name = "CONFIGMAP")]
    pools: Option<String>,
    /// A label of the gateway's pods, which alone reach the ports for clients, as NAME=VALUE; repeatable
    /// [default: app.kubernetes.io/component=gateway]
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    gateway_label: Vec<(String, String)>,
    /// A label of the operator's own pods, which reach all ports, as NAME=VALUE; repeatable
    /// [default: app.kubernetes.io/component=operator]
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    operator_label: Vec<(String, String)>,
    /// Let nobody but the operator reach the port with the metrics; otherwise all pods of the cluster do
    #[arg(long)]
    close_metrics: bool,
    /// A variable of each pod's container, as NAME=VALUE; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<EnvVar>,
    /// How long a pod that goes still answers before it drains, until nobody is sent to it any more
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pre_stop: Duration,
    /// Where probes reach it, and what collects metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8002")]
    admin: SocketAddr,
    /// How the log is written
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("use NAME=VALUE".to_owned()),
    }
}

fn parse_variable(text: &str) -> Result<EnvVar, String> {
    let (name, value) = parse_pair(text)?;
    Ok(EnvVar { name, value: Some(value), value_from: None })
}

/// Runs until a signal ends it, or it does not lead any more.
pub(crate) fn run(args: &OperatorArgs) -> anyhow::Result<()> {
    let _log = start_log(args.log_format)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    runtime.block_on(operate(args))
}

async fn operate(args: &OperatorArgs) -> anyhow::Result<()> {
    let config = cluster::infer().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
    let mut signals = Signals::listen()?;
    let operator = Operator::new(client, options(args, namespace)).await?;
    if let Some(admin) = operator.admin() {
        anstream::println!("listening admin={admin}");
    }
    let shutdown = async move {
        let signal = signals.next().await;
        tracing::info!("{signal} received, ending");
    };
    Ok(operator.run(shutdown).await?)
}

fn options(args: &OperatorArgs, namespace: String) -> OperatorOptions {
    let identity = args.identity.clone().unwrap_or_else(|| format!("vespid-{:016x}", fastrand::u64(..)));
    OperatorOptions {
        namespace,
        identity,
        image: args.image.clone(),
        image_pull_policy: args.image_pull_policy.clone(),
        image_pull_secrets: args.image_pull_secret.clone(),
        host_role: args.host_role.clone(),
        packages: args.packages.clone(),
        pools: args.pools.clone(),
        peers: peers(args),
        env: args.env.clone(),
        pre_stop: args.pre_stop,
        admin: Some(args.admin),
    }
}

fn peers(args: &OperatorArgs) -> Peers {
    let Peers { gateway, operator, .. } = Peers::default();
    let or = |said: &[(String, String)], otherwise| match said.is_empty() {
        true => otherwise,
        false => said.iter().cloned().collect(),
    };
    Peers {
        gateway: or(&args.gateway_label, gateway),
        operator: or(&args.operator_label, operator),
        metrics: !args.close_metrics,
    }
}

/// The operator writes what `vespid batch` and `vespid stream` read, and links neither.
#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;
    use serde_json::{Value, json};
    use vespid_batch::JobSpec;
    use vespid_operator::{Package, job_yaml, stream_yaml};
    use vespid_resources::{BatchPrediction, StreamPrediction};
    use vespid_stream::{SinkKind, SourceKind, StreamSpec};

    use super::*;

    fn package() -> Package {
        Package { version: 3, model: "oci://registry.example:5000/m/iris@sha256:00".to_owned(), store: None }
    }

    fn job(spec: Value) -> JobSpec {
        let mut batch = BatchPrediction::new("flowers", serde_json::from_value(spec).unwrap());
        batch.metadata = ObjectMeta { name: Some("flowers".to_owned()), ..ObjectMeta::default() };
        let yaml = job_yaml(&batch, &package()).unwrap();
        JobSpec::from_yaml("job.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
    }

    #[test]
    fn a_job_that_says_everything_is_read_as_it_was_meant() {
        let read = job(json!({
            "model": "iris", "version": 3,
            "input": {"urls": ["s3://data/a.csv", "s3://data/b: c.csv"], "format": "csv", "where": "note = 'yes: # no' AND width > 0.5",
                      "types": {"width": "FP32"}},
            "inputs": {"measurements": ["sepal", "yes", "0123", "null"]},
            "outputs": {"species": "predicted: #1"}, "binary": ["thumbnail"], "keep": ["id", "true"],
            "output": {"url": "s3://data/out", "format": "jsonl"}, "maxErrors": "0.5%", "rowsPerCall": 128, "batched": false,
        }));
        assert_eq!(
            (read.model.as_str(), read.version.unwrap().to_string()),
            (package().model.as_str(), "3".to_owned())
        );
        assert_eq!(read.input.filter.as_deref(), Some("note = 'yes: # no' AND width > 0.5"));
        assert_eq!(read.input.url.as_slice()[1], "s3://data/b: c.csv");
        assert_eq!(read.inputs["measurements"].as_slice(), ["sepal", "yes", "0123", "null"]);
        assert_eq!(serde_json::to_value(&read.keep).unwrap(), json!(["id", "true"]));
        assert_eq!(
            (read.max_errors.to_string(), read.rows_per_call, read.batched),
            ("0.5%".to_owned(), Some(128), Some(false))
        );
    }

    #[test]
    fn a_job_that_says_the_least_is_read_and_one_that_keeps_nothing_keeps_nothing() {
        let least = json!({"model": "iris", "input": {"urls": ["s3://data/a.csv"]}, "output": {"url": "s3://data/out"}});
        assert_eq!(job(least.clone()).keep, None);
        let mut nothing = least;
        nothing["keep"] = json!([]);
        nothing["maxErrors"] = json!("7");
        let read = job(nothing);
        assert_eq!(serde_json::to_value(&read.keep).unwrap(), json!("none"));
        assert_eq!(read.max_errors.to_string(), "7");
    }

    fn stream(spec: Value) -> StreamSpec {
        let stream = StreamPrediction::new("clicks", serde_json::from_value(spec).unwrap());
        let yaml = stream_yaml(&stream, &package()).unwrap();
        StreamSpec::from_yaml("stream.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
    }

    #[test]
    fn a_stream_of_kafka_that_says_everything_is_read_as_it_was_meant() {
        let secret = |key: &str| json!({"secret": "kafka", "key": key});
        let read = stream(json!({
            "model": "iris",
            "source": {"codec": "json", "kafka": {
                "brokers": ["a:9092", "b:9092"], "topics": ["clicks", "taps"], "group": "iris", "start": "latest",
                "properties": {"security.protocol": "sasl_ssl", "fetch.min.bytes": "1", "enable.ssl.certificate.verification": "true"},
                "secretProperties": {"sasl.password": secret("password")},
            }},
            "sink": {"codec": "json", "kafka": {"topic": "species", "deadLetter": "failed", "secretProperties": {"sasl.password": secret("other")}}},
            "inputs": {"measurements": ["a", "b"]}, "outputs": {"species": "predicted"}, "keep": ["id"], "batched": true,
            "maxRows": 256, "maxWait": "5ms", "concurrency": 1, "order": "key", "exactlyOnce": true,
            "onError": {"decode": "deadLetter", "refused": "skip", "failed": "stop", "timeout": "deadLetter", "encode": "skip"},
            "sessions": {"idleTimeout": "5m", "max": 32, "snapshots": "s3://state", "every": "30s"}, "drainSeconds": 25,
        }));
        assert_eq!((read.name.as_str(), read.model.as_str()), ("clicks", package().model.as_str()));
        let (SourceKind::Kafka(source), SinkKind::Kafka(sink)) = (&read.source.kind, &read.sink.kind) else {
            panic!("both are Kafka's");
        };
        assert_eq!(format!("{:?}", source.properties["sasl.password"]), "{env: VESPID_SOURCE_SASL_PASSWORD}");
        assert_eq!(format!("{:?}", sink.properties["sasl.password"]), "{env: VESPID_SINK_SASL_PASSWORD}");
        assert_eq!(format!("{:?}", sink.transactional_id.as_ref().unwrap()), "{env: POD_NAME}");
        assert_eq!(sink.dead_letter.as_deref(), Some("failed"));
        assert_eq!((read.max_wait, read.drain), (Duration::from_millis(5), Duration::from_secs(25)));
        assert_eq!(read.on_error.failed, Some(vespid_stream::Action::Stop));
        assert_eq!(read.sessions.unwrap().max, 32);
    }

    #[test]
    fn a_stream_of_nats_is_read_with_its_credentials() {
        let secret = json!({"secret": "nats", "key": "user.creds"});
        let read = stream(json!({
            "model": "iris",
            "source": {"codec": "raw", "nats": {"servers": ["nats://a:4222"], "credentials": secret, "stream": "CLICKS", "subject": "clicks.>", "consumer": "c"}},
            "sink": {"codec": "raw", "nats": {"subject": "species", "credentials": secret}},
        }));
        let (SourceKind::Nats(source), SinkKind::Nats(sink)) = (&read.source.kind, &read.sink.kind) else {
            panic!("both are NATS's");
        };
        assert_eq!(source.credentials.as_deref(), Some("/etc/vespid/nats/source/credentials".as_ref()));
        assert_eq!(sink.credentials.as_deref(), Some("/etc/vespid/nats/sink/credentials".as_ref()));
        assert_eq!(sink.servers, None);
    }
}
