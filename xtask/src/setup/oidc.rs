//! The provider of OpenID Connect that the tests get tokens of: oidc-provider of npm, at the version that a lock pins.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use vespid_toolchain::{Node, Tool};

use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome};

/// What is installed, in the repository.
const FOLDER: &str = "tests/oidc";
const LOCK: &str = "package-lock.json";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("a provider of OpenID Connect for the tests", |step| {
        let (place, source) = (modules(cx), cx.root().join(FOLDER));
        let wanted = fs::read(source.join(LOCK))?;
        if fs::read(place.join(LOCK)).is_ok_and(|there| there == wanted) {
            return Ok(Outcome::AlreadyThere);
        }
        // Node.js comes with it where the machine has none.
        Tool::ComponentizeQjs.ensure(&mut |_| {})?;
        let scratch = Scratch::new(cx, "oidc")?;
        for file in ["package.json", LOCK] {
            fs::copy(source.join(file), scratch.path().join(file))?;
        }
        step.run(Node::find()?.install(scratch.path())?)?;
        // It is looked up by that name, from wherever the script is.
        scratch::publish(scratch.path(), &place)?;
        Ok(Outcome::Done)
    })
}

/// The folder with the provider, where it has been set up.
pub(crate) fn modules(cx: &Context) -> PathBuf {
    cx.cache().join("oidc-provider")
}

/// Node.js, which it runs on.
pub(crate) fn node() -> Result<PathBuf> {
    Ok(Node::find()?.program().to_owned())
}
