//! What the host offers besides tensors and graphs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::graph::Tensors;
use crate::sys;
use crate::tensor::Tensor;

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named after what they are")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[doc(hidden)]
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(message) => sys::log(level, message),
        None => sys::log(level, &message.to_string()),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($message:tt)+) => { $crate::__log($crate::log::Level::Trace, ::std::format_args!($($message)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($message:tt)+) => { $crate::__log($crate::log::Level::Debug, ::std::format_args!($($message)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($message:tt)+) => { $crate::__log($crate::log::Level::Info, ::std::format_args!($($message)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($message:tt)+) => { $crate::__log($crate::log::Level::Warn, ::std::format_args!($($message)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($message:tt)+) => { $crate::__log($crate::log::Level::Error, ::std::format_args!($($message)+)) };
}

/// A value of the manifest's `[config]` table.
#[must_use]
pub fn config(key: &str) -> Option<String> {
    sys::config(key)
}

/// A value of the manifest's `[config]` table that is not just text. Fails where it is there and cannot be read as one.
pub fn config_as<T: FromStr<Err: fmt::Display>>(key: &str) -> Result<Option<T>> {
    let Some(text) = config(key) else { return Ok(None) };
    let value =
        text.parse().map_err(|error| Error::internal(format!("[config] {key} = \"{text}\": {error}")))?;
    Ok(Some(value))
}

/// A value of the environment. The manifest must ask for it (`[grants] env`), and the server gives it.
#[must_use]
pub fn env(name: &str) -> Option<String> {
    sys::env(name)
}

/// A secret. The manifest must ask for it (`[grants] secrets`), and the server gives it. Keep it out of the log and of
/// answers.
#[must_use]
pub fn secret(name: &str) -> Option<String> {
    sys::secret(name)
}

/// The time left until the call's deadline; zero once it has passed.
#[must_use]
pub fn remaining() -> Duration {
    sys::remaining()
}

/// Waits, while others run. The call ends at its deadline, however long this was to be.
pub fn sleep(duration: Duration) {
    sys::sleep(duration);
}

/// Calls another model of this server, in its default version. The manifest must ask for it (`[grants] models`), and the call
/// shares this call's deadline and priority. The tensors are handed over both ways, and nothing is copied. Models may call each
/// other eight deep; one that would come back to a model whose call led to it is refused.
pub fn infer<'a>(model: &str, inputs: impl IntoIterator<Item = (&'a str, Tensor)>) -> Result<Tensors> {
    sys::infer(model, None, named(inputs))
}

/// Calls another model of this server in the version given.
pub fn infer_version<'a>(
    model: &str,
    version: &str,
    inputs: impl IntoIterator<Item = (&'a str, Tensor)>,
) -> Result<Tensors> {
    sys::infer(model, Some(version), named(inputs))
}

fn named<'a>(inputs: impl IntoIterator<Item = (&'a str, Tensor)>) -> impl Iterator<Item = (String, Tensor)> {
    inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor))
}
