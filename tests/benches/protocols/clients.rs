//! Clients of each protocol, which always have a number of requests under way.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::servers::Address;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]
pub(crate) mod proto {
    tonic::include_proto!("inference");
}

use proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use proto::model_infer_request::InferInputTensor;
use proto::{ModelInferRequest, ModelInferResponse};

pub(crate) const PROTOCOLS: [&str; 3] = ["REST, JSON", "REST, binary", "gRPC"];

/// What is asked.
pub(crate) struct Request {
    pub(crate) model: &'static str,
    pub(crate) input: &'static str,
    pub(crate) shape: Vec<i64>,
    pub(crate) values: Vec<f32>,
}

pub(crate) enum Client {
    Http { connections: Vec<TcpStream>, request: Vec<u8> },
    Grpc { channels: Vec<GrpcInferenceServiceClient<Channel>>, request: ModelInferRequest },
}

impl Client {
    /// Connects, and sees that it is answered: a model by outputs.
    pub(crate) async fn connect(
        protocol: &str,
        kind: &str,
        server: Address,
        request: &Request,
        concurrency: usize,
    ) -> Self {
        let mut client = match protocol {
            "gRPC" => Self::grpc(server.grpc, request, concurrency).await,
            "REST, binary" => Self::http(server.http, request.binary(), concurrency).await,
            _ => Self::http(server.http, request.json(), concurrency).await,
        };
        let answered = client.answer().await;
        assert!(kind == "bare" || answered, "{} by {protocol} has no outputs", request.model);
        client
    }

    async fn http(server: SocketAddr, request: Vec<u8>, concurrency: usize) -> Self {
        let connect = async |_| {
            let stream = TcpStream::connect(server).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        Self::Http { connections: join_all((0..concurrency).map(connect)).await, request }
    }

    async fn grpc(server: SocketAddr, request: &Request, concurrency: usize) -> Self {
        let connect = async |_| {
            let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
            GrpcInferenceServiceClient::new(endpoint.connect().await.unwrap())
        };
        Self::Grpc { channels: join_all((0..concurrency).map(connect)).await, request: request.message() }
    }

    /// Whether the answer to one request has outputs.
    async fn answer(&mut self) -> bool {
        match self {
            Self::Http { connections, request } => {
                let answer = ask_http(&mut connections[0], request).await;
                String::from_utf8_lossy(&answer).contains("\"outputs\":[{")
            }
            Self::Grpc { channels, request } => {
                !ask_grpc(&mut channels[0], request.clone()).await.raw_output_contents.is_empty()
            }
        }
    }

    /// Sends `requests` in all.
    pub(crate) async fn run(&mut self, requests: usize) {
        match self {
            Self::Http { connections, request } => {
                let each = requests.div_ceil(connections.len());
                join_all(connections.iter_mut().map(async |connection| {
                    for _ in 0..each {
                        ask_http(connection, request).await;
                    }
                }))
                .await;
            }
            Self::Grpc { channels, request } => {
                let each = requests.div_ceil(channels.len());
                join_all(channels.iter_mut().map(async |channel| {
                    for _ in 0..each {
                        ask_grpc(channel, request.clone()).await;
                    }
                }))
                .await;
            }
        }
    }
}

async fn ask_grpc(
    channel: &mut GrpcInferenceServiceClient<Channel>,
    request: ModelInferRequest,
) -> ModelInferResponse {
    channel.model_infer(request).await.unwrap().into_inner()
}

async fn ask_http(connection: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    connection.write_all(request).await.unwrap();
    let mut received = Vec::new();
    loop {
        assert!(connection.read_buf(&mut received).await.unwrap() > 0, "the server hung up");
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&received[..end]);
        assert!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&received));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if received.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return received.split_off(end + 4);
        }
    }
}

impl Request {
    fn head(&self, headers: &str, length: usize) -> String {
        let model = self.model;
        format!(
            "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n"
        )
    }

    fn json(&self) -> Vec<u8> {
        let Self { input, shape, values, .. } = self;
        let body = format!(
            r#"{{"inputs":[{{"name":"{input}","shape":{shape:?},"datatype":"FP32","data":{values:?}}}]}}"#
        );
        [self.head("content-type: application/json\r\n", body.len()), body].concat().into_bytes()
    }

    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn binary(&self) -> Vec<u8> {
        let Self { input, shape, .. } = self;
        let bytes = self.bytes();
        let json = format!(
            r#"{{"inputs":[{{"name":"{input}","shape":{shape:?},"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
            bytes.len()
        );
        let header = format!("inference-header-content-length: {}\r\n", json.len());
        [self.head(&header, json.len() + bytes.len()).into_bytes(), json.into_bytes(), bytes].concat()
    }

    fn message(&self) -> ModelInferRequest {
        ModelInferRequest {
            model_name: self.model.to_owned(),
            inputs: vec![InferInputTensor {
                name: self.input.to_owned(),
                datatype: "FP32".to_owned(),
                shape: self.shape.clone(),
                ..Default::default()
            }],
            raw_input_contents: vec![self.bytes().into()],
            ..Default::default()
        }
    }
}
