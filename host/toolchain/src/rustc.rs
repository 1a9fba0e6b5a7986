//! What the compiler says about itself.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{GuestTarget, ToolchainError};

/// The machine's compiler, as `rustc -vV` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rustc {
    program: OsString,
    release: String,
    commit_hash: String,
    host: String,
}

impl Rustc {
    /// Asks the compiler that `$RUSTC` names, or else the one on the path.
    ///
    /// # Errors
    /// When it does not start, or its answer lacks the release or the host.
    pub fn query() -> Result<Self, ToolchainError> {
        let program = env::var_os("RUSTC").filter(|p| !p.is_empty()).unwrap_or_else(|| "rustc".into());
        let answer = ask(&program, &["-vV"])?;
        Self::parse(program, &answer).ok_or_else(|| ToolchainError::Rustc {
            command: "rustc -vV".to_owned(),
            detail: format!("no `release:` or no `host:` in {answer:?}"),
        })
    }

    fn parse(program: OsString, answer: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
            Some(value.trim().to_owned())
        };
        Some(Self {
            program,
            release: field("release")?,
            commit_hash: field("commit-hash").unwrap_or_else(|| "unknown".to_owned()),
            host: field("host")?,
        })
    }

    /// The version, such as `1.95.0`.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The commit it was built from, or `unknown`.
    #[must_use]
    pub fn commit_hash(&self) -> &str {
        &self.commit_hash
    }

    /// The machine it runs on, such as `x86_64-unknown-linux-gnu`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A name that two compilers share only when one can read the other's libraries. Some distributions do not
    /// record the commit; theirs are told apart by release and host.
    #[must_use]
    pub fn id(&self) -> String {
        match self.commit_hash.as_str() {
            "unknown" => format!("{}-{}", self.release, self.host),
            hash => hash.to_owned(),
        }
    }

    /// Whether the compiler's own sysroot holds the standard library of `target`.
    pub(crate) fn has_std(&self, target: GuestTarget) -> Result<bool, ToolchainError> {
        let libdir = ask(&self.program, &["--print", "target-libdir", "--target", target.triple()])?;
        Ok(holds_core(&PathBuf::from(libdir.trim())))
    }
}

/// Whether a library folder was filled: rustup removes a target's files and may leave the folder.
pub(crate) fn holds_core(libdir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libdir) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore") && name.ends_with(".rlib")
    })
}

fn ask(program: &OsString, arguments: &[&str]) -> Result<String, ToolchainError> {
    let shown = || format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|source| ToolchainError::NoRustc { program: program.display().to_string(), source })?;
    if !output.status.success() {
        let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ToolchainError::Rustc { command: shown(), detail });
    }
    String::from_utf8(output.stdout)
        .map_err(|_| ToolchainError::Rustc { command: shown(), detail: "it is not UTF-8".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUSTUP: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\ncommit-hash: 59807616e1fa\n\
                          commit-date: 2026-04-14\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";

    #[test]
    fn reads_the_fields_of_the_answer() {
        let rustc = Rustc::parse("rustc".into(), RUSTUP).unwrap();
        assert_eq!((rustc.release(), rustc.commit_hash()), ("1.95.0", "59807616e1fa"));
        assert_eq!(rustc.host(), "x86_64-unknown-linux-gnu");
        assert_eq!(rustc.id(), "59807616e1fa");
    }

    #[test]
    fn a_compiler_without_a_commit_has_a_name_all_the_same() {
        let answer = RUSTUP.replace("59807616e1fa\n", "unknown\n");
        let rustc = Rustc::parse("rustc".into(), &answer).unwrap();
        assert_eq!(rustc.id(), "1.95.0-x86_64-unknown-linux-gnu");
    }

    #[test]
    fn an_answer_without_a_release_is_refused() {
        assert_eq!(Rustc::parse("rustc".into(), "host: x\n"), None);
    }
}
