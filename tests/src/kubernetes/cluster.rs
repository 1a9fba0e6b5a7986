//! A control plane of Kubernetes 1.20: etcd, the API server, and the controllers that need no node.
//!
//! It says that it is 1.33, so that a chart that asks for a current release is installed, and takes what the set-up has added to
//! it: the wait before a container ends, and rules in CEL, which it drops. What else is new it does not serve, and of fields that
//! it does not know it says so where they are applied on its side: indexed jobs, version 2 of autoscaling, version 1 of policy.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::address::Address;
use super::api::Api;
use super::process::{Process, bound};
use crate::cli::{self, Outcome};
use crate::{built, wait};

const ETCD: u16 = 22_379;
const ETCD_PEERS: u16 = 22_380;
const API: u16 = 26_443;
const CONTROLLERS: u16 = 20_257;

/// The bearer token of an administrator.
pub(super) const ADMIN: &str = "administrator";

/// What runs. Those that look after nodes would give up ours, which nobody reports on, and those of endpoints refuse pods
/// whose addresses are of loopback.
const RUN: &str = "clusterrole-aggregation,cronjob,daemonset,deployment,disruption,garbagecollector,job,namespace,podgc,\
                   pv-protection,pvc-protection,replicaset,replicationcontroller,resourcequota,root-ca-cert-publisher,\
                   serviceaccount,serviceaccount-token,statefulset,ttl-after-finished";

/// A running control plane. Dropping it kills it; it also ends with the thread that started it.
pub struct Cluster {
    // In the order in which they are dropped: what keeps the data last.
    controllers: Process,
    api_server: Process,
    _etcd: Process,
    api: Api,
    folder: TempDir,
    address: Address,
}

impl Cluster {
    /// Starts one and waits until it takes requests and has its first namespace.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::claim();
        fs::write(tokens(&folder), format!("{ADMIN},administrator,1,\"system:masters\"\n")).unwrap();
        let mut etcd = start_etcd(&folder, &address);
        let mut api_server = start_api_server(&folder, &address);
        wait::until("the API server has made its certificate", || {
            etcd.assert_runs();
            api_server.assert_runs();
            (certificate(&folder).exists() && key(&folder).exists()).then_some(())
        });
        let api = Api::new(format!("https://{}:{API}", address.ip()), ADMIN, certificate(&folder));
        wait_until_ready(&api, &mut api_server);
        api.write_kubeconfig("default", &folder.path().join("kubeconfig"));
        let controllers = start_controllers(&folder, &address);
        let mut cluster = Self { controllers, api_server, _etcd: etcd, api, folder, address };
        // Without it no pod is taken.
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        wait::until("the default service account has its token", || {
            cluster.controllers.assert_runs();
            let account = cluster.api.get(account);
            (account.status == 200 && account.json()["secrets"].is_array()).then_some(())
        });
        cluster
    }

    /// A client of it that may do everything.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// A configuration with which clients may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// A configuration with which clients are a service account, so that they may do what its roles allow.
    #[must_use]
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = wait::until("the service account has its token", || {
            let answer = self.api.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}"));
            let secret = answer.json()["secrets"][0]["name"].as_str()?.to_owned();
            let template = "--output=go-template={{.data.token | base64decode}}";
            Some(self.kubectl(&["get", "secret", &secret, "--namespace", namespace, template]))
        });
        let path = self.path(&format!("kubeconfig-{namespace}-{account}"));
        self.api.by(&token).write_kubeconfig(namespace, &path);
        path
    }

    /// Runs kubectl as the administrator; what it wrote. Panics where it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.tries_kubectl(arguments).expect(0).stdout.clone()
    }

    /// Runs kubectl, which may fail.
    #[must_use]
    pub fn tries_kubectl(&self, arguments: &[&str]) -> Outcome {
        cli::run(self.client("kubectl", arguments))
    }

    /// Runs helm as the administrator; what it wrote. Panics where it fails.
    pub fn helm(&self, arguments: &[&str]) -> String {
        self.tries_helm(arguments).expect(0).stdout.clone()
    }

    /// Runs helm, which may fail.
    #[must_use]
    pub fn tries_helm(&self, arguments: &[&str]) -> Outcome {
        cli::run(self.client("helm", arguments))
    }

    /// Applies objects, as `kubectl apply` does. Panics where one is refused.
    pub fn apply(&self, yaml: &str) {
        let mut command = self.client("kubectl", &["apply", "--filename=-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\n{yaml}", String::from_utf8_lossy(&output.stderr));
    }

    /// A command that finds this cluster, and nothing of the user's own.
    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(built::kubernetes(program));
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder.path());
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_NAMESPACE"] {
            command.env_remove(variable);
        }
        command
    }

    /// Serves version 1 of `EndpointSlice`, which Kubernetes 1.20 does not know yet, as a custom resource.
    pub fn serve_endpoint_slices(&self) {
        let answer =
            self.api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &endpoint_slices());
        assert_eq!(answer.status, 201, "{answer}");
        wait::until("slices of endpoints are served", || {
            let list = self.api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices");
            (list.status == 200).then_some(())
        });
    }

    /// Kills the API server and starts it on the same port, with the same data. It ends with the thread that calls this.
    pub fn restart_api_server(&mut self) {
        self.stop_api_server();
        self.start_api_server();
    }

    /// Kills the API server.
    pub fn stop_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Starts the API server after it was stopped.
    pub fn start_api_server(&mut self) {
        self.api_server = start_api_server(&self.folder, &self.address);
        wait_until_ready(&self.api, &mut self.api_server);
    }

    /// Where etcd listens.
    pub(super) fn etcd(&self) -> String {
        etcd_url(&self.address)
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// A place in its folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the API server has logged, of requests that took long and of what went wrong.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("kube-apiserver.log")).unwrap()).into_owned()
    }
}

fn tokens(folder: &TempDir) -> PathBuf {
    folder.path().join("tokens.csv")
}

/// The API server makes it, with the certificate of its authority behind its own.
fn certificate(folder: &TempDir) -> PathBuf {
    folder.path().join("pki/apiserver.crt")
}

fn key(folder: &TempDir) -> PathBuf {
    folder.path().join("pki/apiserver.key")
}

fn log(folder: &TempDir, program: &str) -> PathBuf {
    folder.path().join(format!("{program}.log"))
}

fn etcd_url(address: &Address) -> String {
    format!("http://{}:{ETCD}", address.ip())
}

fn start_etcd(folder: &TempDir, address: &Address) -> Process {
    let clients = etcd_url(address);
    let peers = format!("http://{}:{ETCD_PEERS}", address.ip());
    let mut command = bound(&built::kubernetes("etcd"));
    command.arg("--data-dir").arg(folder.path().join("etcd"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    // Nobody reads this data after the test, and the disk is busy.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    Process::start(&mut command, &log(folder, "etcd"))
}

fn start_api_server(folder: &TempDir, address: &Address) -> Process {
    let mut command = bound(&built::kubernetes("kube-apiserver"));
    let mut flag = |name: &str, value: &Path| {
        command.arg(format!("--{name}={}", value.display()));
    };
    flag("token-auth-file", &tokens(folder));
    flag("cert-dir", &folder.path().join("pki"));
    // The key of its certificate does for tokens too. It is made before it is read.
    flag("service-account-signing-key-file", &key(folder));
    flag("service-account-key-file", &key(folder));
    command.args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"]);
    command.arg(format!("--etcd-servers={}", etcd_url(address)));
    command.arg(format!("--bind-address={}", address.ip())).arg(format!("--secure-port={API}"));
    // No address of loopback is allowed here. Nobody goes there.
    command.args(["--advertise-address=10.244.0.1", "--endpoint-reconciler-type=none"]);
    command.args(["--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true"]);
    // What was added to this server is in no protocol buffers.
    command.arg("--storage-media-type=application/json");
    // Kept out, so that version 1 can be served as a custom resource: see `serve_endpoint_slices`.
    command.arg("--runtime-config=discovery.k8s.io/v1beta1=false");
    Process::start(&mut command, &log(folder, "kube-apiserver"))
}

fn start_controllers(folder: &TempDir, address: &Address) -> Process {
    let mut command = bound(&built::kubernetes("kube-controller-manager"));
    let mut flag = |name: &str, value: &Path| {
        command.arg(format!("--{name}={}", value.display()));
    };
    flag("kubeconfig", &folder.path().join("kubeconfig"));
    flag("cert-dir", &folder.path().join("pki-controllers"));
    flag("service-account-private-key-file", &key(folder));
    flag("root-ca-file", &certificate(folder));
    command.arg(format!("--bind-address={}", address.ip())).arg(format!("--secure-port={CONTROLLERS}"));
    // One port only, one process only.
    command.args(["--port=0", "--leader-elect=false", "--authentication-skip-lookup=true"]);
    command.args(["--kube-api-qps=500", "--kube-api-burst=500", "--kube-api-content-type=application/json"]);
    command.arg(format!("--controllers={RUN}"));
    Process::start(&mut command, &log(folder, "kube-controller-manager"))
}

fn wait_until_ready(api: &Api, server: &mut Process) {
    wait::until("the API server is ready", || {
        server.assert_runs();
        let answer = api.try_send("GET", "/readyz", "application/json", "");
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    });
}

/// Anything goes: what is looked at here is what a controller writes, and a real cluster looks at the rest.
fn endpoint_slices() -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "endpointslices.discovery.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, test-only"},
        },
        "spec": {
            "group": "discovery.k8s.io",
            "scope": "Namespaced",
            "names": {
                "plural": "endpointslices",
                "singular": "endpointslice",
                "kind": "EndpointSlice",
                "listKind": "EndpointSliceList",
            },
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}},
            ],
        },
    })
}
