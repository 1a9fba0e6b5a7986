//! Reading the package's own folder. The feature `assets` of this crate.
//!
//! The manifest names the folder (`[grants] folder`), whose files belong to the package. They can be read and nothing else, and
//! each read copies: a table that each call needs is better built in `describe`, with `[instances] snapshot = true`, or put
//! into the code with `include_bytes!`.

use crate::error::{Error, Result};
use crate::sys;

/// The content of a file, by its path within the folder.
pub fn read(path: &str) -> Result<Vec<u8>> {
    sys::assets::read(path)
        .map_err(|error| error.context(format_args!("the file '{path}' of [grants] folder")))
}

/// The content of a file that is UTF-8 text.
pub fn read_to_string(path: &str) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        Error::internal(format!("the file '{path}' of [grants] folder is not UTF-8: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_gives_the_files() {
        crate::testing::asset("a/b.txt", "text");
        assert_eq!(read_to_string("a/b.txt").unwrap(), "text");
        assert!(read("c").unwrap_err().message().contains("'c'"));
    }
}
