//! What stands for the addresses and names of services: for each an address of loopback, on whose ports connections are handed on
//! to pods that are ready, one after another.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use super::super::address::Address;
use super::launch::list;

/// The services that have a selector, by namespace and name.
#[derive(Default)]
pub(super) struct Services(Mutex<BTreeMap<(String, String), Service>>);

struct Service {
    address: Address,
    /// The ports that are listened on.
    open: BTreeSet<u16>,
    targets: Arc<Mutex<BTreeMap<u16, Targets>>>,
}

/// Where the connections of a port go.
#[derive(Default)]
struct Targets {
    pods: Vec<Ipv4Addr>,
    port: u16,
    next: usize,
}

impl Services {
    /// Takes note of a service as the cluster has it, and of the slice of its endpoints.
    pub(super) fn observe(&self, service: &Value, slice: &Value) {
        let mut services = self.0.lock().unwrap();
        let known = match services.entry(key(service)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Service {
                address: Address::claim(),
                open: BTreeSet::new(),
                targets: Arc::default(),
            }),
        };
        let ready =
            list(&slice["endpoints"]).iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let pods: Vec<Ipv4Addr> = ready.filter_map(|it| it["addresses"][0].as_str()?.parse().ok()).collect();
        for port in list(&service["spec"]["ports"]) {
            let number = u16::try_from(port["port"].as_u64().unwrap()).unwrap();
            let name = port["name"].as_str().unwrap_or_default();
            let target = list(&slice["ports"]).iter().find(|target| target["name"] == name);
            let target = target.and_then(|target| u16::try_from(target["port"].as_u64()?).ok());
            {
                let mut targets = known.targets.lock().unwrap();
                let targets = targets.entry(number).or_default();
                targets.pods.clone_from(&pods);
                targets.port = target.unwrap_or_default();
            }
            if known.open.insert(number) {
                open(known.address.ip(), number, &known.targets);
            }
        }
    }

    /// The names under which a pod of a namespace reaches services, and their addresses.
    pub(super) fn hosts(&self, namespace: &str) -> Vec<(String, String)> {
        let mut hosts = Vec::new();
        for ((of, name), service) in &*self.0.lock().unwrap() {
            let address = service.address.ip().to_string();
            let long = ["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{name}.{of}{suffix}"));
            hosts.extend(long.map(|name| (name, address.clone())));
            hosts.extend((of == namespace).then(|| (name.clone(), address)));
        }
        hosts
    }
}

/// A service's namespace and name.
pub(super) fn key(service: &Value) -> (String, String) {
    let text = |field: &str| service["metadata"][field].as_str().unwrap().to_owned();
    (text("namespace"), text("name"))
}

/// Listens until the test ends.
fn open(ip: Ipv4Addr, port: u16, targets: &Arc<Mutex<BTreeMap<u16, Targets>>>) {
    let listener = match TcpListener::bind((ip, port)) {
        Ok(listener) => listener,
        // Of the ports below 1024, where the test is no administrator's.
        Err(error) => return eprintln!("no service at {ip}:{port}: {error}"),
    };
    let targets = Arc::clone(targets);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let target = targets.lock().unwrap().get_mut(&port).and_then(Targets::take);
            // Where no pod is ready, the connection is closed.
            if let Some(pod) = target.and_then(|target| TcpStream::connect(target).ok()) {
                join(&client, &pod);
            }
        }
    });
}

impl Targets {
    fn take(&mut self) -> Option<(Ipv4Addr, u16)> {
        self.next = self.next.wrapping_add(1);
        let pod = self.pods.get(self.next.checked_rem(self.pods.len())?)?;
        Some((*pod, self.port))
    }
}

fn join(client: &TcpStream, pod: &TcpStream) {
    for (from, to) in [(client, pod), (pod, client)] {
        let _ = from.set_nodelay(true);
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
