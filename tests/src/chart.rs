//! The chart, as Kubernetes 1.20 takes it, which our tests have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{built, cli};

/// What helm is told so that 1.20 takes what it sends: that server knows neither rules in CEL nor the action `sleep`.
pub const OPTIONS: [&str; 4] = [
    "--server-side=false",
    "--disable-openapi-validation",
    "--set",
    "gateway.preStopSeconds=0,operator.extraArgs={--pre-stop=0s}",
];

/// A copy of the chart in a folder, which does not say what it takes of Kubernetes; otherwise helm refuses the old one.
#[must_use]
pub fn copy(folder: &Path) -> PathBuf {
    let copy = folder.join("vespid");
    let mut cp = Command::new("cp");
    cp.arg("-r").arg(built::repository("charts/vespid")).arg(&copy);
    cli::run(cp).expect(0);
    let description = copy.join("Chart.yaml");
    let text = fs::read_to_string(&description).unwrap();
    let (without, with): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| !line.starts_with("kubeVersion:"));
    assert_eq!(with.len(), 1, "{text}");
    fs::write(description, without.join("\n")).unwrap();
    copy
}
