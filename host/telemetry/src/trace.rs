//! Traces of requests, sent by OTLP over gRPC.
//!
//! Contract: a traced request is a span `request`, the child of the caller's where it came with one; in it are `queue`,
//! `guest` and `compute`, and the requests to other models that its plugin makes. Waits and runs that the plugin led to are
//! within `guest`. The spans are written when the request has ended, from the moments that its timeline kept, and sent by a
//! thread of their own; what cannot be sent is lost, and the log says so once. Cost: nothing for a request that is not
//! traced. Left out: TLS to the collector, for which nothing is compiled in: a collector runs beside the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use vespid_types::{End, ErrorCode, Record, Stage, Stay, Tag, Timeline};

/// A protocol that requests come by.
#[derive(Debug)]
pub struct Protocol {
    /// Its name in metrics, spans and the log.
    pub name: &'static str,
    /// The status that a request ends with; without a failure where it is answered.
    pub status: fn(Option<ErrorCode>) -> i64,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error(
    "no traces can be sent to '{endpoint}': give --otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT) as http://HOST:PORT"
)]
pub struct TraceError {
    endpoint: String,
    source: opentelemetry_otlp::ExporterBuildError,
}

/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(5);

/// Where spans go.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Begins to send spans to `endpoint`. Within a runtime, which carries the connection.
    pub(crate) fn start(endpoint: &str) -> Result<Self, TraceError> {
        let exporter = OtlpExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.map_err(|source| TraceError { endpoint: endpoint.to_owned(), source })?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            // What is sampled is decided before a span is begun.
            .with_sampler(Sampler::AlwaysOn)
            .with_batch_exporter(Told {
                exporter,
                endpoint: endpoint.to_owned(),
                failing: AtomicBool::new(false),
            })
            .build();
        let tracer = provider.tracer("vespid");
        Ok(Self { provider, tracer })
    }

    /// The timeline of a traced request, the child of `parent` where there is one.
    pub(crate) fn timeline(&self, protocol: &'static Protocol, parent: Option<SpanContext>) -> Timeline {
        let clock = Clock::now();
        let context =
            parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let span = SpanBuilder::from_name("request").with_kind(SpanKind::Server).with_start_time(clock.wall);
        let span = self.tracer.build_with_context(span, &context);
        let tag = tag(span.span_context());
        let (tracer, context) = (self.tracer.clone(), Context::new().with_span(span));
        let sink =
            move |record: Record| Writer { tracer: &tracer, clock }.write(&context, Some(protocol), &record);
        Timeline::recorded(tag, Box::new(sink))
    }

    /// Sends what is left. Blocks.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::warn!("the last spans could not be sent: {error}");
        }
    }
}

fn resource() -> Resource {
    const NAME: Key = Key::from_static_str("service.name");
    let resource =
        || Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let detected = resource().build();
    // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have been looked at.
    match detected.get_ref(&NAME) {
        Some(name) if !name.as_str().starts_with("unknown_service") => detected,
        _ => resource().with_service_name("vespid").build(),
    }
}

/// The trace that a caller's request is part of, by the headers of W3C's Trace Context.
pub(crate) fn parent<'a>(header: &dyn Fn(&str) -> Option<&'a str>) -> Option<SpanContext> {
    // Most requests have none, and cost no more than this.
    header("traceparent")?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(header));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

struct Headers<'a, 'f>(&'f dyn Fn(&str) -> Option<&'a str>);

impl Extractor for Headers<'_, '_> {
    fn get(&self, key: &str) -> Option<&str> {
        (self.0)(key)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// What names a request of this trace in the log.
pub(crate) fn tag(span: &SpanContext) -> Tag {
    Tag::of_trace(u128::from_be_bytes(span.trace_id().to_bytes()))
}

/// What turns moments of the monotonic clock into times.
#[derive(Clone, Copy)]
struct Clock {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    fn time(&self, moment: Instant) -> SystemTime {
        let forward = self.wall + moment.saturating_duration_since(self.monotonic);
        let back = self.monotonic.saturating_duration_since(moment);
        forward.checked_sub(back).unwrap_or(forward)
    }
}

/// Writes a request's record as spans.
struct Writer<'a> {
    tracer: &'a SdkTracer,
    clock: Clock,
}

impl Writer<'_> {
    /// Writes what `context`'s span, which is the request's own, is still to have, and its children.
    fn write(&self, context: &Context, protocol: Option<&Protocol>, record: &Record) {
        self.describe(context, protocol, record);
        let guest = self.guest(context, &record.stays);
        let within = |moment: Instant| match &guest {
            Some((guest, began, ended)) if (*began..*ended).contains(&moment) => guest,
            _ => context,
        };
        for stay in &record.stays {
            self.stay(within(stay.began), stay);
        }
        for peer in &record.peers {
            let span = self.begin("request", within(peer.began), peer.began);
            self.write(&Context::new().with_span(span), None, peer);
        }
        if let Some((guest, _, ended)) = &guest {
            guest.span().end_with_timestamp(self.clock.time(*ended));
        }
        context.span().end_with_timestamp(self.clock.time(record.ended));
    }

    fn describe(&self, context: &Context, protocol: Option<&Protocol>, record: &Record) {
        let span = context.span();
        span.set_attribute(KeyValue::new("model", record.model.to_string()));
        span.set_attribute(KeyValue::new("version", record.version.to_string()));
        span.set_attribute(KeyValue::new("protocol", protocol.map_or("plugin", |protocol| protocol.name)));
        if let Some(id) = &record.id {
            span.set_attribute(KeyValue::new("request_id", id.clone()));
        }
        if record.dropped > 0 {
            span.set_attribute(KeyValue::new("dropped", i64::try_from(record.dropped).unwrap_or(i64::MAX)));
        }
        let code = match &record.end {
            End::Answered => None,
            End::Failed { code, message } => {
                span.set_attribute(KeyValue::new("error.type", code.as_str()));
                span.set_status(Status::error(message.clone()));
                Some(*code)
            }
            End::Left => {
                span.set_attribute(KeyValue::new("error.type", "CANCELLED"));
                span.set_status(Status::error("the caller left"));
                return;
            }
        };
        if let Some(protocol) = protocol {
            span.set_attribute(KeyValue::new("status_code", (protocol.status)(code)));
        }
    }

    /// The span of the plugin's run, from its first moment to its last.
    fn guest(&self, context: &Context, stays: &[Stay]) -> Option<(Context, Instant, Instant)> {
        let mut guest = stays.iter().filter(|stay| stay.stage == Stage::Guest);
        let first = guest.next()?;
        let ended = guest.next_back().unwrap_or(first).ended;
        let span = self.begin("guest", context, first.began);
        Some((Context::new().with_span(span), first.began, ended))
    }

    fn stay(&self, context: &Context, stay: &Stay) {
        let name = match stay.stage {
            Stage::Queue => "queue",
            Stage::Compute => "compute",
            Stage::Input | Stage::Guest | Stage::Output | Stage::Between => return,
        };
        let mut span = self.begin(name, context, stay.began);
        if let Some(run) = &stay.run {
            span.set_attribute(KeyValue::new("graph", run.graph.to_string()));
            span.set_attribute(KeyValue::new("rows", i64::try_from(run.rows).unwrap_or(i64::MAX)));
        }
        span.end_with_timestamp(self.clock.time(stay.ended));
    }

    fn begin(&self, name: &'static str, context: &Context, began: Instant) -> opentelemetry_sdk::trace::Span {
        let span = SpanBuilder::from_name(name).with_start_time(self.clock.time(began));
        self.tracer.build_with_context(span, context)
    }
}

/// An exporter that says when spans begin to be lost, and when they no longer are.
#[derive(Debug)]
struct Told {
    exporter: OtlpExporter,
    endpoint: String,
    failing: AtomicBool,
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                tracing::warn!(endpoint = self.endpoint, "spans are lost, for they cannot be sent: {error}");
            }
            Ok(()) if failed_before => tracing::info!(endpoint = self.endpoint, "spans are sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_caller_s_trace_is_read_from_its_headers() {
        let header = |name: &str| match name {
            "traceparent" => Some(PARENT),
            "tracestate" => Some("vendor=1"),
            _ => None,
        };
        let parent = parent(&header).unwrap();
        assert!(parent.is_sampled() && parent.is_remote());
        assert_eq!(parent.span_id().to_string(), "b7ad6b7169203331");
        assert_eq!(parent.trace_state().header(), "vendor=1");
        assert_eq!(tag(&parent).to_string(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn what_is_no_trace_is_none() {
        for bad in
            ["", "00", "00-0-0-0", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-é-ü-ß"]
        {
            assert!(parent(&|name| (name == "traceparent").then_some(bad)).is_none(), "{bad}");
        }
        assert!(parent(&|_| None).is_none());
    }

    #[test]
    fn moments_are_times_on_either_side() {
        let clock = Clock::now();
        let second = Duration::from_secs(1);
        assert_eq!(clock.time(clock.monotonic + second), clock.wall + second);
        if let Some(before) = clock.monotonic.checked_sub(second) {
            assert_eq!(clock.time(before), clock.wall - second);
        }
    }
}
