//! A gRPC client that the tests call as a function.

use bytes::Bytes;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use vespid_tests::server::Server;

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

/// Larger than any message here.
const LIMIT: usize = 1 << 30;

pub(crate) type Service = GrpcInferenceServiceClient<Channel>;

/// One connection. Its tasks run beside the test.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    channel: Channel,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Self {
        let runtime = Runtime::new().unwrap();
        let endpoint = Endpoint::from_shared(server.grpc_url()).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel }
    }

    pub(crate) fn service(&self) -> Service {
        Service::new(self.channel.clone()).max_decoding_message_size(LIMIT).max_encoding_message_size(LIMIT)
    }

    /// Waits for a call.
    pub(crate) fn wait<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(call).map(Response::into_inner)
    }

    /// A call of `loop` on a server that takes one call at a time, which is asked until it takes this one.
    pub(crate) fn looping(&self) -> JoinHandle<Result<ModelInferResponse, Status>> {
        let mut service = self.service();
        self.runtime.spawn(async move {
            loop {
                match service.model_infer(kind("loop", 0)).await {
                    Err(status) if status.code() == Code::Unavailable => {}
                    answer => return answer.map(Response::into_inner),
                }
            }
        })
    }

    pub(crate) fn infer(
        &self,
        request: impl tonic::IntoRequest<ModelInferRequest>,
    ) -> Result<ModelInferResponse, Status> {
        self.wait(self.service().model_infer(request))
    }

    /// Calls a method of another service with one message, for which there is one.
    pub(crate) fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut client = tonic::client::Grpc::new(self.channel.clone());
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            client.unary(Request::new(message), PathAndQuery::from_static(path), codec).await
        };
        self.wait(call)
    }
}

/// A request with one raw input.
pub(crate) fn raw(
    model: &str,
    input: &str,
    datatype: &str,
    shape: &[i64],
    data: impl Into<Bytes>,
) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![tensor(input, datatype, shape)],
        raw_input_contents: vec![data.into()],
        ..ModelInferRequest::default()
    }
}

pub(crate) fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

/// The flower that the `iris` models are asked about where any will do.
pub(crate) fn flower() -> ModelInferRequest {
    let data: Vec<u8> = [5.1_f32, 3.5, 1.4, 0.2].into_iter().flat_map(f32::to_le_bytes).collect();
    raw("iris", "measurements", "FP32", &[1, 4], data)
}

/// A request to one of the hostile plugins.
pub(crate) fn kind(model: &str, kind: i32) -> ModelInferRequest {
    raw(model, "kind", "INT32", &[1], kind.to_le_bytes().to_vec())
}

/// Checks that the answer to [`flower`] is right.
#[track_caller]
pub(crate) fn assert_setosa(answer: Result<ModelInferResponse, Status>) {
    assert_eq!(answer.unwrap().output("species"), &b"\x06\0\0\0setosa"[..]);
}

pub(crate) trait Outputs {
    /// The raw content of an output.
    fn output(&self, name: &str) -> &Bytes;
}

impl Outputs for ModelInferResponse {
    fn output(&self, name: &str) -> &Bytes {
        let place = self.outputs.iter().position(|output| output.name == name);
        &self.raw_output_contents[place.unwrap_or_else(|| panic!("no output '{name}': {self:?}"))]
    }
}

/// A status with this code and a message that has this in it.
#[track_caller]
pub(crate) fn assert_status<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.unwrap_err();
    assert!(status.code() == code && status.message().contains(message), "{status:?}");
}
