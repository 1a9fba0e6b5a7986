//! The backend over ONNX Runtime, with the library that `cargo xtask setup onnxruntime` fetched. The library is loaded
//! once a process, and nextest gives each test a process of its own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataLocation, DataType, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor,
    ValueInfoProto,
};
use rten_onnx::protobuf::{EncodeMessage as _, ValueWriter};
use vespid_nn::onnxruntime::OnnxRuntime;
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions, NnError};
use vespid_types::{
    BackendName, Datatype, Deadline, Device, Encoding, ErrorCode, NamedTensor, Priority, Provider, Shape,
    Tensor,
};

fn library() -> PathBuf {
    std::env::var_os("VESPID_ONNXRUNTIME_LIBRARY").expect("run `cargo xtask test`").into()
}

fn backends() -> Backends {
    static BACKENDS: LazyLock<Backends> = LazyLock::new(|| {
        Backends::embedded().with_onnxruntime(Arc::new(OnnxRuntime::open(&library()).unwrap()))
    });
    BACKENDS.clone()
}

fn value(name: &str, kind: DataType, first: Dimension) -> ValueInfoProto {
    let dim = vec![first, Dimension { dim_value: Some(2), ..Default::default() }];
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TypeProtoTensor {
                elem_type: Some(kind),
                shape: Some(TensorShapeProto { dim }),
            }),
            ..Default::default()
        }),
    }
}

fn batch() -> Dimension {
    Dimension { dim_param: Some("batch".to_owned()), ..Default::default() }
}

fn node(operator: &str, domain: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: Some(operator.to_owned()),
        domain: Some(domain.to_owned()),
        input: names(input),
        output: names(output),
        ..Default::default()
    }
}

fn model(graph: GraphProto) -> Vec<u8> {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        ..Default::default()
    };
    let mut file = Vec::new();
    model.encode(ValueWriter::new(&mut file)).unwrap();
    file
}

/// `y` = `x`.
fn identity(kind: DataType) -> Vec<u8> {
    model(GraphProto {
        node: vec![node("Identity", "", &["x"], &["y"])],
        input: vec![value("x", kind, batch())],
        output: vec![value("y", kind, batch())],
        ..Default::default()
    })
}

fn source(data: Vec<u8>) -> GraphSource {
    GraphSource {
        name: "graph".to_owned(),
        data: data.into(),
        weights: None,
        encoding: Encoding::Onnx,
        backend: Some(BackendName::Onnxruntime),
        device: Device::Cpu,
        provider: None,
        threads: NonZero::new(1),
        instances: NonZero::<usize>::MIN,
        lane: LaneOptions::default(),
    }
}

fn load(source: GraphSource) -> Result<Graphs, NnError> {
    Graphs::load(&backends(), vec![source])
}

fn refusal(source: GraphSource) -> String {
    load(source).err().unwrap().to_string()
}

fn x(tensor: Tensor) -> Vec<NamedTensor> {
    vec![NamedTensor { name: "x".to_owned(), tensor }]
}

async fn compute(graphs: &Graphs, tensor: Tensor) -> Result<Tensor, NnError> {
    let lane = &graphs.get("graph").unwrap().lane;
    let computed = lane
        .compute(x(tensor), Deadline::after(Duration::from_secs(60)), Priority::ONLINE, &Arc::default())
        .await?;
    let [NamedTensor { name, tensor }] = <[_; 1]>::try_from(computed).unwrap();
    assert_eq!(name, "y");
    Ok(tensor)
}

const KINDS: [(Datatype, DataType); 13] = [
    (Datatype::Bool, DataType::BOOL),
    (Datatype::Uint8, DataType::UINT8),
    (Datatype::Uint16, DataType::UINT16),
    (Datatype::Uint32, DataType::UINT32),
    (Datatype::Uint64, DataType::UINT64),
    (Datatype::Int8, DataType::INT8),
    (Datatype::Int16, DataType::INT16),
    (Datatype::Int32, DataType::INT32),
    (Datatype::Int64, DataType::INT64),
    (Datatype::Fp16, DataType::FLOAT16),
    (Datatype::Bf16, DataType::BFLOAT16),
    (Datatype::Fp32, DataType::FLOAT),
    (Datatype::Fp64, DataType::DOUBLE),
];

#[tokio::test]
async fn every_datatype_goes_in_and_comes_back_wherever_its_bytes_lie() {
    let backends = backends();
    for (datatype, kind) in KINDS {
        let graphs = Graphs::load(&backends, vec![source(identity(kind))]).unwrap();
        let length = 6 * datatype.size().unwrap();
        // Bytes of 0 and 1 are values of every datatype; an odd place in memory is none for most.
        let bytes: Vec<u8> = (0..=length).map(|place| u8::from(place % 3 == 0)).collect();
        let bytes = bytes::Bytes::from(bytes);
        for data in [bytes.slice(..length), bytes.slice(1..)] {
            let tensor = Tensor::new(datatype, Shape::from(&[3, 2][..]), data).unwrap();
            assert_eq!(compute(&graphs, tensor.clone()).await.unwrap(), tensor, "{datatype}");
        }
        let empty = Tensor::new(datatype, Shape::from(&[0, 2][..]), bytes::Bytes::new()).unwrap();
        assert_eq!(compute(&graphs, empty.clone()).await.unwrap(), empty, "{datatype}");
    }
}

#[tokio::test]
async fn texts_go_in_and_come_back_and_what_is_no_text_is_refused_by_its_place() {
    let graphs = load(source(identity(DataType::STRING))).unwrap();
    let texts = |texts: [&[u8]; 2]| Tensor::from_elements(Shape::from(&[1, 2][..]), &texts).unwrap();
    let good = texts(["grün".as_bytes(), b""]);
    assert_eq!(compute(&graphs, good.clone()).await.unwrap(), good);
    let error = compute(&graphs, texts([b"a", b"b\0c"])).await.unwrap_err();
    assert_eq!(error.code(), vespid_types::ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("'x' element 1 holds a NUL character"), "{error}");
    let error = compute(&graphs, texts([b"\xff", b""])).await.unwrap_err();
    assert!(error.to_string().contains("'x' element 0 is not UTF-8"), "{error}");
}

#[tokio::test]
async fn callers_at_once_share_runs_and_get_their_own_rows() {
    let graphs =
        load(GraphSource { instances: NonZero::new(2).unwrap(), ..source(identity(DataType::INT32)) });
    let graphs = graphs.unwrap();
    let calls = (0..200_i32).map(|number| {
        let graphs = graphs.clone();
        tokio::spawn(async move {
            let data = [number.to_le_bytes(), (-number).to_le_bytes()].concat();
            let tensor = Tensor::new(Datatype::Int32, Shape::from(&[1, 2][..]), data.into()).unwrap();
            assert_eq!(compute(&graphs, tensor.clone()).await.unwrap(), tensor);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[test]
fn what_is_not_there_is_named_and_nothing_takes_its_place() {
    let graph = || source(identity(DataType::FLOAT));
    // The library that set-up fetches is built for the processor.
    let gpu = refusal(GraphSource { device: Device::Gpu(1), ..graph() });
    assert!(
        gpu.starts_with("graph 'graph': device 'gpu:1' is not available to the onnxruntime backend"),
        "{gpu}"
    );
    let tensorrt = GraphSource { device: Device::Gpu(0), provider: Some(Provider::Tensorrt), ..graph() };
    let tensorrt = refusal(tensorrt);
    assert!(tensorrt.contains("provider 'tensorrt' is not available"), "{tensorrt}");
    assert!(tensorrt.contains("was built without it"), "{tensorrt}");
    let mismatch = refusal(GraphSource { provider: Some(Provider::Cuda), ..graph() });
    assert!(mismatch.contains("does not run on device 'cpu'; use device = \"gpu\""), "{mismatch}");

    let automatic = load(GraphSource { device: Device::Auto, ..graph() }).unwrap();
    assert_eq!(automatic.get("graph").unwrap().device, Device::Cpu);

    let without = Graphs::load(&Backends::embedded(), vec![graph()]).err().unwrap().to_string();
    assert!(without.contains("the onnxruntime backend is not loaded"), "{without}");
}

#[test]
fn a_graph_that_names_none_runs_on_onnx_runtime_where_its_library_is() {
    let unnamed = || GraphSource { backend: None, ..source(identity(DataType::FLOAT)) };
    let backend =
        |backends: &Backends| Graphs::load(backends, vec![unnamed()]).unwrap().get("graph").unwrap().backend;
    assert_eq!(backend(&backends()), BackendName::Onnxruntime);
    assert_eq!(backend(&Backends::embedded()), BackendName::Embedded);
}

#[test]
fn bad_graphs_are_refused_with_what_the_library_says() {
    let unknown = model(GraphProto {
        node: vec![node("NoSuchOperator", "", &["x"], &["y"])],
        input: vec![value("x", DataType::FLOAT, batch())],
        output: vec![value("y", DataType::FLOAT, batch())],
        ..Default::default()
    });
    let unknown = load(source(unknown)).err().unwrap();
    assert!(
        unknown.code() == ErrorCode::Unsupported && unknown.to_string().contains("NoSuchOperator"),
        "{unknown}"
    );
    assert!(refusal(source(b"no graph".to_vec())).contains("not an ONNX model"));
    let mut fixed = source(model(GraphProto {
        node: vec![node("Identity", "", &["x"], &["y"])],
        input: vec![value("x", DataType::FLOAT, Dimension { dim_value: Some(1), ..Default::default() })],
        output: vec![value("y", DataType::FLOAT, batch())],
        ..Default::default()
    }));
    fixed.lane.max_rows = Some(8);
    assert!(refusal(fixed).contains("'x' has a fixed first dimension of 1"));
}

#[tokio::test]
async fn operators_of_scikit_learn_s_exports_run_here_and_are_refused_by_the_embedded_backend() {
    let floats = |name: &str, values: [f32; 2]| AttributeProto {
        name: Some(name.to_owned()),
        floats: values.to_vec(),
        r#type: Some(AttributeType::FLOATS),
        ..Default::default()
    };
    let mut scaler = node("Scaler", "ai.onnx.ml", &["x"], &["y"]);
    scaler.attribute = vec![floats("offset", [1.0, 2.0]), floats("scale", [10.0, 0.5])];
    let graph = model(GraphProto {
        node: vec![scaler],
        input: vec![value("x", DataType::FLOAT, batch())],
        output: vec![value("y", DataType::FLOAT, batch())],
        ..Default::default()
    });
    let tensor = |values: [f32; 2]| {
        let data = values.map(f32::to_le_bytes).concat();
        Tensor::new(Datatype::Fp32, Shape::from(&[1, 2][..]), data.into()).unwrap()
    };
    let graphs = load(source(graph.clone())).unwrap();
    assert_eq!(compute(&graphs, tensor([3.0, 4.0])).await.unwrap(), tensor([20.0, 1.0]));

    let embedded = GraphSource { backend: Some(BackendName::Embedded), ..source(graph) };
    let refused = refusal(embedded);
    assert!(refused.contains("Scaler") && refused.contains("backend = \"onnxruntime\""), "{refused}");
}

#[test]
fn a_graph_cannot_make_the_library_read_files() {
    let outside = || TensorProto {
        name: Some("secret".to_owned()),
        dims: vec![1, 2],
        data_type: Some(DataType::FLOAT),
        data_location: Some(DataLocation::EXTERNAL),
        external_data: vec![StringStringEntryProto {
            key: Some("location".to_owned()),
            value: Some("/etc/hostname".to_owned()),
        }],
        ..Default::default()
    };
    let graph = |node: NodeProto, initializer| GraphProto {
        node: vec![node],
        initializer,
        input: vec![value("x", DataType::FLOAT, batch())],
        output: vec![value("y", DataType::FLOAT, batch())],
        ..Default::default()
    };
    let weight = graph(node("Add", "", &["x", "secret"], &["y"]), vec![outside()]);
    let mut constant = node("Constant", "", &[], &["y"]);
    constant.attribute = vec![AttributeProto {
        name: Some("value".to_owned()),
        t: Some(outside()),
        r#type: Some(AttributeType::TENSOR),
        ..Default::default()
    }];
    for graph in [weight, graph(constant, Vec::new())] {
        assert!(refusal(source(model(graph))).contains("the tensor 'secret' is kept in another file"));
    }
}

#[test]
fn a_file_that_is_another_library_or_none_is_named() {
    let missing = OnnxRuntime::open("/nonexistent/libonnxruntime.so".as_ref()).err().unwrap().to_string();
    assert!(missing.starts_with("/nonexistent/libonnxruntime.so: it cannot be loaded"), "{missing}");
    let system = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
    let other = system.into_iter().find(|file| std::path::Path::new(file).exists()).unwrap();
    let error = OnnxRuntime::open(other.as_ref()).err().unwrap().to_string();
    assert!(error.contains("it is not ONNX Runtime"), "{error}");
}
