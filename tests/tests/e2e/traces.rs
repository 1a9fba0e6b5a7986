//! Traces by OTLP, to a receiver of the test's own; and the settings of traces.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use vespid_tests::oip::{assert_setosa, flower, kind};
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

pub(super) const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a collector has been sent.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector that ends with the value that stands for it.
pub(super) struct Collector {
    received: Received,
    endpoint: String,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub(super) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let received = Received::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(received.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(serving);
        Self { received, endpoint, _runtime: runtime }
    }

    /// A server that sends its traces here, soon.
    pub(super) fn server(&self, arguments: &[&str], models: &[&str]) -> (Home, Server) {
        let home = Home::default();
        let arguments = [&["--otlp-endpoint", &self.endpoint][..], arguments].concat();
        let server = home.start_in(&arguments, &[("OTEL_BSP_SCHEDULE_DELAY", "50")]);
        models.iter().for_each(|model| server.push(model));
        (home, server)
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.0.lock().unwrap();
        let scopes =
            received.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    pub(super) fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    fn resource(&self) -> BTreeMap<String, String> {
        let received = self.received.0.lock().unwrap();
        attributes(&received[0].resource_spans[0].resource.as_ref().unwrap().attributes)
    }
}

pub(super) fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    attributes.iter().filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?))).collect()
}

fn hex_of(id: &[u8]) -> String {
    hex::encode(id)
}

#[test]
fn a_request_is_a_span_of_its_caller_s_trace_with_its_parts_in_it() {
    let collector = Collector::start();
    let (_home, server) = collector.server(&[], &["iris"]);
    let mut asked = flower();
    asked["id"] = json!("mine");
    let body = serde_json::to_vec(&asked).unwrap();
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1")];
    assert_setosa(&server.send("POST", "/v2/models/iris/infer", &headers, &body));
    server.stop();
    // The end of the server sends what is left.
    let [request] = &collector.named("request")[..] else { panic!("{:#?}", collector.spans()) };
    assert_eq!(hex_of(&request.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex_of(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(request.trace_state, "vendor=1");
    let told = attributes(&request.attributes);
    let told: Vec<(&str, &str)> = told.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("model", "iris"),
        ("protocol", "http"),
        ("request_id", "mine"),
        ("status_code", "200"),
        ("version", "1"),
    ];
    assert_eq!(told, expected);

    let [guest] = &collector.named("guest")[..] else { panic!("{:#?}", collector.spans()) };
    assert_eq!(guest.parent_span_id, request.span_id);
    let mut last = guest.start_time_unix_nano;
    for name in ["queue", "compute"] {
        let [span] = &collector.named(name)[..] else { panic!("{name}: {:#?}", collector.spans()) };
        assert_eq!(span.parent_span_id, guest.span_id);
        assert_eq!(span.trace_id, request.trace_id);
        assert!(last <= span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano);
        last = span.end_time_unix_nano;
    }
    assert!(last <= guest.end_time_unix_nano && guest.end_time_unix_nano <= request.end_time_unix_nano);
    let compute = attributes(&collector.named("compute")[0].attributes);
    assert_eq!((compute["graph"].as_str(), compute["rows"].as_str()), ("iris", "1"));
    assert_eq!(collector.resource()["service.name"], "vespid");
}

#[test]
fn what_a_model_without_a_plugin_does_is_in_its_request() {
    let collector = Collector::start();
    let (_home, server) = collector.server(&["--trace-rate", "1"], &["iris-native"]);
    assert_eq!(server.infer("iris-native", &flower()).status, 200);
    server.stop();
    let [request] = &collector.named("request")[..] else { panic!("{:#?}", collector.spans()) };
    assert!(request.parent_span_id.is_empty(), "it is the root of a trace");
    for name in ["queue", "compute"] {
        let [span] = &collector.named(name)[..] else { panic!("{name}: {:#?}", collector.spans()) };
        assert_eq!(span.parent_span_id, request.span_id);
    }
    assert!(collector.named("guest").is_empty());
}

#[test]
fn a_failure_is_told_with_its_status() {
    let collector = Collector::start();
    let (_home, server) = collector.server(&["--trace-rate", "1"], &["trap"]);
    assert_eq!(server.infer("trap", &kind(0)).status, 500);
    server.stop();
    let [request] = &collector.named("request")[..] else { panic!("{:#?}", collector.spans()) };
    let told = attributes(&request.attributes);
    assert_eq!((told["status_code"].as_str(), told["error.type"].as_str()), ("500", "PLUGIN_FAILED"));
    assert!(request.status.as_ref().unwrap().message.contains("the plugin trapped"));
}

#[test]
fn settings_turn_traces_on_and_off() {
    let collector = Collector::start();
    let (_home, server) = collector.server(&[], &["iris", "iris-native"]);
    let all = server.get("/v2/trace/setting").json();
    let expected = json!({
        "trace_level": ["TIMESTAMPS"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
        "trace_file": "", "trace_mode": "opentelemetry",
    });
    assert_eq!(all, expected);
    let change = |path: &str, settings| {
        let answer = server.post(path, &settings);
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    };
    let own = change("/v2/models/iris/trace/setting", json!({"trace_rate": "2", "trace_count": "2"}));
    assert_eq!((own["trace_rate"].as_str(), own["trace_count"].as_str()), (Some("2"), Some("2")));
    let off = change("/v2/trace/setting", json!({"trace_level": ["OFF"]}));
    assert_eq!(off["trace_level"], json!(["OFF"]));
    assert_eq!(server.get("/v2/models/iris/trace/setting").json()["trace_level"], json!(["OFF"]));
    (0..4).for_each(|_| assert_setosa(&server.infer("iris", &flower())));
    change("/v2/models/iris/trace/setting", json!({"trace_level": "TIMESTAMPS"}));
    (0..9).for_each(|_| assert_setosa(&server.infer("iris", &flower())));
    assert_eq!(server.get("/v2/models/iris/trace/setting").json()["trace_count"], "0");
    assert_eq!(server.infer("iris-native", &flower()).status, 200);
    let cleared = json!({"trace_level": null, "trace_rate": null, "trace_count": null});
    assert_eq!(change("/v2/models/iris/trace/setting", cleared), off);
    server.post("/v2/trace/setting", &json!({"trace_file": "/tmp/x"})).assert_error(501, "trace_file");
    server.post("/v2/models/none/trace/setting", &json!({})).assert_error(404, "Request for unknown model");
    server.stop();
    assert_eq!(collector.named("request").len(), 2, "every second one, and two of them");
}

#[test]
fn without_a_collector_there_are_no_traces() {
    let server = Server::with(&["iris"]);
    assert_eq!(server.get("/v2/trace/setting").json()["trace_level"], json!(["OFF"]));
    let asked = json!({"trace_level": ["TIMESTAMPS"]});
    server
        .post("/v2/trace/setting", &asked)
        .assert_error(501, "trace_level: there is nowhere to send traces");
    // One that is not there costs its spans alone.
    let home = Home::default();
    let server = home.start_in(
        &["--otlp-endpoint", "http://127.0.0.1:9", "--trace-rate", "1"],
        &[("OTEL_BSP_SCHEDULE_DELAY", "50")],
    );
    server.push("iris");
    assert_setosa(&server.infer("iris", &flower()));
    wait::until("the log says so", || server.log().contains("spans are lost").then_some(()));
    server.stop();
}

#[test]
fn the_environment_says_where_traces_go_and_who_sends_them() {
    let collector = Collector::start();
    let home = Home::default();
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()), ("OTEL_SERVICE_NAME", "flowers")];
    let server = home.start_in(&["--trace-rate", "1"], &environment);
    server.push("iris");
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
    assert_eq!(collector.named("request").len(), 1);
    assert_eq!(collector.resource()["service.name"], "flowers");
    // Time for what may still come, which there is none of.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(collector.named("request").len(), 1);
}
