//! The Dockerfile without the stages that compile and fetch: what they give is in the folder instead.

use anyhow::{Context as _, Result};

const BUILD: &str = "FROM scratch AS build\nCOPY vespid sbom.cdx.json /out/\n";
const ONNXRUNTIME: &str =
    "FROM scratch AS onnxruntime\nCOPY libonnxruntime.so LICENSE ThirdPartyNotices.txt /out/\n";

pub(super) fn of_prebuilt(dockerfile: &str) -> Result<String> {
    let without = replace(dockerfile, "build", BUILD)?;
    replace(&without, "onnxruntime", ONNXRUNTIME)
}

/// The text with another stage in the place of the one of that name.
fn replace(dockerfile: &str, stage: &str, other: &str) -> Result<String> {
    let named = format!(" AS {stage}");
    let is_stage = |line: &str| line.starts_with("FROM ");
    let mut lines = dockerfile.lines().peekable();
    let mut text = String::new();
    let mut found = false;
    while let Some(line) = lines.next() {
        if is_stage(line) && line.ends_with(&named) {
            found = true;
            text.push_str(other);
            while lines.next_if(|line| !is_stage(line)).is_some() {}
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    found
        .then_some(text)
        .with_context(|| format!("Dockerfile has no stage {stage}: adapt `cargo xtask image` to it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_that_fetch_are_replaced_and_no_others() {
        let recipe = of_prebuilt(include_str!("../../../Dockerfile")).unwrap();
        for absent in ["cargo build", "pip download", "BUILDER} AS"] {
            assert!(!recipe.contains(absent), "{absent}");
        }
        for present in
            ["FROM ${BASE} AS rootfs\n", "AS rootfs-onnxruntime", "USER 65532:65532", BUILD, ONNXRUNTIME]
        {
            assert!(recipe.contains(present), "{present}");
        }
    }

    #[test]
    fn a_stage_that_is_not_there_is_named() {
        assert!(replace("FROM a AS b\n", "c", "").unwrap_err().to_string().contains("stage c"));
    }
}
