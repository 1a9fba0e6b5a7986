//! The settings of traces and of the log.

use vespid_types::{Error, ErrorCode};

use super::proto::{LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse};
use crate::Api;

pub(super) fn trace(_api: &Api, _request: TraceSettingRequest) -> Result<TraceSettingResponse, Error> {
    Err(Error::new(ErrorCode::Unsupported, "trace settings are not supported yet"))
}

pub(super) fn log(_api: &Api, _request: LogSettingsRequest) -> Result<LogSettingsResponse, Error> {
    Err(Error::new(ErrorCode::Unsupported, "log settings are not supported yet"))
}
