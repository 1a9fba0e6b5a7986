//! Models that are loaded, unloaded and configured.

use std::collections::HashMap;

use tonic::Code;
use vespid_tests::archive::Archive;
use vespid_tests::server::Server;

use super::client::proto::model_repository_parameter::ParameterChoice;
use super::client::proto::*;
use super::client::{Client, assert_setosa, assert_status, flower};

fn load(model: &str, parameters: &[(&str, ParameterChoice)]) -> RepositoryModelLoadRequest {
    let parameter = |(name, choice): &(&str, ParameterChoice)| {
        ((*name).to_owned(), ModelRepositoryParameter { parameter_choice: Some(choice.clone()) })
    };
    RepositoryModelLoadRequest {
        model_name: model.to_owned(),
        parameters: parameters.iter().map(parameter).collect::<HashMap<_, _>>(),
        ..RepositoryModelLoadRequest::default()
    }
}

fn text(text: &str) -> ParameterChoice {
    ParameterChoice::StringParam(text.to_owned())
}

fn config(client: &Client, model: &str) -> ModelConfig {
    let request = ModelConfigRequest { name: model.to_owned(), version: String::new() };
    client.wait(client.service().model_config(request)).unwrap().config.unwrap()
}

#[test]
fn models_are_taken_out_of_service_and_brought_back() {
    let server = Server::with(&["iris"]);
    let client = Client::of(&server);
    let mut service = client.service();
    let unload = RepositoryModelUnloadRequest { model_name: "iris".into(), ..Default::default() };
    assert!(client.wait(service.repository_model_unload(unload)).unwrap().is_unloaded);
    assert_eq!(server.index(), ["iris 1 UNAVAILABLE unloaded"]);
    assert_status(client.infer(flower()), Code::NotFound, "Request for unknown model");
    assert!(client.wait(service.repository_model_load(load("iris", &[]))).unwrap().is_loaded);
    assert_setosa(client.infer(flower()));
    let unknown = client.wait(service.repository_model_load(load("nothing", &[])));
    assert_status(unknown, Code::NotFound, "failed to load 'nothing', failed to poll from model repository");
}

#[test]
fn a_configuration_is_what_it_is_over_http() {
    let server = Server::with(&["iris", "iris-native"]);
    let client = Client::of(&server);
    let mut service = client.service();
    let plain = config(&client, "iris-native");
    let http = server.get("/v2/models/iris-native/config").json();
    assert_eq!(http["max_batch_size"], plain.max_batch_size);
    assert_eq!(http["input"][0]["dims"], serde_json::json!(plain.input[0].dims));
    assert_eq!(http["input"][0]["data_type"], plain.input[0].data_type().as_str_name());
    let asked = text(r#"{"max_batch_size": "8"}"#);
    client.wait(service.repository_model_load(load("iris-native", &[("config", asked)]))).unwrap();
    assert_eq!(config(&client, "iris-native").max_batch_size, 8);
    client.wait(service.repository_model_load(load("iris-native", &[]))).unwrap();
    assert_eq!(config(&client, "iris-native"), plain);
    for (parameters, message) in [
        ([("config", ParameterChoice::BoolParam(true))], "parameters: 'config' is not a string_param"),
        ([("config", text(r#"{"metric_tags": {"a": "b"}}"#))], "config: metric_tags"),
        ([("file:1/model.onnx", text("AA=="))], "parameters: 'file:1/model.onnx' is not a bytes_param"),
        ([("more", text("x"))], "parameters: 'more': it is not known"),
    ] {
        let answer = client.wait(service.repository_model_load(load("iris-native", &parameters)));
        assert_status(answer.clone(), Code::InvalidArgument, message);
        assert_status(answer, Code::InvalidArgument, "failed to load 'iris-native', ");
    }
}

#[test]
fn files_come_as_they_are() {
    let server = Server::with(&[]);
    let client = Client::of(&server);
    let iris = Archive::built("iris");
    let file = |name: &str| ParameterChoice::BytesParam(iris.data(name).to_vec().into());
    let files = [
        ("config", text("{}")),
        ("file:3/iris.wasm", file("iris.wasm")),
        ("file:3/iris.onnx", file("iris.onnx")),
    ];
    client.wait(client.service().repository_model_load(load("iris", &files))).unwrap();
    assert_eq!(server.index(), ["iris 3 READY"]);
    assert_setosa(client.infer(flower()));
}
