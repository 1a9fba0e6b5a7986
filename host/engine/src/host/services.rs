//! `vespid:model/host`: configuration, log, deadline, and calls of other models.

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;
use vespid_types::{Error, ErrorCode, ModelRef, NamedTensor, Parameters, Request};

use super::HostState;
use crate::bindings::vespid::model::host::{self, InferError, LogLevel};
use crate::bindings::vespid::model::tensors::NamedTensor as WitNamedTensor;
use crate::bindings::vespid::model::types;
use crate::convert;
use crate::plugin::PluginContext;

/// Calls of models by models, one in the other.
const MAX_DEPTH: usize = 8;

impl types::Host for HostState {}

impl host::Host for HostState {
    fn config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.context.config.get(&key).cloned())
    }

    fn env(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.context.grants.env.get(&name).cloned())
    }

    fn secret(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.context.grants.secrets.get(&name).map(|secret| secret.expose().to_owned()))
    }

    fn log(&mut self, level: LogLevel, message: String) -> wasmtime::Result<()> {
        let level = match level {
            LogLevel::Trace => Level::TRACE,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Info => Level::INFO,
            LogLevel::Warn => Level::WARN,
            LogLevel::Error => Level::ERROR,
        };
        self.call.log.write(&self.context, &self.call.timeline, level, &message);
        Ok(())
    }

    fn remaining(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.call.deadline.remaining().as_nanos()).unwrap_or(u64::MAX))
    }

    async fn sleep(&mut self, nanoseconds: u64) -> wasmtime::Result<()> {
        // Where the call ends before, this is dropped with it: the guest does not wake up to answer too late.
        tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
        Ok(())
    }

    async fn infer(
        &mut self,
        model: String,
        version: Option<String>,
        inputs: Vec<WitNamedTensor>,
    ) -> wasmtime::Result<Result<Vec<WitNamedTensor>, InferError>> {
        let inputs = convert::take_all(self, inputs)?;
        let asked = self.peer_request(&model, version.as_deref(), inputs);
        let answer = match asked {
            Ok((peers, request)) => {
                let PluginContext { model, version, .. } = &*self.context;
                let callers = self.call.callers.clone().and(model.clone(), *version);
                peers.infer(request, callers, &self.call.timeline).await
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(response) => self.receive(response.outputs).map(Ok),
            Err(error) => {
                self.call.was_refused |= error.is_refused();
                Ok(Err(InferError { code: error.code().to_string(), message: error.message().to_owned() }))
            }
        }
    }
}

impl HostState {
    /// Another model's outputs, charged to this call.
    fn receive(&mut self, outputs: Vec<NamedTensor>) -> wasmtime::Result<Vec<WitNamedTensor>> {
        let mut receive_one = |NamedTensor { name, tensor }| {
            let tensor = self.charge(tensor)?;
            Ok(WitNamedTensor { name, tensor: self.keep(tensor)? })
        };
        outputs.into_iter().map(&mut receive_one).collect()
    }

    fn peer_request(
        &self,
        model: &str,
        version: Option<&str>,
        inputs: Vec<NamedTensor>,
    ) -> Result<(Arc<dyn crate::Peers>, Request), Error> {
        let name = model.parse().map_err(|error| Error::invalid(format!("{error}")))?;
        let version =
            version.map(str::parse).transpose().map_err(|error| Error::invalid(format!("{error}")))?;
        let denied = |message: String| Error::new(ErrorCode::PermissionDenied, message);
        if !self.context.grants.models.contains(&name) {
            return Err(denied(format!(
                "a call of model '{name}' is not granted: list it as `models` under [grants] in model.toml"
            )));
        }
        if self.call.callers.depth() >= MAX_DEPTH {
            return Err(denied(format!("models call each other more than {MAX_DEPTH} deep")));
        }
        let peers = self
            .context
            .peers
            .clone()
            .ok_or_else(|| denied("this host serves no other models".to_owned()))?;
        let request = Request {
            model: ModelRef { name, version },
            id: self.call.request_id.clone(),
            parameters: Parameters::new(),
            inputs,
            outputs: Vec::new(),
            deadline: Some(self.call.deadline),
            priority: self.call.priority,
            sequence: None,
        };
        Ok((peers, request))
    }
}
