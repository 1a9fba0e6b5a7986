//! A pod's volumes as folders of this machine, and where what it names lies instead.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Node;
use super::launch::{field, list};
use super::pod::Pod;

/// Where what a pod refers to is taken from.
pub(super) struct Source<'a> {
    pub(super) node: &'a Node,
    pub(super) pod: &'a Pod,
}

/// Where a container says why it has ended.
const TERMINATION: &str = "/dev/termination-log";

/// The file that stands for it.
pub(super) fn pod_message(pod: &Pod) -> PathBuf {
    pod.folder().join("termination-log")
}

/// The folders that stand for the paths of mounts, the longest path first.
pub(super) struct Paths {
    mounts: Vec<(String, PathBuf)>,
    hosts: Vec<(String, String)>,
    ip: String,
    pod: String,
}

impl Source<'_> {
    /// The entries of a `ConfigMap` or a secret that `from` refers to under one of two names.
    pub(super) fn entries(
        &self,
        from: &Value,
        map: &str,
        secret: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, String> {
        let of = |reference: &Value| {
            let name = reference["name"].as_str().or_else(|| reference["secretName"].as_str());
            let optional = reference["optional"] == true;
            (name.unwrap_or_default().to_owned(), optional)
        };
        let (kind, (name, optional)) = if from[map].is_object() {
            ("configmaps", of(&from[map]))
        } else {
            ("secrets", of(&from[secret]))
        };
        let path = format!("/api/v1/namespaces/{}/{kind}/{name}", self.pod.namespace());
        let answer =
            self.node.api.try_send("GET", &path, "application/json", "").map_err(|e| e.to_string())?;
        match answer.status {
            200 => {}
            404 if optional => return Ok(Vec::new()),
            _ => return Err(format!("{kind} {name}: {answer}")),
        }
        let object = answer.json();
        let decode = |text: &str| BASE64_STANDARD.decode(text).unwrap();
        let texts = |field: &str, decode: &dyn Fn(&str) -> Vec<u8>| -> Vec<(String, Vec<u8>)> {
            let entries = object[field].as_object().into_iter().flatten();
            entries.map(|(name, value)| (name.clone(), decode(value.as_str().unwrap()))).collect()
        };
        if kind == "secrets" {
            return Ok(texts("data", &decode));
        }
        Ok([texts("data", &|text| text.as_bytes().to_vec()), texts("binaryData", &decode)].concat())
    }

    /// What a variable's `valueFrom` comes to; nothing where it may be missing and is.
    pub(super) fn value(&self, from: &Value) -> Result<Option<String>, String> {
        if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
            return field(self.pod, path).map(Some);
        }
        let reference = if from["configMapKeyRef"].is_object() { "configMapKeyRef" } else { "secretKeyRef" };
        let reference = &from[reference];
        let Some(key) = reference["key"].as_str() else {
            return Err(format!("the node does not know {from}"));
        };
        let entries = self.entries(from, "configMapKeyRef", "secretKeyRef")?;
        match entries.into_iter().find(|(name, _)| name == key) {
            Some((_, value)) => Ok(Some(String::from_utf8(value).unwrap())),
            None if reference["optional"] == true => Ok(None),
            None => Err(format!("{reference} has no such key")),
        }
    }

    /// The files of a volume, or of a part of a projected one, by their paths in it.
    fn files(&self, volume: &Value) -> Result<Vec<(String, Vec<u8>)>, String> {
        if let Some(path) = volume["serviceAccountToken"]["path"].as_str() {
            return Ok(vec![(path.to_owned(), self.token(&volume["serviceAccountToken"])?)]);
        }
        if volume["downwardAPI"].is_object() {
            let file = |item: &Value| {
                let value = field(self.pod, item["fieldRef"]["fieldPath"].as_str().unwrap_or_default())?;
                Ok((item["path"].as_str().unwrap().to_owned(), value.into_bytes()))
            };
            return list(&volume["downwardAPI"]["items"]).iter().map(file).collect();
        }
        let entries = self.entries(volume, "configMap", "secret")?;
        let reference =
            if volume["configMap"].is_object() { &volume["configMap"] } else { &volume["secret"] };
        let Some(items) = reference["items"].as_array() else { return Ok(entries) };
        let item = |item: &Value| {
            let (_, content) = entries.iter().find(|(name, _)| item["key"] == name.as_str())?;
            Some((item["path"].as_str()?.to_owned(), content.clone()))
        };
        Ok(items.iter().filter_map(item).collect())
    }

    fn token(&self, wanted: &Value) -> Result<Vec<u8>, String> {
        let account = self.pod.manifest()["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", self.pod.namespace());
        let audiences: Vec<&Value> = wanted.get("audience").into_iter().collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": wanted["expirationSeconds"]},
        });
        let answer = self.node.api.try_send("POST", &path, "application/json", &request.to_string());
        let answer = answer.map_err(|error| error.to_string())?;
        let token = answer.json()["status"]["token"].as_str().map(|token| token.as_bytes().to_vec());
        token.ok_or_else(|| format!("no token: {answer}"))
    }
}

impl Paths {
    /// Makes the folders of all volumes that the container mounts.
    pub(super) fn make(source: &Source<'_>) -> Result<Self, String> {
        let pod = source.pod;
        let mut paths = Self {
            mounts: Vec::new(),
            hosts: source.node.services.hosts(pod.namespace()),
            ip: pod.ip().to_string(),
            pod: pod.name().to_owned(),
        };
        let mounts = list(&pod.container()["volumeMounts"]);
        let volume = |name: &Value| {
            let volumes = list(&pod.manifest()["spec"]["volumes"]);
            volumes.iter().find(|volume| volume["name"] == *name).unwrap()
        };
        for mount in mounts {
            let volume = volume(&mount["name"]);
            let mut folder = match volume["hostPath"]["path"].as_str() {
                Some(path) => PathBuf::from(path),
                None => folder(pod, volume),
            };
            fs::create_dir_all(&folder).unwrap();
            if let Some(part) = mount["subPath"].as_str() {
                folder = folder.join(part);
            }
            paths
                .mounts
                .push((mount["mountPath"].as_str().unwrap().trim_end_matches('/').to_owned(), folder));
        }
        paths.mounts.push((TERMINATION.to_owned(), pod_message(pod)));
        paths.mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        for mount in mounts {
            let volume = volume(&mount["name"]);
            paths.fill(source, volume, &folder(pod, volume))?;
        }
        Ok(paths)
    }

    fn fill(&self, source: &Source<'_>, volume: &Value, folder: &Path) -> Result<(), String> {
        let parts = match volume["projected"]["sources"].as_array() {
            Some(parts) => parts.as_slice(),
            None if ["configMap", "secret", "downwardAPI"].iter().any(|kind| volume[kind].is_object()) => {
                std::slice::from_ref(volume)
            }
            None => &[],
        };
        for part in parts {
            for (path, content) in source.files(part)? {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                // Configuration names paths and addresses as arguments do.
                let content = match String::from_utf8(content) {
                    Ok(text) if part["configMap"].is_object() => self.translate(&text).into_bytes(),
                    Ok(text) => text.into_bytes(),
                    Err(error) => error.into_bytes(),
                };
                fs::write(path, content).unwrap();
            }
        }
        Ok(())
    }

    /// What a pod says of paths and addresses, as it is on this machine.
    pub(super) fn translate(&self, text: &str) -> String {
        let text = text.replace("[::]:", "0.0.0.0:");
        let mut words = vec![("0.0.0.0", self.ip.as_str())];
        words.extend(self.mounts.iter().map(|(path, folder)| (path.as_str(), folder.to_str().unwrap())));
        let mut translated = String::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let last = translated.chars().next_back();
            let begins = last.is_none_or(|last| !is_part(last));
            let found = words.iter().find_map(|(word, other)| {
                let after = rest.strip_prefix(word)?;
                let ends = after.chars().next().is_none_or(|next| next == '/' || !is_part(next));
                (begins && ends).then_some((*other, after))
            });
            // Of a service, only with a port: its name may be that of something else too.
            let host = || {
                let begins = begins || translated.ends_with("://");
                self.hosts.iter().find_map(|(name, address)| {
                    let after = rest.strip_prefix(name.as_str())?;
                    let port = after.strip_prefix(':')?.starts_with(|next: char| next.is_ascii_digit());
                    (begins && port).then_some((address.as_str(), after))
                })
            };
            let found = found.or_else(host);
            if let Some((other, after)) = found {
                translated += other;
                rest = after;
            } else {
                let mut letters = rest.chars();
                translated.extend(letters.next());
                rest = letters.as_str();
            }
        }
        translated
    }

    /// The folder that stands for the path of a mount.
    pub(super) fn folder(&self, path: &str) -> Option<&Path> {
        Some(&self.mounts.iter().find(|(mount, _)| mount == path)?.1)
    }

    /// The pod's name.
    pub(super) fn pod(&self) -> &str {
        &self.pod
    }
}

/// The folder of a volume: one that pods share for a claim, else the pod's own.
fn folder(pod: &Pod, volume: &Value) -> PathBuf {
    match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(claim) => pod.folder().parent().unwrap().join("claims").join(pod.namespace()).join(claim),
        None => pod.folder().join("volumes").join(volume["name"].as_str().unwrap()),
    }
}

/// Whether a letter belongs to the same path or address as the one beside it.
fn is_part(letter: char) -> bool {
    letter.is_alphanumeric() || "/._-".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses_are_translated_where_they_stand_alone() {
        let mounts = vec![("/var/lib/vespid".to_owned(), "/t/b".into()), ("/etc".to_owned(), "/t/a".into())];
        let hosts = vec![("web".to_owned(), "127.9.9.9".to_owned())];
        let paths = Paths { mounts, hosts, ip: "127.1.2.3".to_owned(), pod: String::new() };
        let of = |text: &str| paths.translate(text);
        assert_eq!(of("--config=/etc/vespid.yaml"), "--config=/t/a/vespid.yaml");
        assert_eq!(of("file:///etc /etcd a/etc /var/lib/vespid"), "file:///etc /etcd a/etc /t/b");
        assert_eq!(of("0.0.0.0:80 [::]:81 10.0.0.0"), "127.1.2.3:80 127.1.2.3:81 10.0.0.0");
        assert_eq!(
            of("http://web:80/web:8 web:1 web web:x a-web:1"),
            "http://127.9.9.9:80/web:8 127.9.9.9:1 web web:x a-web:1"
        );
    }
}
