//! `vespid new`: writes a plugin project that builds and answers at once.
//!
//! The SDK is embedded in this binary and written into the project, so that the project needs no other source for it
//! and keeps the version it was made with.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use vespid_types::ModelName;

use crate::embedded::{self, Files};
use crate::failure::Failure;
use crate::ui::{self, EMPHASIS, GOOD};

const AFTER_HELP: &str = "\
Examples:
  vespid new scaler                          writes ./scaler, in Rust
  vespid new scaler --lang python            the same in Python; js for JavaScript
  vespid new scaler --path plugins/scaler";

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
    Python,
    Js,
}

impl Language {
    const fn template(self) -> Files {
        match self {
            Self::Rust => embedded::RUST_TEMPLATE,
            Self::Python => embedded::PYTHON_TEMPLATE,
            Self::Js => embedded::JS_TEMPLATE,
        }
    }

    /// The SDK, and the folder of a project that it is in.
    const fn sdk(self) -> (&'static str, Files) {
        match self {
            Self::Rust => ("vespid-plugin", embedded::RUST_SDK),
            Self::Python => ("vespid", embedded::PYTHON_SDK),
            Self::Js => ("vespid", embedded::JS_SDK),
        }
    }
}

/// A name that is fit for a model and for a package of cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(String);

pub(crate) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let name = &args.name;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&name.0));
    if args.lang == Language::Rust && RESERVED.contains(&name.0.replace('-', "_").as_str()) {
        return Err(Failure::usage(format!("Rust or the SDK has the name '{}' for itself", name.0))
            .hint("choose another")
            .into());
    }
    write(name, &folder, args.lang)?;
    let shown = folder.display();
    ui::result(format!("{} {shown}", ui::styled(GOOD, "wrote")))?;
    ui::note(format!(
        "{}\n  vespid test {shown}\n  vespid dev {shown}\n  vespid predict {} values='3,4;1,2'",
        ui::styled(EMPHASIS, "Next:"),
        name.0
    ));
    Ok(())
}

fn write(name: &Name, folder: &Path, language: Language) -> Result<(), Failure> {
    if folder.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} is already there", folder.display()))
            .hint("choose another name, or another place with --path"));
    }
    for (file, text) in language.template() {
        // The names of templates keep other tools from taking them for what they will be.
        let file = file.trim_end_matches(".in");
        let file = if file == "gitignore" { ".gitignore" } else { file };
        embedded::write_file(&folder.join(file), &fill(text, name))?;
    }
    let (place, sdk) = language.sdk();
    embedded::write(sdk, &folder.join(place))
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
    use std::fs;

    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn names_fit_the_model_and_the_package() {
        for good in ["scaler", "file-type", "a1_b"] {
            assert!(parse_name(good).is_ok(), "{good}");
        }
        for bad in ["", "1st", "Scaler", "a.b", "a/b", "../a", "-a", "ä"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_rust_has_for_itself_is_no_name_for_a_crate() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["test", "fn", "vespid-plugin", "proc-macro"] {
            let args = |lang| NewArgs {
                lang,
                name: parse_name(name).unwrap(),
                path: Some(parent.path().join(name)),
            };
            assert!(run(&args(Language::Rust)).is_err(), "{name}");
            run(&args(Language::Python)).unwrap();
        }
    }

    #[test]
    fn the_project_holds_the_template_and_the_sdk() {
        let parent = tempfile::tempdir().unwrap();
        let name = parse_name("my-model").unwrap();
        for (language, files) in [
            (
                Language::Rust,
                &["Cargo.toml", "src/lib.rs", "vespid-plugin/Cargo.toml", "vespid-plugin/src/lib.rs"][..],
            ),
            (Language::Python, &["plugin.py", "vespid/__init__.py", "vespid/component.py"]),
            (
                Language::Js,
                &[
                    "plugin.js",
                    "jsconfig.json",
                    "vespid/index.js",
                    "vespid/index.d.ts",
                    "vespid/package.json",
                ],
            ),
        ] {
            let folder = parent.path().join(format!("{language:?}"));
            write(&name, &folder, language).unwrap();
            let (manifest, _) = Manifest::read(&folder).unwrap();
            assert_eq!(manifest.name.as_str(), "my-model");
            assert_eq!(manifest.plugin.as_deref(), Some("my_model.wasm"));
            for file in ["README.md", ".gitignore", "cases/rows.json"].iter().chain(files) {
                let text = fs::read_to_string(folder.join(file)).unwrap();
                assert!(file.starts_with("vespid") || !text.contains("{{"), "{file}");
            }
            assert!(write(&name, &folder, language).unwrap_err().to_string().contains("already there"));
        }
    }

    #[test]
    fn the_cases_are_the_same_in_all_languages() {
        let cases = |language: Language| {
            let files = language.template().iter().filter(|(file, _)| file.starts_with("cases/"));
            files.copied().collect::<Vec<_>>()
        };
        assert_eq!(cases(Language::Rust).len(), 2);
        assert_eq!(cases(Language::Rust), cases(Language::Python));
        assert_eq!(cases(Language::Rust), cases(Language::Js));
    }
}
