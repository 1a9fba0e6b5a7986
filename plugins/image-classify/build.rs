//! Turns the names of the classes into a Rust table, so that a call parses nothing.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

const LABELS: &str = "labels.txt";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LABELS}");
    let labels = std::fs::read_to_string(LABELS)?;
    let mut table = String::new();
    writeln!(table, "pub(crate) static LABELS: [&str; {}] = [", labels.lines().count())?;
    for label in labels.lines() {
        writeln!(table, "    {label:?},")?;
    }
    table.push_str("];\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("labels.rs"), table)?;
    Ok(())
}
