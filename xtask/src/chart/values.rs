//! The table of a chart's values, made of the comments in its `values.yaml`.
//!
//! Contract: each key has a comment before it, or keys below it that have; a block below a key with a comment is its value. It
//! is read by its lines, and takes what this project's file is written in: two spaces a level, and lists in one line.

use anyhow::{Context as _, Result, bail};

/// A key with its comment.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: String,
    value: String,
    comment: String,
}

/// The table, in Markdown.
pub(super) fn table(values: &str) -> Result<String> {
    let mut table = String::from("| value | default | meaning |\n|---|---|---|\n");
    for Entry { path, value, comment } in entries(values)? {
        let escape = |text: &str| text.replace('|', "\\|");
        table.push_str(&format!("| `{path}` | `{}` | {} |\n", escape(&value), escape(&comment)));
    }
    Ok(table)
}

fn entries(values: &str) -> Result<Vec<Entry>> {
    let lines: Vec<&str> = values.lines().collect();
    let mut entries = Vec::new();
    // The keys above the current one.
    let mut path: Vec<String> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let text = line.trim_start();
        if text.is_empty() {
            // What stands alone is about the file.
            comment.clear();
            continue;
        }
        if let Some(said) = text.strip_prefix('#') {
            comment.push(said.trim());
            continue;
        }
        let depth = depth(line);
        let (key, value) =
            text.split_once(':').with_context(|| format!("'{line}' is no key of values.yaml"))?;
        path.truncate(depth);
        path.push(key.to_owned());
        let below: Vec<&str> = block(lines.get(at..).unwrap_or_default(), depth);
        let value = value.trim();
        if comment.is_empty() {
            if !value.is_empty() || !below.iter().any(|line| line.trim_start().starts_with('#')) {
                bail!("{} in values.yaml has no comment", path.join("."));
            }
            continue;
        }
        let value = if value.is_empty() {
            below.iter().map(|line| line.trim()).collect::<Vec<_>>().join("; ")
        } else {
            value.to_owned()
        };
        entries.push(Entry { path: path.join("."), value, comment: comment.join(" ") });
        comment.clear();
        at += below.len();
    }
    Ok(entries)
}

/// The lines below a key.
fn block<'a>(lines: &[&'a str], depth_of_key: usize) -> Vec<&'a str> {
    lines.iter().copied().take_while(|line| !line.trim().is_empty() && depth(line) > depth_of_key).collect()
}

fn depth(line: &str) -> usize {
    (line.len() - line.trim_start().len()) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_values_become_rows() {
        let values = "# About the file.\n\n# One.\none: 1\ntwo:\n  # Two,\n  # in two lines.\n  inner: {a: b}\n  # A block.\n  block:\n    a: 1\n    b: [2]\n\
                      # Three | four.\nthree: \"\"\n";
        let table = table(values).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `one` | `1` | One. |",
                "| `two.inner` | `{a: b}` | Two, in two lines. |",
                "| `two.block` | `a: 1; b: [2]` | A block. |",
                "| `three` | `\"\"` | Three \\| four. |",
            ]
        );
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = table("one:\n  # Two.\n  two: 1\n  three: 2\n").unwrap_err().to_string();
        assert!(error.starts_with("one.three "), "{error}");
    }
}
