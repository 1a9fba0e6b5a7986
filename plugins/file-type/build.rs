//! Turns Magika's configuration and knowledge base into Rust tables, so that a call parses nothing.

#![allow(clippy::indexing_slicing, reason = "a JSON value that is not there is null")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

const CONFIG: &str = "assets/config.min.json";
const KNOWLEDGE: &str = "assets/content_types_kb.min.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for path in [CONFIG, KNOWLEDGE] {
        println!("cargo::rerun-if-changed={path}");
        if !Path::new(path).exists() {
            println!(
                "cargo::error={path} is missing: run `cargo xtask setup magika`, which fetches Magika's graph and tables"
            );
            return Ok(());
        }
    }
    let tables = tables(&read(CONFIG)?, &read(KNOWLEDGE)?)?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("tables.rs"), tables)?;
    Ok(())
}

fn read(path: &str) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

fn tables(config: &Value, knowledge: &Value) -> Result<String, Box<dyn Error>> {
    if number(config, "mid_size")? != 0 || config["use_inputs_at_offsets"] != false {
        return Err("this graph takes inputs that the plugin does not extract".into());
    }
    let mut out = String::new();
    for (name, key, kind) in [
        ("BEGIN_SIZE", "beg_size", "usize"),
        ("END_SIZE", "end_size", "usize"),
        ("BLOCK_SIZE", "block_size", "u64"),
        ("MIN_SIZE", "min_file_size_for_dl", "u64"),
        ("PADDING", "padding_token", "i32"),
    ] {
        writeln!(out, "pub(crate) const {name}: {kind} = {};", number(config, key)?)?;
    }
    for (name, label) in [("EMPTY", "empty"), ("TEXT", "txt"), ("UNKNOWN", "unknown")] {
        let content = content(knowledge, label)?;
        writeln!(out, "pub(crate) static {name}: ContentType = {content};")?;
    }
    let labels = config["target_labels_space"].as_array().ok_or("target_labels_space is no list")?;
    writeln!(out, "pub(crate) static TARGETS: [Target; {}] = [", labels.len())?;
    for label in labels {
        let label = label.as_str().ok_or("a target label is no string")?;
        let threshold = config["thresholds"].get(label).unwrap_or(&config["medium_confidence_threshold"]);
        let threshold = threshold.as_f64().ok_or("a threshold is no number")?;
        let trusted = config["overwrite_map"].get(label).and_then(Value::as_str).unwrap_or(label);
        let doubted = if is_text(knowledge, trusted)? { "TEXT" } else { "UNKNOWN" };
        let trusted = content(knowledge, trusted)?;
        writeln!(out, "    Target {{ threshold: {threshold:?}, trusted: {trusted}, doubted: &{doubted} }},")?;
    }
    out.push_str("];\n");
    Ok(out)
}

fn content(knowledge: &Value, label: &str) -> Result<String, Box<dyn Error>> {
    let default = if is_text(knowledge, label)? { "text/plain" } else { "application/octet-stream" };
    let mime_type = knowledge[label]["mime_type"].as_str().unwrap_or(default);
    Ok(format!("ContentType {{ label: {label:?}, mime_type: {mime_type:?} }}"))
}

fn is_text(knowledge: &Value, label: &str) -> Result<bool, Box<dyn Error>> {
    Ok(knowledge[label]["is_text"].as_bool().ok_or_else(|| format!("the knowledge base lacks {label}"))?)
}

fn number(config: &Value, key: &str) -> Result<u64, Box<dyn Error>> {
    Ok(config[key].as_u64().ok_or_else(|| format!("{key} is no number"))?)
}
