//! Metrics, traces and logs of a serving process.
//!
//! Contract: [`Telemetry`] is what the ports ask: a [`Timeline`] for each inference, which is traced where the settings say
//! so, the text for Prometheus, and the settings themselves. [`Log`] is the process's log. Cost: for a request that is not
//! traced a look at one header. Left out on purpose: what is counted and measured, which is the serving core's business,
//! and wire formats, which are `ingress`'s.

mod density;
mod exchange;
mod log;
mod machine;
mod metrics;
mod sampling;
mod trace;

use std::sync::Arc;

use prometheus::core::Collector;
use vespid_serving::Predictor;
use vespid_types::{Error, ErrorCode, ModelName, Tag, Timeline};

pub use density::AllocatorStats;
pub use exchange::{Exchange, Subject};
pub use log::{Log, LogChange, LogError, LogFormat, LogSettings};
pub use sampling::{Change, DEFAULT_TRACE_RATE, TraceChange, TraceLevel, TraceSettings};
pub use trace::{Protocol, TraceError};

use metrics::Metrics;
use sampling::Sampling;
use trace::Traces;

/// What a [`Telemetry`] is made from.
#[derive(Default)]
pub struct TelemetryOptions {
    /// Where traces are sent, as `http://HOST:PORT`; nowhere where it is not said.
    pub otlp_endpoint: Option<String>,
    /// Which requests are traced at first, where traces are sent.
    pub trace: TraceSettings,
    /// The process's log, where its settings are to be changed.
    pub log: Option<Log>,
    /// What tells of the process's allocator.
    pub allocator: Option<AllocatorStats>,
}

/// Bytes of a caller's header that name a request in each of its lines.
const MAX_ID: usize = 128;

/// What is told of this process. Clones share everything.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    traces: Option<Traces>,
    sampling: Sampling,
    log: Option<Log>,
}

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Traces cannot be sent.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Two metrics have one name.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Telemetry {
    /// Telemetry of the models that `predictor` has. Within a runtime where traces are sent.
    ///
    /// # Errors
    /// Where traces cannot be sent to the endpoint.
    pub fn new(predictor: Predictor, options: TelemetryOptions) -> Result<Self, TelemetryError> {
        let TelemetryOptions { otlp_endpoint, trace, log, allocator } = options;
        let traces = otlp_endpoint.as_deref().map(Traces::start).transpose()?;
        let trace = if traces.is_some() { trace } else { TraceSettings { level: TraceLevel::Off, ..trace } };
        let (metrics, sampling) = (Metrics::new(predictor, allocator)?, Sampling::new(trace));
        Ok(Self(Arc::new(Inner { metrics, traces, sampling, log })))
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Adds metrics of another part of the process.
    ///
    /// # Errors
    /// Where two metrics have one name.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), TelemetryError> {
        Ok(self.0.metrics.register(collector)?)
    }

    /// The metrics in Prometheus's text format.
    ///
    /// # Errors
    /// `INTERNAL` where they cannot be written.
    pub fn metrics_text(&self) -> Result<String, Error> {
        let failed = |error| Error::internal("the metrics cannot be written").with_source(error);
        self.0.metrics.text().map_err(failed)
    }

    /// The timeline of an inference that begins now. `header` finds the request's headers or metadata by their names in
    /// lower case: `traceparent` and `tracestate` say which trace it is part of; where it is of none, `x-request-id` names
    /// it in the log.
    pub fn timeline<'a>(
        &self,
        protocol: &'static Protocol,
        model: &ModelName,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Timeline {
        let Inner { traces, sampling, .. } = &*self.0;
        let parent = trace::parent(&header);
        let sampled = parent.as_ref().map(opentelemetry::trace::SpanContext::is_sampled);
        match traces {
            Some(traces) if sampling.takes(model, sampled) => traces.timeline(protocol, parent),
            _ => match (parent, header("x-request-id")) {
                (Some(parent), _) => Timeline::tagged(trace::tag(&parent)),
                (None, Some(id)) if id.len() <= MAX_ID => Timeline::tagged(Tag::of_text(id)),
                _ => Timeline::default(),
            },
        }
    }

    /// Which requests of a model are traced; of all models that have no settings of their own where none is named.
    #[must_use]
    pub fn trace_settings(&self, model: Option<&ModelName>) -> TraceSettings {
        self.0.sampling.settings(model)
    }

    /// Changes which requests are traced.
    ///
    /// # Errors
    /// `UNSUPPORTED` where there is nowhere to send traces.
    pub fn change_trace(
        &self,
        model: Option<&ModelName>,
        change: TraceChange,
    ) -> Result<TraceSettings, Error> {
        if change.level == Change::Set(TraceLevel::Timestamps) && self.0.traces.is_none() {
            let message =
                "trace_level: there is nowhere to send traces: start the server with --otlp-endpoint";
            return Err(Error::new(ErrorCode::Unsupported, message));
        }
        self.0.sampling.change(model, change);
        Ok(self.trace_settings(model))
    }

    /// What of the log is written.
    ///
    /// # Errors
    /// `UNSUPPORTED` where the log is not this one's to say.
    pub fn log_settings(&self) -> Result<LogSettings, Error> {
        Ok(self.log()?.settings())
    }

    /// Changes what of the log is written.
    ///
    /// # Errors
    /// As [`Telemetry::log_settings`].
    pub fn change_log(&self, change: LogChange) -> Result<LogSettings, Error> {
        let failed = |error| Error::internal("the log's filter cannot be changed").with_source(error);
        self.log()?.change(change).map_err(failed)
    }

    fn log(&self) -> Result<&Log, Error> {
        let none =
            || Error::new(ErrorCode::Unsupported, "the log's settings are not this server's to change");
        self.0.log.as_ref().ok_or_else(none)
    }

    /// Sends the traces that are still here. Blocks.
    pub fn flush(&self) {
        if let Some(traces) = &self.0.traces {
            traces.flush();
        }
    }
}
