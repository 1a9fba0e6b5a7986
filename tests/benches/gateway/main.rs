//! What the gateway costs: the same requests to a host alone, through the gateway, and through nginx as a plain proxy.
//!
//! Contract: one host, one gateway that knows it by a real API server, and one nginx with as many workers as the gateway has
//! threads, side by side in one run; each way is measured in turn in every round, by `vespid bench` in a process of its own, and
//! the median of the rounds counts. What a proxy costs is its own processor time, as the kernel counts it, for each request; what
//! it adds is the difference of latencies at one request at a time and at many. Read the ratios.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use vespid_tests::kubernetes::Cluster;
use vespid_tests::measure::{self, Measured, median};
use vespid_tests::server::Server;
use vespid_tests::{built, http, wait};

/// The gateway beside a host alone and beside nginx.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a way is measured in a round, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Requests under way at once, besides one
    #[arg(long, default_value_t = 16)]
    concurrency: u32,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A way to the model.
struct Way {
    name: &'static str,
    url: String,
    /// The processes of the proxy.
    processes: Vec<u32>,
    rounds: Vec<Round>,
}

/// What a round has measured.
#[derive(Clone, Copy)]
struct Round {
    concurrency: u32,
    median: f64,
    high: f64,
    rate: f64,
    /// Of the proxy, for a request, in microseconds.
    processor: f64,
}

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // nginx has workers, which end with their master where it is asked to.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn main() {
    let args = Args::parse();
    let folder = tempfile::tempdir().unwrap();
    let host = Server::with(&["iris"]);
    let cluster = Cluster::start();
    let (gateway, through_gateway) = gateway(&cluster, &host);
    let (nginx, through_nginx) = nginx(folder.path(), &host);
    let way = |name, url: &str, processes| Way { name, url: url.to_owned(), processes, rounds: Vec::new() };
    let mut ways = [
        way("host alone", &host.url(), Vec::new()),
        way("vespid gateway", &through_gateway, vec![gateway.0.id()]),
        way("nginx", &through_nginx, children(nginx.0.id())),
    ];
    for round in 0..=args.rounds {
        for concurrency in [1, args.concurrency] {
            for way in &mut ways {
                let measured = way.measure(concurrency, args.seconds);
                // The first round warms up.
                if round > 0 {
                    way.rounds.push(measured);
                }
            }
        }
    }
    for concurrency in [1, args.concurrency] {
        println!("{}", report(&ways, concurrency));
    }
}

/// The gateway over an API server that knows one model, one pool and one pod: the host.
fn gateway(cluster: &Cluster, host: &Server) -> (Process, String) {
    cluster.serve_endpoint_slices();
    let crds = Command::new(built::vespid()).arg("crds").output().unwrap();
    cluster.apply(&String::from_utf8(crds.stdout).unwrap());
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/models.vespid.dev",
        "crd/modelpools.vespid.dev",
    ];
    cluster.kubectl(&wait);
    cluster.apply(&objects(host).iter().map(|object| format!("---\n{object}\n")).collect::<String>());
    let mut command = Command::new(built::vespid());
    command.args(["gateway", "--namespace", "default", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
    command
        .args(["--admin", "127.0.0.1:0", "--packages", "127.0.0.1:0"])
        .env("KUBECONFIG", cluster.kubeconfig());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let http = line.split_whitespace().find_map(|word| word.strip_prefix("http=")).expect(&line);
    let url = format!("http://{http}");
    wait_for(&url);
    (Process(child), url)
}

fn objects(host: &Server) -> Vec<Value> {
    let (address, port) = host.address().rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let version = json!({"version": 1, "package": {"oci": "oci://registry.example/iris:1"}});
    vec![
        json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris", "namespace": "default"},
            "spec": {"versions": [version]}
        }),
        json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default", "namespace": "default"},
            "spec": {"replicas": 1}
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "default-pool-1", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "default-pool"}
            },
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [address], "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "name": "host", "namespace": "default"}
            }]
        }),
    ]
}

/// nginx as one would set it up for a proxy that keeps its connections.
fn nginx(folder: &Path, host: &Server) -> (Process, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let workers = std::thread::available_parallelism().unwrap();
    let place = folder.display();
    let configuration = format!(
        "daemon off; pid {place}/pid; error_log {place}/error.log; worker_processes {workers};
        events {{ worker_connections 1024; }}
        http {{
            access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
            fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
            client_max_body_size 0; keepalive_requests 1000000;
            upstream host {{ server {}; keepalive 64; keepalive_requests 1000000; }}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://host; proxy_http_version 1.1; proxy_set_header Connection \"\";
                    proxy_request_buffering off; proxy_buffering off;
                }}
            }}
        }}",
        host.address()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(built::nginx());
    command.arg("-p").arg(folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(&file);
    let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    wait_for(&url);
    (Process(child), url)
}

/// Waits until the model answers by this way.
fn wait_for(url: &str) {
    let ready = || http::try_send("GET", &format!("{url}/v2/models/iris/ready"), &[], &[]).ok();
    wait::until("the model can be asked", || ready().filter(|answer| answer.status == 200).map(drop));
}

impl Way {
    fn measure(&self, concurrency: u32, seconds: u64) -> Round {
        let before = self.processor_time();
        let Measured { median, high, rate, requests } = measure::iris(&self.url, concurrency, seconds, "");
        let spent = self.processor_time().checked_sub(before).unwrap();
        Round { concurrency, median, high, rate, processor: spent.as_secs_f64() * 1e6 / requests }
    }

    /// Of the proxy's processes, in user and system mode.
    fn processor_time(&self) -> Duration {
        self.processes.iter().map(|&process| processor_time(process)).sum()
    }

    /// The median of what the rounds have measured at so many requests at once.
    fn of(&self, concurrency: u32, what: impl Fn(&Round) -> f64) -> f64 {
        let rounds = self.rounds.iter().filter(|round| round.concurrency == concurrency);
        median(rounds.map(what))
    }
}

/// The time that a process has had: fields 14 and 15 of `/proc/PID/stat` (proc(5)), in ticks of a hundredth of a second.
fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name of the program, which may have spaces, ends with the last parenthesis.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[11..=12].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The processes that this one has started.
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = fs::read_to_string(path).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn report(ways: &[Way; 3], concurrency: u32) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "way",
        "at once",
        "p50 us",
        "added",
        "p99 us",
        "added",
        "requests/s",
        "proxy us/request",
        "requests/s/core",
        "of nginx's",
    ]);
    let alone = &ways[0];
    for way in ways {
        let of = |what: fn(&Round) -> f64| way.of(concurrency, what);
        let base = |what: fn(&Round) -> f64| alone.of(concurrency, what);
        let proxied = !way.processes.is_empty();
        let per_core = |way: &Way| 1e6 / way.of(concurrency, |round| round.processor);
        let shown = |text: String| if proxied { text } else { String::new() };
        table.add_row([
            way.name.to_owned(),
            concurrency.to_string(),
            format!("{:.0}", of(|round| round.median)),
            shown(format!("{:+.0}", of(|round| round.median) - base(|round| round.median))),
            format!("{:.0}", of(|round| round.high)),
            shown(format!("{:+.0}", of(|round| round.high) - base(|round| round.high))),
            format!("{:.0}", of(|round| round.rate)),
            shown(format!("{:.1}", of(|round| round.processor))),
            shown(format!("{:.0}", per_core(way))),
            shown(format!("{:.2}", per_core(way) / per_core(&ways[2]))),
        ]);
    }
    for column in 1..10 {
        table.column_mut(column).unwrap().set_cell_alignment(CellAlignment::Right);
    }
    table
}
