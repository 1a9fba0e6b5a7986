//! What the server and its models say of themselves.

use tonic::Code;
use vespid_tests::server::Server;

use super::client::proto::*;
use super::client::{Client, assert_setosa, assert_status, flower};

#[test]
fn the_server_and_its_models_are_described() {
    let server = Server::with(&["iris", "simple"]);
    let client = Client::of(&server);
    let mut service = client.service();
    assert!(client.wait(service.server_live(ServerLiveRequest {})).unwrap().live);
    assert!(client.wait(service.server_ready(ServerReadyRequest {})).unwrap().ready);
    let metadata = client.wait(service.server_metadata(ServerMetadataRequest {})).unwrap();
    let http = server.get("/v2").json();
    assert_eq!(metadata.name, http["name"]);
    assert_eq!(metadata.version, http["version"]);
    assert_eq!(serde_json::json!(metadata.extensions), http["extensions"]);

    let of = |name: &str, version: &str| ModelMetadataRequest { name: name.into(), version: version.into() };
    let simple = client.wait(service.model_metadata(of("simple", ""))).unwrap();
    assert_eq!((&*simple.name, &simple.versions[..]), ("simple", &["1".to_owned()][..]));
    let inputs: Vec<_> =
        simple.inputs.iter().map(|input| (&*input.name, &*input.datatype, &input.shape[..])).collect();
    assert_eq!(inputs, [("INPUT0", "INT32", &[-1, 16][..]), ("INPUT1", "INT32", &[-1, 16])]);
    for (name, version, code, message) in [
        ("nothing", "", Code::NotFound, "Request for unknown model"),
        ("iris", "7", Code::NotFound, "its versions are 1"),
        ("iris", "one", Code::InvalidArgument, "'one' is not a version"),
        ("../iris", "", Code::InvalidArgument, "is not a model name"),
        ("", "", Code::InvalidArgument, "is not a model name"),
    ] {
        assert_status(client.wait(service.model_metadata(of(name, version))), code, message);
    }

    let mut ready = |name: &str, version: &str| {
        let request = ModelReadyRequest { name: name.into(), version: version.into() };
        client.wait(service.model_ready(request)).map(|response| response.ready)
    };
    assert!(ready("iris", "").unwrap() && ready("iris", "1").unwrap());
    assert!(!ready("iris", "2").unwrap() && !ready("nothing", "").unwrap());
}

#[test]
fn what_models_have_done_is_told_as_over_http() {
    let server = Server::with(&["iris", "simple"]);
    let client = Client::of(&server);
    let mut service = client.service();
    assert_setosa(client.infer(flower()));
    let mut of = |name: &str, version: &str| {
        let request = ModelStatisticsRequest { name: name.into(), version: version.into() };
        client.wait(service.model_statistics(request)).map(|response| response.model_stats)
    };
    let counted = of("iris", "1").unwrap();
    let http = &server.get("/v2/models/iris/stats").json()["model_stats"][0];
    assert_eq!(counted.len(), 1);
    assert_eq!(serde_json::json!(counted[0].inference_count), http["inference_count"]);
    assert_eq!(serde_json::json!(counted[0].last_inference), http["last_inference"]);
    let success = counted[0].inference_stats.unwrap().success.unwrap();
    assert_eq!(
        serde_json::json!({"count": success.count, "ns": success.ns}),
        http["inference_stats"]["success"]
    );
    assert_eq!((success.count, counted[0].batch_stats[0].batch_size), (1, 1));
    assert_eq!(of("iris", "").unwrap(), counted);
    let names = of("", "").unwrap().into_iter().map(|model| model.name);
    assert_eq!(names.collect::<Vec<_>>(), ["iris", "simple"]);
    assert_status(of("nothing", ""), Code::NotFound, "Request for unknown model");
    assert_status(of("", "1"), Code::InvalidArgument, "version: it is of no model");

    let index = client.wait(service.repository_index(RepositoryIndexRequest::default())).unwrap().models;
    let index =
        index.iter().map(|entry| format!("{} {} {}{}", entry.name, entry.version, entry.state, entry.reason));
    assert_eq!(index.collect::<Vec<_>>(), server.index());
}

#[test]
fn shared_memory_is_refused_with_the_reason() {
    let server = Server::with(&[]);
    let client = Client::of(&server);
    let mut service = client.service();
    let remedy = "Send tensors in the message";
    let status = service.system_shared_memory_status(SystemSharedMemoryStatusRequest::default());
    assert_status(client.wait(status), Code::Unimplemented, remedy);
    let register = service.cuda_shared_memory_register(CudaSharedMemoryRegisterRequest::default());
    assert_status(client.wait(register), Code::Unimplemented, remedy);
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

#[test]
fn the_health_service_follows_the_server_and_its_models() {
    let server = Server::with(&["iris"]);
    let client = Client::of(&server);
    let check = |service: &str| {
        let request = HealthRequest { service: service.to_owned() };
        let response = client.call::<_, HealthResponse>("/grpc.health.v1.Health/Check", request);
        response.map(|response| response.status)
    };
    for service in ["", "inference.GRPCInferenceService", "iris"] {
        assert_eq!(check(service).unwrap(), SERVING, "{service}");
    }
    assert_status(check("nothing"), Code::NotFound, "neither the inference service nor a model");
    assert_eq!(server.delete("iris", "1").status, 204);
    assert_status(check("iris"), Code::NotFound, "'iris' is neither");
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReflectionRequest {
    #[prost(string, optional, tag = "4")]
    file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReflectionResponse {
    #[prost(bytes, tag = "4")]
    files: Vec<u8>,
    #[prost(bytes, tag = "6")]
    services: Vec<u8>,
}

#[test]
fn reflection_lists_the_services() {
    let server = Server::with(&[]);
    let client = Client::of(&server);
    // A stream of one request is, on the wire, what a call with one message is.
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        let ask = |request| client.call::<_, ReflectionResponse>(path, request).unwrap();
        let list = ReflectionRequest { list_services: Some(String::new()), ..Default::default() };
        let services = ask(list).services;
        let services = String::from_utf8_lossy(&services).into_owned();
        assert!(services.contains("inference.GRPCInferenceService"), "{services}");
        assert!(services.contains("grpc.health.v1.Health"), "{services}");
        let symbol = Some("inference.ModelInferRequest".to_owned());
        let files = ask(ReflectionRequest { file_containing_symbol: symbol, ..Default::default() }).files;
        assert!(String::from_utf8_lossy(&files).contains("raw_input_contents"));
    }
}

#[test]
fn rest_at_the_wrong_port_is_told_so() {
    let server = Server::with(&[]);
    let answer = vespid_tests::http::send("GET", &format!("{}/v2", server.grpc_url()), &[], &[]);
    assert_eq!(answer.status, 505, "{answer}");
    assert!(answer.to_string().contains("this port takes gRPC alone"), "{answer}");
}
