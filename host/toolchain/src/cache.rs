//! The folder for what can be built or fetched again.

use std::env;
use std::path::PathBuf;

use crate::ToolchainError;

/// Where Vespid keeps what it built or fetched: `$VESPID_CACHE`, or else `$XDG_CACHE_HOME/vespid`, or else
/// `~/.cache/vespid`. The folder need not exist.
///
/// # Errors
/// When none of these is set, and when one of them is a relative path: it would name a folder of its own for each
/// working directory.
pub fn cache_dir() -> Result<PathBuf, ToolchainError> {
    resolve(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn resolve(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, ToolchainError> {
    let absolute = |name: &'static str| match variable(name) {
        Some(path) if path.is_relative() => Err(ToolchainError::RelativeCache { variable: name, path }),
        other => Ok(other),
    };
    if let Some(path) = absolute("VESPID_CACHE")? {
        return Ok(path);
    }
    if let Some(path) = absolute("XDG_CACHE_HOME")? {
        return Ok(path.join("vespid"));
    }
    let home = absolute("HOME")?.ok_or(ToolchainError::NoHome)?;
    Ok(home.join(".cache").join("vespid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<PathBuf, ToolchainError> {
        resolve(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn the_nearest_variable_wins() {
        let all = [("VESPID_CACHE", "/v"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(&all).unwrap(), PathBuf::from("/v"));
        assert_eq!(with(&all[1..]).unwrap(), PathBuf::from("/x/vespid"));
        assert_eq!(with(&all[2..]).unwrap(), PathBuf::from("/h/.cache/vespid"));
    }

    #[test]
    fn no_home_and_a_relative_folder_are_errors() {
        assert!(matches!(with(&[]), Err(ToolchainError::NoHome)));
        assert!(matches!(with(&[("VESPID_CACHE", "here")]), Err(ToolchainError::RelativeCache { .. })));
    }
}
