//! The part of a current API server that holds custom resources, beside an API server of 1.20 that says who one is.

use std::process::Command;

use serde_json::Value;

use super::api::Api;
use super::cluster::Cluster;
use super::process::{Process, bound};
use crate::http::Answer;
use crate::{built, wait};

const PORT: u16 = 26_444;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A running apiextensions-apiserver of Kubernetes 1.36, and the cluster that it needs. What it holds is its own: the cluster
/// does not serve it. It has no list of what it serves, so that kubectl finds nothing by a kind's name.
pub struct Extensions {
    // Dropped first.
    server: Process,
    api: Api,
    cluster: Cluster,
}

impl Extensions {
    /// Starts both and waits until definitions are taken.
    #[must_use]
    pub fn start() -> Self {
        let cluster = Cluster::start();
        let folder = cluster.path("pki-extensions");
        let mut server = start(&cluster);
        let certificate = folder.join("apiextensions-apiserver.crt");
        let certificate = wait::until("the server of extensions has made its certificate", || {
            server.assert_runs();
            [&certificate, &folder.join("apiserver.crt")].into_iter().find(|path| path.exists()).cloned()
        });
        let url = format!("https://{}:{PORT}", cluster.address().ip());
        let api = Api::new(url, super::cluster::ADMIN, certificate);
        wait::until("the server of extensions is ready", || {
            server.assert_runs();
            let answer = api.try_send("GET", "/readyz", "application/json", "");
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        api.write_kubeconfig("default", &cluster.path("kubeconfig-extensions"));
        Self { server, api, cluster }
    }

    /// The same with Vespid's definitions.
    #[must_use]
    pub fn with_definitions() -> Self {
        let mut server = Self::start();
        let printed = Command::new(built::vespid()).args(["crds", "--output", "json"]).output().unwrap();
        let definitions: Vec<Value> = serde_json::from_slice(&printed.stdout).unwrap();
        definitions.iter().for_each(|definition| server.create_crd(definition));
        server
    }

    /// The cluster beside it, which has the namespaces.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A client of it that may do everything.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Creates a definition and waits until its objects are served.
    pub fn create_crd(&mut self, definition: &Value) {
        let answer = self.post(DEFINITIONS, definition);
        assert_eq!(answer.status, 201, "{answer}");
        let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
        wait::until("the definition is established", || {
            self.server.assert_runs();
            let definition = self.api.get(&path).json();
            let conditions = definition["status"]["conditions"].as_array()?;
            let is = |name: &str| {
                let met = |it: &&Value| it["type"] == name && it["status"] == "True";
                conditions.iter().find(met).map(|_| ())
            };
            is("NamesAccepted").and(is("Established"))
        });
        let spec = &definition["spec"];
        let [group, plural] = [&spec["group"], &spec["names"]["plural"]].map(|it| it.as_str().unwrap());
        for version in spec["versions"].as_array().unwrap().iter().filter(|it| it["served"] == true) {
            let list = format!("/apis/{group}/{}/{plural}", version["name"].as_str().unwrap());
            wait::until("the objects are served", || (self.api.get(&list).status == 200).then_some(()));
        }
    }

    /// Creates an object in the collection at `path`.
    #[must_use]
    pub fn post(&self, path: &str, object: &Value) -> Answer {
        self.api.post(path, object)
    }

    /// Applies an object at its path on the server's side, as the manager `tests`.
    #[must_use]
    pub fn patch_apply(&self, path: &str, yaml: &str) -> Answer {
        self.api.apply(path, "tests", yaml)
    }
}

fn start(cluster: &Cluster) -> Process {
    let mut command = bound(&built::kubernetes("apiextensions-apiserver"));
    let kubeconfig = cluster.kubeconfig().display().to_string();
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(format!("--{flag}={kubeconfig}"));
    }
    command.arg(format!("--cert-dir={}", cluster.path("pki-extensions").display()));
    command.arg(format!("--etcd-servers={}", cluster.etcd()));
    // Beside the cluster's own data.
    command.arg("--etcd-prefix=/extensions");
    command.arg(format!("--bind-address={}", cluster.address().ip())).arg(format!("--secure-port={PORT}"));
    command.arg("--authentication-skip-lookup=true");
    // They want kinds that 1.20 does not serve.
    command.args([
        "--disable-admission-plugins=ValidatingAdmissionPolicy,MutatingAdmissionPolicy",
        "--enable-priority-and-fairness=false",
    ]);
    Process::start(&mut command, &cluster.path("apiextensions-apiserver.log"))
}
