//! ONNX's own node tests on each backend, and the table of what passes.

use anyhow::Result;

use crate::context::Context;
use crate::setup::{self, Part};
use crate::{packages, ui};

const SCRIPT: &str = "tests/python/node_tests";
const TABLE: &str = "docs/operators.md";

/// Writes the table anew. The script starts the servers itself, for it has to start another where one dies.
pub(crate) fn run(cx: &Context) -> Result<()> {
    setup::run(cx, &[Part::Onnxruntime, Part::Onnx])?;
    let vespid = packages::binary(cx)?;
    let results = cx.output().join("operators.jsonl");
    let mut tests = cx.command(setup::python::EXPORTERS.python(cx)?);
    tests.arg(cx.root().join(SCRIPT)).arg("--vespid").arg(vespid);
    tests.arg("--onnxruntime").arg(setup::onnxruntime::library(cx));
    tests.arg("--results").arg(&results).arg("--table").arg(cx.root().join(TABLE));
    ui::step_inherited("ONNX's node tests on each backend", tests)?;
    ui::say(&format!("{TABLE} is written; what each test came to is in {}", results.display()));
    Ok(())
}
