//! The settings of traces and of the log.

use std::collections::HashMap;

use serde_json::{Number, Value};
use vespid_auth::Action;
use vespid_types::Error;

use super::access::OK;
use super::decode::target;
use super::proto::log_settings_request::setting_value::ParameterChoice as Given;
use super::proto::log_settings_response::SettingValue as LogValue;
use super::proto::log_settings_response::setting_value::ParameterChoice;
use super::proto::trace_setting_response::SettingValue as TraceValue;
use super::proto::{LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse};
use crate::Api;
use crate::access::{Purpose, Rights};
use crate::wire::settings::{self, Settings};

/// Changes what is named, and tells all settings.
pub(super) async fn trace(
    api: &Api,
    request: TraceSettingRequest,
    rights: &Rights,
) -> Result<TraceSettingResponse, Error> {
    let model = Some(request.model_name.as_str()).filter(|name| !name.is_empty());
    let purpose = |action| Purpose { model, ..Purpose::server(action) };
    if request.settings.is_empty() {
        rights.permit(&purpose(Action::ReadMetadata)).await?;
        return change_trace(api, request.clone());
    }
    rights.change(&purpose(Action::Admin), OK, async { change_trace(api, request.clone()) }).await
}

fn change_trace(api: &Api, request: TraceSettingRequest) -> Result<TraceSettingResponse, Error> {
    let model = match request.model_name.as_str() {
        "" => None,
        name => Some(target(name, "")?),
    };
    model.as_ref().map_or(Ok(()), |model| api.predictor.check(model))?;
    let model = model.as_ref().map(|model| &model.name);
    let asked: Settings =
        request.settings.into_iter().map(|(name, setting)| (name, setting.value.into())).collect();
    let told = if asked.is_empty() {
        api.telemetry.trace_settings(model)
    } else {
        api.telemetry.change_trace(model, settings::trace_change(&asked)?)?
    };
    let setting = |(name, value): (String, Value)| {
        let texts = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let text = |value: Value| value.as_str().map(str::to_owned);
        (name, TraceValue { value: texts.into_iter().filter_map(text).collect() })
    };
    Ok(TraceSettingResponse { settings: settings::trace_settings(&told).into_iter().map(setting).collect() })
}

/// Changes what is named, and tells all settings.
pub(super) async fn log(
    api: &Api,
    request: LogSettingsRequest,
    rights: &Rights,
) -> Result<LogSettingsResponse, Error> {
    if request.settings.is_empty() {
        rights.permit(&Purpose::server(Action::ReadMetadata)).await?;
        return change_log(api, request);
    }
    rights.change(&Purpose::server(Action::Admin), OK, async { change_log(api, request) }).await
}

fn change_log(api: &Api, request: LogSettingsRequest) -> Result<LogSettingsResponse, Error> {
    let asked: Settings = request
        .settings
        .into_iter()
        .map(|(name, setting)| {
            let value = match setting.parameter_choice {
                None => Value::Null,
                Some(Given::BoolParam(value)) => Value::Bool(value),
                Some(Given::Uint32Param(value)) => Value::Number(Number::from(value)),
                Some(Given::StringParam(value)) => Value::String(value),
            };
            (name, value)
        })
        .collect();
    let told = if asked.is_empty() {
        api.telemetry.log_settings()?
    } else {
        api.telemetry.change_log(settings::log_change(&asked)?)?
    };
    let settings: HashMap<String, LogValue> =
        settings::log_settings(&told).into_iter().map(|(name, value)| (name, log_value(&value))).collect();
    Ok(LogSettingsResponse { settings })
}

fn log_value(value: &Value) -> LogValue {
    let choice = match value {
        Value::Bool(value) => Some(ParameterChoice::BoolParam(*value)),
        Value::Number(number) => {
            number.as_u64().and_then(|number| u32::try_from(number).ok()).map(ParameterChoice::Uint32Param)
        }
        Value::String(text) => Some(ParameterChoice::StringParam(text.clone())),
        _ => None,
    };
    LogValue { parameter_choice: choice }
}
