//! The main use in one command: a server, two models pushed to it, predictions by the client and by curl.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::context::Context;
use crate::server::Server;
use crate::setup::{self, Part};
use crate::{packages, scratch, ui};

/// Tried in this order; files of the repository are named from its root.
const FILES: [&str; 4] = ["README.md", "Cargo.toml", "xtask/src/main.rs", "/bin/ls"];
/// Where files of other kinds may be found, by their extension.
const KINDS: [(&str, &str); 2] = [("/usr/share", "png"), ("/usr/share/doc", "gz")];
/// How deep to look for one, and at how many folders.
const DEPTH: usize = 3;
const FOLDERS: usize = 300;

const FLOWER: &str = "5.1,3.5,1.4,0.2";

pub(crate) fn run(cx: &Context, keep: bool) -> Result<()> {
    setup::run(cx, &[Part::Guest, Part::Magika])?;
    let vespid = packages::binary(cx)?;
    let folder = cx.output().join("demo");
    scratch::create(&folder)?;
    let _lock = lock(&folder)?;
    // At a fixed place and emptied first: a demo that Ctrl-C ended removes nothing.
    let store = folder.join("store");
    scratch::remove(&store)?;
    scratch::create(&store)?;
    let server = Server::start(cx, &vespid, &store, &folder.join("serve.log"))?;
    let client = Client { cx, vespid: &vespid, url: server.url() };
    client.show()?;
    if keep {
        ui::say(&format!("\nserving at {}, administered at {}", server.url(), server.admin_url()));
        ui::say("Ctrl-C ends it");
        return server.wait();
    }
    drop(server);
    scratch::remove(&store)
}

/// Two demos of one checkout would share the store.
fn lock(folder: &Path) -> Result<File> {
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("another demo of this checkout is running");
    }
    Ok(lock)
}

struct Client<'a> {
    cx: &'a Context,
    vespid: &'a Path,
    url: String,
}

impl Client<'_> {
    fn show(&self) -> Result<()> {
        for model in ["file-type", "iris"] {
            self.vespid(&["push", &format!("plugins/{model}")])?;
        }
        let files = sample_files(self.cx.root());
        let mut arguments = vec!["predict", "file-type"];
        arguments.extend(files.iter().flat_map(|file| ["--file", file.as_str()]));
        self.vespid(&arguments)?;
        if let Some(file) = files.first() {
            self.equivalent(&format!(
                "curl -s --data-binary @{file} -H 'Content-Type: application/octet-stream' \
                 {}/v2/models/file-type/infer",
                self.url
            ));
        }
        self.vespid(&["predict", "iris", &format!("measurements={FLOWER}")])?;
        self.equivalent(&format!(
            "curl -s {}/v2/models/iris/infer -H 'Content-Type: application/json' -d \
             '{{\"inputs\":[{{\"name\":\"measurements\",\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[{FLOWER}]}}]}}'",
            self.url
        ));
        Ok(())
    }

    fn vespid(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(arguments).args(["--server", &self.url]);
        ui::say(&format!("\n$ vespid {} --server {}", arguments.join(" "), self.url));
        ui::run_inherited(command)
    }

    fn command(&self) -> Command {
        let mut command = self.cx.command(self.vespid);
        command.env(packages::GUEST_TARGET, packages::guest_target(self.cx));
        command
    }

    fn equivalent(&self, curl: &str) {
        ui::say(&format!("the same without the client:\n  {curl}"));
    }
}

/// Files of different kinds that are on this machine.
fn sample_files(root: &Path) -> Vec<String> {
    let named = FILES.iter().filter(|file| root.join(file).is_file()).map(|file| (*file).to_owned());
    let found = KINDS.iter().filter_map(|(folder, extension)| {
        find(Path::new(folder), extension).map(|file| file.display().to_string())
    });
    named.chain(found).collect()
}

/// Any file with this extension below a folder, looked for level by level and not for long.
fn find(folder: &Path, extension: &str) -> Option<PathBuf> {
    let mut level = vec![folder.to_owned()];
    let mut budget = FOLDERS;
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for folder in level {
            budget = budget.checked_sub(1)?;
            let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let path = entry.path();
                if path.extension().is_some_and(|found| found == extension) && path.is_file() {
                    return Some(path);
                }
                next.extend(entry.file_type().is_ok_and(|kind| kind.is_dir()).then_some(path));
            }
        }
        level = next;
    }
    None
}
