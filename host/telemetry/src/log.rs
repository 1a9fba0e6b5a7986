//! The server's log: how it is written, and what of it.
//!
//! Contract: lines go to standard error, as text or as one JSON object each. A line that belongs to a request has the
//! fields `model`, `version` and `request_id` beside the others. `VESPID_LOG` says what is written, until the settings are
//! changed at run time: then they do, and what is cleared is again as at the start. Cost: a line that is not written costs
//! a relaxed load. Left out on purpose: files and their rotation, which belong to whatever runs the server.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::sampling::Change;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// What the server does.
    pub info: bool,
    /// What is odd.
    pub warning: bool,
    /// What failed.
    pub error: bool,
    /// Vespid's and the plugins' lines for debugging: none with 0, every request with 1, all with 2 and more.
    pub verbose: u32,
}

/// A change of [`LogSettings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogChange {
    /// What the server does.
    pub info: Change<bool>,
    /// What is odd.
    pub warning: Change<bool>,
    /// What failed.
    pub error: Change<bool>,
    /// Lines for debugging.
    pub verbose: Change<u32>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("VESPID_LOG is not a log filter: write one such as `debug` or `info,plugin=debug`")]
    Filter(#[from] tracing_subscriber::filter::FromEnvError),
    /// Another log was started before.
    #[error("the log was started already")]
    Started(#[from] TryInitError),
}

type Boxed = Box<dyn Filter<Registry> + Send + Sync>;

/// The running log.
pub struct Log {
    filter: reload::Handle<Boxed, Registry>,
    /// The filter where the environment has none.
    otherwise: &'static str,
    /// As it was started.
    start: LogSettings,
    own: Mutex<Own>,
}

/// What has been set since.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    info: Option<bool>,
    warning: Option<bool>,
    error: Option<bool>,
    verbose: Option<u32>,
}

impl Log {
    /// Starts the log of this process, with what `VESPID_LOG` says.
    ///
    /// # Errors
    /// Where that is no filter, or there is a log already.
    pub fn start(format: LogFormat) -> Result<Self, LogError> {
        Self::start_with(format, DEFAULT)
    }

    /// The same with another filter where `VESPID_LOG` says nothing.
    ///
    /// # Errors
    /// As [`Log::start`].
    pub fn start_with(format: LogFormat, otherwise: &'static str) -> Result<Self, LogError> {
        let filter = from_environment(otherwise)?;
        let start = settings_of(&filter);
        let (filter, handle) = reload::Layer::new(Box::new(filter) as Boxed);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry();
        match format {
            LogFormat::Text => {
                registry
                    .with(lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter))
                    .try_init()?;
            }
            LogFormat::Json => {
                let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
                registry.with(lines.with_filter(filter)).try_init()?;
            }
        }
        Ok(Self { filter: handle, otherwise, start, own: Mutex::default() })
    }

    /// What is written now.
    #[must_use]
    pub fn settings(&self) -> LogSettings {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.over(self.start)
    }

    /// Changes what is written.
    ///
    /// # Errors
    /// Where the log has ended.
    pub fn change(&self, change: LogChange) -> Result<LogSettings, reload::Error> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = *own;
        change.info.apply(&mut changed.info);
        change.warning.apply(&mut changed.warning);
        change.error.apply(&mut changed.error);
        change.verbose.apply(&mut changed.verbose);
        let settings = changed.over(self.start);
        // The environment's filter may tell targets apart, which the settings do not.
        let filter = match from_environment(self.otherwise) {
            Ok(filter) if changed == Own::default() => Box::new(filter) as Boxed,
            _ => {
                let filter = filter_fn(move |line| settings.write(line));
                Box::new(filter.with_max_level_hint(settings.most()))
            }
        };
        self.filter.reload(filter)?;
        *own = changed;
        Ok(settings)
    }
}

impl Own {
    fn over(self, start: LogSettings) -> LogSettings {
        LogSettings {
            info: self.info.unwrap_or(start.info),
            warning: self.warning.unwrap_or(start.warning),
            error: self.error.unwrap_or(start.error),
            verbose: self.verbose.unwrap_or(start.verbose),
        }
    }
}

impl LogSettings {
    /// The least urgent lines that are written.
    fn most(&self) -> LevelFilter {
        match self.verbose {
            2.. => LevelFilter::TRACE,
            1 => LevelFilter::DEBUG,
            0 if self.info => LevelFilter::INFO,
            0 if self.warning => LevelFilter::WARN,
            0 if self.error => LevelFilter::ERROR,
            0 => LevelFilter::OFF,
        }
    }

    /// Whether a line is written.
    fn write(&self, line: &Metadata<'_>) -> bool {
        let own = || ["vespid", "plugin"].iter().any(|own| line.target().starts_with(own));
        match *line.level() {
            tracing::Level::ERROR => self.error,
            tracing::Level::WARN => self.warning && !line.target().starts_with(OUTBOUND),
            tracing::Level::INFO => self.info && !line.target().starts_with("ort"),
            tracing::Level::DEBUG => self.verbose >= 1 && own(),
            tracing::Level::TRACE => self.verbose >= 2 && own(),
        }
    }
}

/// What is written where nobody says it. ONNX Runtime tells at length of each graph that it loads.
const DEFAULT: &str = "info,ort=warn";
/// It warns of each request of a plugin that is none, as often as a plugin makes one: only for who asks for it by name.
const OUTBOUND: &str = "wasmtime_wasi_http";
const VARIABLE: &str = "VESPID_LOG";

fn from_environment(otherwise: &str) -> Result<EnvFilter, tracing_subscriber::filter::FromEnvError> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let filter = if std::env::var_os(VARIABLE).is_none_or(|filter| filter.is_empty()) {
        EnvFilter::new(otherwise)
    } else {
        let builder = EnvFilter::builder().with_env_var(VARIABLE);
        builder.with_default_directive(LevelFilter::INFO.into()).from_env()?
    };
    match format!("{OUTBOUND}=off").parse() {
        Ok(quiet) if !text.contains(OUTBOUND) => Ok(filter.add_directive(quiet)),
        _ => Ok(filter),
    }
}

/// The settings that come nearest to a filter.
fn settings_of(filter: &EnvFilter) -> LogSettings {
    let most = Filter::<Registry>::max_level_hint(filter).unwrap_or(LevelFilter::TRACE);
    LogSettings {
        info: most >= LevelFilter::INFO,
        warning: most >= LevelFilter::WARN,
        error: most >= LevelFilter::ERROR,
        verbose: u32::from(most >= LevelFilter::DEBUG) + u32::from(most >= LevelFilter::TRACE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filter: &str) -> (bool, bool, bool, u32) {
        let LogSettings { info, warning, error, verbose } = settings_of(&EnvFilter::new(filter));
        (info, warning, error, verbose)
    }

    #[test]
    fn a_filter_is_told_as_settings() {
        assert_eq!(of("info"), (true, true, true, 0));
        assert_eq!(of("error"), (false, false, true, 0));
        assert_eq!(of("off"), (false, false, false, 0));
        assert_eq!(of("warn,plugin=debug"), (true, true, true, 1));
        assert_eq!(of("trace"), (true, true, true, 2));
    }
}
