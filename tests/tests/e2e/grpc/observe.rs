//! Traces, metrics, the log and their settings, as a gRPC client sees them.

use std::collections::HashMap;

use tonic::{Code, Request};
use vespid_tests::http;
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

use super::client::proto::log_settings_request::SettingValue as LogValue;
use super::client::proto::log_settings_request::setting_value::ParameterChoice as Choice;
use super::client::proto::log_settings_response::setting_value::ParameterChoice as Told;
use super::client::proto::trace_setting_request::SettingValue as TraceValue;
use super::client::proto::{LogSettingsRequest, TraceSettingRequest};
use super::client::{Client, assert_setosa, assert_status, flower, kind};
use crate::traces::{Collector, PARENT, attributes};

#[test]
fn a_call_is_a_span_of_its_caller_s_trace() {
    let collector = Collector::start();
    let (_home, server) = collector.server(&[], &["iris", "trap"]);
    let client = Client::of(&server);
    let traced = |message| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
        request
    };
    assert_setosa(client.infer(traced(flower())));
    assert_status(client.infer(traced(kind("trap", 0))), Code::Internal, "the plugin trapped");
    drop(client);
    server.stop();
    let told: Vec<_> = collector
        .named("request")
        .iter()
        .map(|span| {
            assert_eq!(hex::encode(&span.parent_span_id), "b7ad6b7169203331");
            let told = attributes(&span.attributes);
            ["model", "protocol", "status_code"].map(|name| told[name].clone()).join(" ")
        })
        .collect();
    assert_eq!(told, ["iris grpc 0", "trap grpc 13"]);
    assert_eq!(collector.named("guest").len(), 2);
}

#[test]
fn calls_are_counted_and_logged_with_their_status() {
    let home = Home::default();
    let server = home.start_in(&["--log-format", "json"], &[("VESPID_LOG", "info,vespid=debug")]);
    server.push("iris");
    let client = Client::of(&server);
    let mut asked = flower();
    asked.id = "mine".to_owned();
    assert_setosa(client.infer(asked));
    let mut unknown = flower();
    unknown.model_name = "unknown".to_owned();
    assert_status(client.infer(unknown), Code::NotFound, "unknown model");
    let metrics = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]);
    let metrics = String::from_utf8(metrics.body).unwrap();
    for sample in [
        r#"vespid_requests{code="OK",protocol="grpc"} 1"#,
        r#"vespid_requests{code="NotFound",protocol="grpc"} 1"#,
        r#"nv_inference_request_success{model="iris",version="1"} 1"#,
    ] {
        assert!(metrics.contains(sample), "no {sample} in:\n{metrics}");
    }
    let line = wait::until("the call is logged", || {
        let log = server.log();
        log.lines().find(|line| line.contains("GRPCInferenceService/ModelInfer")).map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let told = ["protocol", "status", "model", "request_id"].map(|field| line[field].as_str().unwrap());
    assert_eq!(told, ["grpc", "OK", "iris", "mine"]);
}

#[test]
fn settings_are_those_of_http() {
    let server = Server::with(&["iris"]);
    let client = Client::of(&server);
    let mut service = client.service();
    let mut trace = |model: &str, settings: &[(&str, &[&str])]| {
        let value =
            |texts: &[&str]| TraceValue { value: texts.iter().map(|&text| text.to_owned()).collect() };
        let settings = settings.iter().map(|(name, texts)| ((*name).to_owned(), value(texts))).collect();
        let request = TraceSettingRequest { settings, model_name: model.to_owned() };
        client.wait(service.trace_setting(request)).map(|response| {
            let told = response.settings.into_iter().map(|(name, setting)| (name, setting.value.join(",")));
            told.collect::<HashMap<_, _>>()
        })
    };
    let all = trace("", &[]).unwrap();
    assert_eq!((&*all["trace_level"], &*all["trace_rate"], all.len()), ("OFF", "1000", 6));
    let own = trace("iris", &[("trace_rate", &["7"]), ("trace_count", &["3"])]).unwrap();
    assert_eq!((&*own["trace_rate"], &*own["trace_count"]), ("7", "3"));
    assert_eq!(server.get("/v2/models/iris/trace/setting").json()["trace_rate"], "7");
    assert_eq!(trace("iris", &[("trace_rate", &[]), ("trace_count", &[])]).unwrap(), all);
    assert_status(trace("", &[("trace_file", &["/tmp/x"])]), Code::Unimplemented, "trace_file");
    assert_status(trace("nothing", &[]), Code::NotFound, "unknown model");

    let mut service = client.service();
    let mut log = |settings: &[(&str, Option<Choice>)]| {
        let value = |choice: &Option<Choice>| LogValue { parameter_choice: choice.clone() };
        let settings = settings.iter().map(|(name, choice)| ((*name).to_owned(), value(choice))).collect();
        client.wait(service.log_settings(LogSettingsRequest { settings })).map(|response| {
            let told = response.settings.into_iter().map(|(name, setting)| (name, setting.parameter_choice));
            told.collect::<HashMap<_, _>>()
        })
    };
    let start = log(&[]).unwrap();
    assert_eq!(start["log_info"], Some(Told::BoolParam(true)));
    assert_eq!(start["log_file"], Some(Told::StringParam(String::new())));
    let changed = log(&[("log_verbose_level", Some(Choice::Uint32Param(1)))]).unwrap();
    assert_eq!(changed["log_verbose_level"], Some(Told::Uint32Param(1)));
    assert_eq!(server.get("/v2/logging").json()["log_verbose_level"], 1);
    assert_eq!(log(&[("log_verbose_level", None)]).unwrap(), start);
    let refused = log(&[("log_info", Some(Choice::Uint32Param(1)))]);
    assert_status(refused, Code::InvalidArgument, "log_info: expected true or false");
}
