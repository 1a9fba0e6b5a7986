//! `vespid new`: writes a plugin project that builds and answers at once.
//!
//! The SDK is embedded in this binary and written into the project, so that the project needs no other source for it
//! and keeps the version it was made with.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use vespid_types::ModelName;

use crate::failure::{Failure, Hint};
use crate::ui::{self, EMPHASIS, GOOD};

const AFTER_HELP: &str = "\
Examples:
  vespid new scaler                          writes ./scaler
  vespid new --lang rust scaler --path plugins/scaler";

/// The SDK's files, from build.rs.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
const SDK_FOLDER: &str = "vespid-plugin";

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
    ("model.toml", include_str!("../../templates/rust/model.toml.in")),
    ("README.md", include_str!("../../templates/rust/README.md.in")),
    (".gitignore", include_str!("../../templates/rust/gitignore.in")),
    ("src/lib.rs", include_str!("../../templates/rust/lib.rs.in")),
];

/// Write a plugin project to start from
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct NewArgs {
    /// The language to write the plugin in
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// The model's name, and the package's: small letters, digits, '-' and '_', a letter first
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Name,
    /// Where the project goes [default: NAME here]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
}

/// A name that is fit for a model and for a package of cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(String);

pub(crate) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let name = &args.name;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&name.0));
    let template = match args.lang {
        Language::Rust => RUST,
    };
    write(name, &folder, template)?;
    let shown = folder.display();
    ui::result(format!("{} {shown}", ui::styled(GOOD, "wrote")))?;
    ui::note(format!(
        "{}\n  vespid push {shown}\n  vespid predict {} values='3,4;1,2'",
        ui::styled(EMPHASIS, "Next, with a server running (vespid serve --store DIR):"),
        name.0
    ));
    Ok(())
}

fn write(name: &Name, folder: &Path, template: &[(&str, &str)]) -> Result<(), Failure> {
    if folder.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} is already there", folder.display()))
            .hint("choose another name, or another place with --path"));
    }
    for (file, text) in template {
        write_file(&folder.join(file), &fill(text, name))?;
    }
    for (file, text) in SDK {
        write_file(&folder.join(SDK_FOLDER).join(file), text)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).hint(
        format!("{} cannot be written", path.display()),
        "check that the folder can be written to and has space left",
    )
}

fn fill(text: &str, name: &Name) -> String {
    text.replace("{{name}}", &name.0).replace("{{crate}}", &name.0.replace('-', "_"))
}

fn parse_name(text: &str) -> Result<Name, String> {
    text.parse::<ModelName>().map_err(|error| error.to_string())?;
    let shaped = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if !shaped || text.len() > 64 {
        return Err("use at most 64 small letters, digits, '-' and '_', a letter first".to_owned());
    }
    if RESERVED.contains(&text.replace('-', "_").as_str()) {
        return Err("Rust or the SDK has that name for itself: choose another".to_owned());
    }
    Ok(Name(text.to_owned()))
}

/// Keywords, the crates of the standard library, and the packages that a plugin depends on.
const RESERVED: [&str; 57] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "vespid_plugin",
    "virtual",
    "where",
    "while",
    "yield",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn names_fit_the_model_and_the_package() {
        for good in ["scaler", "file-type", "a1_b"] {
            assert!(parse_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1st",
            "Scaler",
            "a.b",
            "a/b",
            "../a",
            "-a",
            "test",
            "fn",
            "vespid-plugin",
            "proc-macro",
            "ä",
        ] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_project_holds_the_template_and_the_sdk() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("my-model");
        let name = parse_name("my-model").unwrap();
        write(&name, &folder, RUST).unwrap();
        let (manifest, _) = Manifest::read(&folder).unwrap();
        assert_eq!(manifest.name.as_str(), "my-model");
        assert_eq!(manifest.plugin.as_deref(), Some("my_model.wasm"));
        for file in
            ["src/lib.rs", "vespid-plugin/Cargo.toml", "vespid-plugin/src/lib.rs", "README.md", ".gitignore"]
        {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(file.starts_with("vespid-plugin") || !text.contains("{{"), "{file}");
        }
        assert!(write(&name, &folder, RUST).unwrap_err().to_string().contains("already there"));
    }
}
