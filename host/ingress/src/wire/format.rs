//! How each output is to be written.

/// Which outputs the caller wants as binary data after the JSON, and which inside it; and of which it wants classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputFormat {
    binary: bool,
    /// The outputs that are to be written the other way. Few, so a list is quicker than a map.
    exceptions: Vec<String>,
    /// The outputs of which classes are wanted, and how many.
    classes: Vec<(String, u64)>,
}

impl OutputFormat {
    /// Every output inside the JSON.
    #[must_use]
    pub fn json() -> Self {
        Self::default()
    }

    /// Every output as binary data.
    #[must_use]
    pub fn binary() -> Self {
        Self { binary: true, ..Self::default() }
    }

    /// The same, but for one output.
    #[must_use]
    pub fn with(mut self, output: &str, binary: bool) -> Self {
        self.set(output, binary);
        self
    }

    pub(super) fn set(&mut self, output: &str, binary: bool) {
        self.exceptions.retain(|name| name != output);
        if binary != self.binary {
            self.exceptions.push(output.to_owned());
        }
    }

    pub(crate) fn set_classes(&mut self, output: &str, classes: u64) {
        self.classes.push((output.to_owned(), classes));
    }

    /// How many classes are wanted in place of the values of `output`.
    #[must_use]
    pub fn classes(&self, output: &str) -> Option<u64> {
        self.classes.iter().find(|(name, _)| name == output).map(|(_, classes)| *classes)
    }

    /// Whether `output` is to be written as binary data.
    #[must_use]
    pub fn is_binary(&self, output: &str) -> bool {
        self.binary != self.exceptions.iter().any(|name| name == output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_an_output_counts() {
        let format = OutputFormat::binary().with("a", false).with("b", true);
        assert!(!format.is_binary("a"));
        assert!(format.is_binary("b") && format.is_binary("c"));
        assert_eq!(format.with("a", true), OutputFormat::binary());
        assert!(OutputFormat::json().with("a", true).is_binary("a"));
    }
}
