//! Turns the vocabulary into sorted tables, so that a call parses and builds nothing.

#![allow(clippy::indexing_slicing, reason = "a JSON value that is not there is null")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

const VOCABULARY: &str = "assets/vocab.txt";
const CONFIG: &str = "assets/sentence_bert_config.json";

/// What a token begins with that goes on with a word.
const CONTINUING: &str = "##";

/// Tokens with a meaning, the same written in a text.
const SPECIAL: [(&str, &str); 5] =
    [("PADDING", "[PAD]"), ("UNKNOWN", "[UNK]"), ("BEGIN", "[CLS]"), ("END", "[SEP]"), ("MASK", "[MASK]")];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for path in [VOCABULARY, CONFIG] {
        println!("cargo::rerun-if-changed={path}");
        if !Path::new(path).exists() {
            println!(
                "cargo::error={path} is missing: run `cargo xtask setup minilm`, which exports the graph and the vocabulary"
            );
            return Ok(());
        }
    }
    let vocabulary = std::fs::read_to_string(VOCABULARY)?;
    let config = serde_json::from_str(&std::fs::read_to_string(CONFIG)?)?;
    let tables = tables(&vocabulary, &config)?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("tables.rs"), tables)?;
    Ok(())
}

fn tables(vocabulary: &str, config: &Value) -> Result<String, Box<dyn Error>> {
    if config["do_lower_case"] != false {
        return Err(
            "this model takes its texts in lower case, which the plugin leaves to the tokenizer".into()
        );
    }
    let length = config["max_seq_length"].as_u64().ok_or("max_seq_length is no number")?;
    let (mut words, mut rests) = (BTreeMap::new(), BTreeMap::new());
    for (id, token) in vocabulary.lines().enumerate() {
        let id = u16::try_from(id).map_err(|_| "the vocabulary has more tokens than 16 bits count")?;
        let repeated = match token.strip_prefix(CONTINUING).filter(|rest| !rest.is_empty()) {
            Some(rest) => rests.insert(rest, id),
            None => words.insert(token, id),
        };
        if repeated.is_some() {
            return Err(format!("the vocabulary has {token} twice").into());
        }
    }
    let mut out = String::new();
    writeln!(out, "pub(crate) const MAX_TOKENS: usize = {length};")?;
    for (name, token) in SPECIAL {
        let id = words.get(token).ok_or_else(|| format!("the vocabulary lacks {token}"))?;
        writeln!(out, "pub(crate) const {name}: u16 = {id};")?;
    }
    writeln!(out, "pub(crate) static SPECIAL: [(&str, u16); {}] = [", SPECIAL.len())?;
    SPECIAL.iter().try_for_each(|(name, token)| writeln!(out, "    ({token:?}, {name}),"))?;
    writeln!(out, "];")?;
    table(&mut out, "WORDS", &words)?;
    table(&mut out, "RESTS", &rests)?;
    Ok(out)
}

/// The tokens one behind the other, in the order of their bytes, which is that of the map.
fn table(out: &mut String, name: &str, tokens: &BTreeMap<&str, u16>) -> Result<(), Box<dyn Error>> {
    let text: String = tokens.keys().copied().collect();
    let starts: Vec<u32> = tokens
        .keys()
        .scan(0, |next, token| Some(std::mem::replace(next, *next + u32::try_from(token.len()).ok()?)))
        .chain([u32::try_from(text.len())?])
        .collect();
    let ids: Vec<u16> = tokens.values().copied().collect();
    writeln!(out, "pub(crate) static {name}: Table = Table {{")?;
    writeln!(out, "    text: {text:?},")?;
    writeln!(out, "    starts: &{starts:?},")?;
    writeln!(out, "    ids: &{ids:?},\n}};")?;
    Ok(())
}
