//! Failures: what the user reads when a command does not work out, and the exit code that goes with it.
//!
//! A [`Failure`] carries a hint, one line that says what to do. Other errors gain one through [`Hint::hint`].

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use crate::client::ClientError;
use crate::ui::{self, BAD, EMPHASIS};

/// An error with a remedy.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    usage: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// Something that went wrong while the command did its work: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, usage: false, source: None }
    }

    /// Something that the caller has to write differently: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message) }
    }

    /// What to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds what was being done, and a remedy, to an error.
pub(crate) trait Hint<T> {
    /// `message` says what did not work, `hint` what to do about it.
    fn hint(self, message: impl Into<String>, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: StdError + Send + Sync + 'static> Hint<T> for Result<T, E> {
    fn hint(self, message: impl Into<String>, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|source| Failure { source: Some(Box::new(source)), ..Failure::new(message).hint(hint) })
    }
}

/// Prints the error, its causes and the remedy to standard error; returns the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let (bad, emphasis) = (BAD, EMPHASIS);
    let mut text = format!("{bad}error:{bad:#} {}", lines(&error.to_string()));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {}", lines(&cause.to_string())));
    }
    if let Some(hint) = error.chain().find_map(hint_of) {
        text.push_str(&format!("\n  {emphasis}hint:{emphasis:#} {hint}"));
    }
    ui::note(text);
    let usage = error.chain().any(|cause| cause.downcast_ref::<Failure>().is_some_and(|f| f.usage));
    ExitCode::from(if usage { 2 } else { 1 })
}

/// Some errors are several lines, as those of TOML; and some carry text from elsewhere.
fn lines(text: &str) -> String {
    text.trim_end().lines().map(ui::clean).collect::<Vec<_>>().join("\n    ")
}

fn hint_of(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    error.downcast_ref::<ClientError>().and_then(ClientError::hint)
}
