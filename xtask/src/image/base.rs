//! A base image of Debian's own packages, where there is no registry to pull one from.

use anyhow::{Context as _, Result, bail};

use super::{buildah, printed};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::setup;
use crate::ui::{self, Outcome};

const IMAGE: &str = "localhost/vespid-base:trixie";
const SUITE: &str = "trixie";

/// Makes it, where it is not there; its name.
pub(super) fn ensure(cx: &Context) -> Result<String> {
    ui::step(IMAGE, |step| {
        if printed(buildah(cx, "inspect").args(["--type", "image", IMAGE])).is_ok() {
            return Ok(Outcome::AlreadyThere);
        }
        if !cx.has_program("debootstrap") {
            bail!(
                "debootstrap is not there: `apt-get install debootstrap`, as root, or name an image with --base"
            );
        }
        let _lock = setup::lock(cx)?;
        let scratch = Scratch::new(cx, "base")?;
        let root = scratch.path().join("root");
        let mut bootstrap = cx.command("debootstrap");
        bootstrap.args(["--variant=minbase", "--include=ca-certificates,libstdc++6", SUITE]).arg(&root);
        step.run(bootstrap)
            .context("debootstrap makes no base: is this root, and is Debian's mirror there?")?;
        for cached in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            scratch::remove(&root.join(cached))?;
            scratch::create(&root.join(cached).join("partial"))?;
        }
        let container = printed(buildah(cx, "from").arg("scratch"))?;
        let mut add = buildah(cx, "add");
        add.args(["--quiet", &container]).arg(&root).arg("/");
        step.run(add)?;
        let mut commit = buildah(cx, "commit");
        commit.args(["--quiet", "--rm", &container, IMAGE]);
        step.run(commit)?;
        Ok(Outcome::Done)
    })?;
    Ok(IMAGE.to_owned())
}
