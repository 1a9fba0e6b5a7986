//! What it costs to see who asks and whether they may: `iris` with a token, or an API key, and fifty policies, beside nobody asking.
//!
//! Contract: three servers side by side in one run, each measured in turn in every round by `vespid bench` in a process of its own;
//! what counts is the median of the rounds' ratios to the server that asks nobody. The tokens are those of a real provider. Read the
//! ratios. The turns change from round to round, so that nobody is always first.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench"
)]

use std::fmt::Write as _;
use std::fs;

use clap::Parser;
use comfy_table::{Table, presets};
use tempfile::TempDir;
use vespid_tests::built;
use vespid_tests::cli;
use vespid_tests::measure::{self, Measured, median};
use vespid_tests::oidc::Provider;
use vespid_tests::server::{Home, Server, repository_path};

/// Servers that ask who asks, beside one that does not.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a server is measured in a round, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Requests under way at once, besides one
    #[arg(long, default_value_t = 16)]
    concurrency: u32,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Whom tokens are for.
const AUDIENCE: &str = "https://vespid.example";

struct Way {
    name: &'static str,
    server: Server,
    token: String,
    measured: Vec<Measured>,
}

fn main() {
    let args = Args::parse();
    let (folder, mut provider) = (tempfile::tempdir().unwrap(), Provider::new());
    provider.start(&["key"]);
    let token = provider.token(AUDIENCE);
    let key = configure(&folder, &provider);
    let access = folder.path().join("access.yaml");
    let access = ["--access", access.to_str().unwrap()];
    let way = |name, arguments: &[&str], token: &str| {
        let home = Home::default();
        let server = home.start_with(arguments).at(home);
        push(&server, token);
        Way { name, server, token: token.to_owned(), measured: Vec::new() }
    };
    let mut ways =
        [way("nobody", &[], ""), way("a token", &access, &token), way("an API key", &access, &key)];
    for concurrency in [1, args.concurrency] {
        for round in 0..=args.rounds {
            ways.rotate_left(1);
            for way in &mut ways {
                let measured = measure::iris(&way.server.url(), concurrency, args.seconds, &way.token);
                // The first round warms up.
                if round > 0 {
                    way.measured.push(measured);
                }
            }
        }
        println!("{}", report(&ways, concurrency));
        ways.iter_mut().for_each(|way| way.measured.clear());
    }
}

/// Writes what says who may do what; the API key.
fn configure(folder: &TempDir, provider: &Provider) -> String {
    let made = cli::vespid(folder.path(), &[], &["authz", "key", "bench", "--tenant", "acme"]);
    let (key, entry) = made.expect(0).stdout.split_once('\n').unwrap();
    let mut policies = String::new();
    for number in 0..49 {
        writeln!(
            policies,
            "permit (principal in Vespid::Role::\"role-{number}\", action, resource is Vespid::Model)\n\
             when {{ resource has tenant && resource.tenant == \"tenant-{number}\" }};"
        )
        .unwrap();
    }
    policies.push_str(
        "permit (principal, action, resource is Vespid::Model)\n\
         when { principal has tenant && resource has tenant && principal.tenant == resource.tenant };\n",
    );
    let config = format!(
        "oidc: [{{issuer: \"{}\", audience: \"{AUDIENCE}\"}}]\napi_keys: keys.yaml\n\
         models: [{{match: \"*\", tenant: acme}}]\npolicies: policies.cedar\n",
        provider.issuer()
    );
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("keys.yaml", entry);
    write("policies.cedar", &policies);
    write("access.yaml", &config);
    key.to_owned()
}

fn push(server: &Server, token: &str) {
    let (package, bearer) = (fs::read(built::package("iris")).unwrap(), format!("Bearer {token}"));
    let headers = [("authorization", bearer.as_str())];
    let answer = server.send("PUT", &repository_path("iris", "1"), &headers, &package);
    assert_eq!(answer.status, 201, "{answer}");
}

fn report(ways: &[Way; 3], concurrency: u32) -> Table {
    let base = ways.iter().find(|way| way.token.is_empty()).unwrap();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["who asks", "at once", "requests/s", "of nobody's", "p50 us", "of nobody's", "p99 us"]);
    for way in ways {
        let of = |what: fn(&Measured) -> f64| median(way.measured.iter().map(what));
        let ratio = |what: fn(&Measured) -> f64| {
            median(way.measured.iter().zip(&base.measured).map(|(own, base)| what(own) / what(base)))
        };
        table.add_row([
            way.name.to_owned(),
            concurrency.to_string(),
            format!("{:.0}", of(|measured| measured.rate)),
            format!("{:.3}", ratio(|measured| measured.rate)),
            format!("{:.0}", of(|measured| measured.median)),
            format!("{:.3}", ratio(|measured| measured.median)),
            format!("{:.0}", of(|measured| measured.high)),
        ]);
    }
    table
}
