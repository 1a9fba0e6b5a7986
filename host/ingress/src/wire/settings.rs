//! The settings of traces and of the log, as Triton's extensions write them.
//!
//! Contract: both protocols carry an object of settings by name: [`Settings`]. A trace's are texts or lists of texts, the
//! log's are of their own kinds; `null` and what is empty clear a setting. What cannot be honoured is refused by its name,
//! and nothing is changed then. Left out: trace files, trace levels that tell of tensors, and a log in a file.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Value, json};
use vespid_telemetry::{Change, LogChange, LogSettings, TraceChange, TraceLevel, TraceSettings};
use vespid_types::{Error, ErrorCode, whole};

use super::fault::name;

/// Settings by name.
pub type Settings = serde_json::Map<String, Value>;

/// Reads the body of a request that changes settings.
///
/// # Errors
/// `INVALID_ARGUMENT` where it is not a JSON object.
pub fn read_settings(body: &[u8]) -> Result<Settings, Error> {
    let expected = "expected a JSON object of settings, such as {\"log_verbose_level\": 1}";
    serde_json::from_slice(body).map_err(|error| Error::invalid(format!("request body: {error}; {expected}")))
}

/// Reads a change of trace settings.
///
/// # Errors
/// `INVALID_ARGUMENT` or `UNSUPPORTED`, with the setting's name.
pub fn trace_change(settings: &Settings) -> Result<TraceChange, Error> {
    let mut change = TraceChange::default();
    for (key, value) in settings {
        let texts = texts(key, value)?;
        match key.as_str() {
            "trace_level" => change.level = set(&texts, trace_level)?,
            "trace_rate" => change.rate = set(&texts, |texts| number(key, texts, "1 or more"))?,
            "trace_count" => change.count = set(&texts, trace_count)?,
            "trace_file" => only(key, &texts, "", "traces are sent by OTLP, and written to no file")?,
            "log_frequency" => only(key, &texts, "0", "traces are sent by OTLP, and written to no file")?,
            "trace_mode" => only(key, &texts, TRACE_MODE, "that is how traces are sent")?,
            _ => {
                return Err(Error::invalid(format!(
                    "'{}' is no trace setting: there are trace_level, trace_rate, trace_count, trace_mode, trace_file \
                     and log_frequency",
                    name(key)
                )));
            }
        }
    }
    Ok(change)
}

const TRACE_MODE: &str = "opentelemetry";

/// Writes trace settings: a list of texts for the level, a text for each other.
#[must_use]
pub fn trace_settings(settings: &TraceSettings) -> Settings {
    let TraceSettings { level, rate, count } = settings;
    let level = match level {
        TraceLevel::Off => "OFF",
        TraceLevel::Timestamps => "TIMESTAMPS",
    };
    let count = count.map_or("-1".to_owned(), |count| count.to_string());
    object(json!({
        "trace_level": [level],
        "trace_rate": rate.to_string(),
        "trace_count": count,
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": TRACE_MODE,
    }))
}

/// Reads a change of the log's settings.
///
/// # Errors
/// As [`trace_change`].
pub fn log_change(settings: &Settings) -> Result<LogChange, Error> {
    let mut change = LogChange::default();
    for (key, value) in settings {
        match key.as_str() {
            "log_info" => change.info = flag(key, value)?,
            "log_warning" => change.warning = flag(key, value)?,
            "log_error" => change.error = flag(key, value)?,
            "log_verbose_level" => {
                change.verbose = match value {
                    Value::Null => Change::Clear,
                    value => Change::Set(value.as_f64().and_then(whole).ok_or_else(|| {
                        Error::invalid("log_verbose_level: expected a whole number, 0 or more")
                    })?),
                };
            }
            "log_file" => only(key, &text(key, value)?, "", "the log goes to the server's standard error")?,
            "log_format" => {
                only(
                    key,
                    &text(key, value)?,
                    LOG_FORMAT,
                    "--log-format says the rest when the server starts",
                )?;
            }
            _ => {
                return Err(Error::invalid(format!(
                    "'{}' is no setting of the log: there are log_info, log_warning, log_error, log_verbose_level, \
                     log_file and log_format",
                    name(key)
                )));
            }
        }
    }
    Ok(change)
}

const LOG_FORMAT: &str = "ISO8601";

/// Writes the log's settings.
#[must_use]
pub fn log_settings(settings: &LogSettings) -> Settings {
    let LogSettings { info, warning, error, verbose } = settings;
    object(json!({
        "log_file": "",
        "log_info": info,
        "log_warning": warning,
        "log_error": error,
        "log_verbose_level": verbose,
        "log_format": LOG_FORMAT,
    }))
}

fn object(value: Value) -> Settings {
    match value {
        Value::Object(settings) => settings,
        _ => Settings::new(),
    }
}

/// A setting's text, or nothing.
fn text(key: &str, value: &Value) -> Result<Vec<String>, Error> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        _ => Err(Error::invalid(format!("{}: expected a text", name(key)))),
    }
}

/// A setting's texts. A list of an empty one is as empty as that: gRPC has lists alone.
fn texts(key: &str, value: &Value) -> Result<Vec<String>, Error> {
    match value {
        Value::Array(values) => match &values[..] {
            [one] if one.is_string() => text(key, one),
            values => values.iter().map(|value| one_text(key, value)).collect(),
        },
        value => text(key, value),
    }
}

fn one_text(key: &str, value: &Value) -> Result<String, Error> {
    let refusal = || Error::invalid(format!("{}: expected a text or a list of texts", name(key)));
    value.as_str().map(str::to_owned).ok_or_else(refusal)
}

/// What is empty clears a setting.
fn set<T>(texts: &[String], read: impl FnOnce(&[String]) -> Result<T, Error>) -> Result<Change<T>, Error> {
    if texts.is_empty() { Ok(Change::Clear) } else { read(texts).map(Change::Set) }
}

fn trace_level(texts: &[String]) -> Result<TraceLevel, Error> {
    let mut level = TraceLevel::Off;
    for text in texts {
        match text.as_str() {
            "OFF" => {}
            "TIMESTAMPS" => level = TraceLevel::Timestamps,
            "TENSORS" => {
                let message = "trace_level: TENSORS is not supported: what requests hold is in no trace; use TIMESTAMPS";
                return Err(Error::new(ErrorCode::Unsupported, message));
            }
            other => {
                let other = name(other);
                return Err(Error::invalid(format!(
                    "trace_level: expected OFF or TIMESTAMPS, got '{other}'"
                )));
            }
        }
    }
    Ok(level)
}

fn trace_count(texts: &[String]) -> Result<Option<u64>, Error> {
    const WHICH: &str = "0 or more, or -1 for no end";
    match texts {
        [text] if text == "-1" => Ok(None),
        texts => number("trace_count", texts, WHICH).map(Some),
    }
}

/// A number, written as it would be told.
fn number<T: FromStr + Display>(key: &str, texts: &[String], which: &str) -> Result<T, Error> {
    let read = |text: &String| text.parse::<T>().ok().filter(|number| number.to_string() == *text);
    match texts {
        [text] => read(text),
        _ => None,
    }
    .ok_or_else(|| Error::invalid(format!("{key}: expected a whole number, {which}")))
}

fn flag(key: &str, value: &Value) -> Result<Change<bool>, Error> {
    match value {
        Value::Null => Ok(Change::Clear),
        Value::Bool(value) => Ok(Change::Set(*value)),
        _ => Err(Error::invalid(format!("{key}: expected true or false"))),
    }
}

/// A setting that has one value.
fn only(key: &str, texts: &[String], value: &str, why: &str) -> Result<(), Error> {
    match texts {
        [] => Ok(()),
        [text] if text == value => Ok(()),
        _ => {
            let instead =
                if value.is_empty() { "leave it empty".to_owned() } else { format!("use '{value}'") };
            Err(Error::new(ErrorCode::Unsupported, format!("{key}: {why}: {instead}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    fn settings(value: Value) -> Settings {
        object(value)
    }

    #[test]
    fn traces_are_set_as_triton_s_clients_do() {
        let change = trace_change(&settings(json!({
            "trace_level": ["TIMESTAMPS"], "trace_rate": "10", "trace_count": ["5"], "log_frequency": "0",
            "trace_file": "", "trace_mode": "opentelemetry",
        })));
        let expected = TraceChange {
            level: Change::Set(TraceLevel::Timestamps),
            rate: Change::Set(NonZero::new(10).unwrap()),
            count: Change::Set(Some(5)),
        };
        assert_eq!(change.unwrap(), expected);
        let cleared = TraceChange { level: Change::Clear, rate: Change::Clear, count: Change::Clear };
        for nothing in [json!(null), json!(""), json!([]), json!([""])] {
            let asked = json!({"trace_level": nothing, "trace_rate": nothing, "trace_count": nothing});
            assert_eq!(trace_change(&settings(asked)).unwrap(), cleared);
        }
        assert_eq!(trace_change(&Settings::new()).unwrap(), TraceChange::default());
        let endless = trace_change(&settings(json!({"trace_count": "-1"}))).unwrap();
        assert_eq!(endless.count, Change::Set(None));
    }

    #[test]
    fn traces_are_told_as_triton_does() {
        let told = Value::Object(trace_settings(&TraceSettings::default()));
        let expected = json!({
            "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
            "trace_file": "", "trace_mode": "opentelemetry",
        });
        assert_eq!(told, expected);
        assert!(trace_change(&object(told)).is_ok(), "what is told can be set");
    }

    #[test]
    fn the_log_is_set_and_told_as_triton_does() {
        let start = LogSettings { info: true, warning: true, error: true, verbose: 0 };
        let told = Value::Object(log_settings(&start));
        let expected = json!({
            "log_file": "", "log_info": true, "log_warning": true, "log_error": true, "log_verbose_level": 0,
            "log_format": "ISO8601",
        });
        assert_eq!(told, expected);
        assert!(log_change(&object(told)).is_ok(), "what is told can be set");
        let change =
            log_change(&settings(json!({"log_info": false, "log_verbose_level": 2.0, "log_error": null})));
        let expected = LogChange {
            info: Change::Set(false),
            warning: Change::Keep,
            error: Change::Clear,
            verbose: Change::Set(2),
        };
        assert_eq!(change.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_name() {
        for (asked, code) in [
            (json!({"trace_level": "TENSORS"}), ErrorCode::Unsupported),
            (json!({"trace_level": ["TIMESTAMPS", "MAX"]}), ErrorCode::InvalidArgument),
            (json!({"trace_level": true}), ErrorCode::InvalidArgument),
            (json!({"trace_rate": "0"}), ErrorCode::InvalidArgument),
            (json!({"trace_rate": ["1", "2"]}), ErrorCode::InvalidArgument),
            (json!({"trace_rate": "010"}), ErrorCode::InvalidArgument),
            (json!({"trace_rate": 10}), ErrorCode::InvalidArgument),
            (json!({"trace_rate": ["", ""]}), ErrorCode::InvalidArgument),
            (json!({"trace_count": "-2"}), ErrorCode::InvalidArgument),
            (json!({"trace_file": "/tmp/trace.json"}), ErrorCode::Unsupported),
            (json!({"log_frequency": "50"}), ErrorCode::Unsupported),
            (json!({"trace_mode": "triton"}), ErrorCode::Unsupported),
            (json!({"trace_speed": "1"}), ErrorCode::InvalidArgument),
        ] {
            let error = trace_change(&settings(asked.clone())).unwrap_err();
            let key = asked.as_object().unwrap().keys().next().unwrap().clone();
            assert!(error.code() == code && error.message().contains(&key), "{asked}: {error}");
        }
        for (asked, code) in [
            (json!({"log_file": "/tmp/log"}), ErrorCode::Unsupported),
            (json!({"log_format": "default"}), ErrorCode::Unsupported),
            (json!({"log_info": 1}), ErrorCode::InvalidArgument),
            (json!({"log_file": [""]}), ErrorCode::InvalidArgument),
            (json!({"log_verbose_level": -1}), ErrorCode::InvalidArgument),
            (json!({"log_verbose_level": 1.5}), ErrorCode::InvalidArgument),
            (json!({"log_warnings": true}), ErrorCode::InvalidArgument),
        ] {
            let error = log_change(&settings(asked.clone())).unwrap_err();
            let key = asked.as_object().unwrap().keys().next().unwrap().clone();
            assert!(error.code() == code && error.message().contains(&key), "{asked}: {error}");
        }
        assert!(read_settings(b"[]").unwrap_err().message().contains("a JSON object of settings"));
    }
}
