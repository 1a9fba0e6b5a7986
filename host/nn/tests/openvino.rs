//! The backend over OpenVINO, with the library that `cargo xtask setup openvino` fetched. The library is loaded once a
//! process, and nextest gives each test a process of its own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vespid_nn::openvino::{FILE_NAME, OpenVino};
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions, NnError};
use vespid_types::{
    BackendName, Datatype, Deadline, Device, Encoding, ErrorCode, NamedTensor, Priority, Provider, Shape,
    Tensor,
};

/// Written by `cases/openvino/cases.py`, as are the weights.
const PORTS: &str = include_str!("cases/openvino/ports.xml");
const LOOP: &str = include_str!("cases/openvino/loop.xml");
const PORTS_WEIGHTS: [u8; 8] = 1_u64.to_le_bytes();
const LOOP_WEIGHTS: [u8; 8] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40];

fn library() -> PathBuf {
    std::env::var_os("VESPID_OPENVINO_LIBRARY").expect("run `cargo xtask test`").into()
}

fn backends() -> Backends {
    Backends::embedded().with_openvino(Arc::new(OpenVino::at(library())))
}

/// A graph that gives its input back, of an element type by its name in the file.
fn identity(kind: &str, shape: &str) -> String {
    let port = format!(
        "<port id='0' precision='{kind}'>{}</port>",
        shape
            .split(',')
            .map(|extent| format!("<dim>{}</dim>", extent.replace('?', "-1")))
            .collect::<String>()
    );
    format!(
        "<net name='g' version='11'><layers>\
         <layer id='0' name='x' type='Parameter' version='opset1'><data shape='{shape}' element_type='{kind}'/>\
         <output>{port}</output></layer>\
         <layer id='1' name='y' type='Result' version='opset1'><input>{port}</input></layer>\
         </layers><edges><edge from-layer='0' from-port='0' to-layer='1' to-port='0'/></edges></net>"
    )
}

fn source(xml: &str, weights: &[u8]) -> GraphSource {
    GraphSource {
        name: "graph".to_owned(),
        data: xml.to_owned().into(),
        weights: Some(weights.to_vec().into()),
        encoding: Encoding::Openvino,
        backend: None,
        device: Device::Cpu,
        provider: None,
        threads: None,
        instances: NonZero::<usize>::MIN,
        lane: LaneOptions::default(),
    }
}

fn load(source: GraphSource) -> Result<Graphs, NnError> {
    Graphs::load(&backends(), vec![source])
}

fn refusal(source: GraphSource) -> (ErrorCode, String) {
    let error = load(source).err().unwrap();
    (error.code(), error.to_string())
}

fn floats(shape: &[u64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(Datatype::Fp32, Shape::from(shape), data.into()).unwrap()
}

async fn compute(graphs: &Graphs, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, NnError> {
    let named =
        |(name, tensor): &(&str, Tensor)| NamedTensor { name: (*name).to_owned(), tensor: tensor.clone() };
    let inputs = inputs.iter().map(named).collect();
    let deadline = Deadline::after(Duration::from_secs(60));
    let computed = graphs
        .get("graph")
        .unwrap()
        .lane
        .compute(inputs, deadline, Priority::ONLINE, &Arc::default())
        .await?;
    Ok(computed.into_iter().map(|NamedTensor { name, tensor }| (name, tensor)).collect())
}

const KINDS: [(Datatype, &str); 7] = [
    (Datatype::Uint8, "u8"),
    (Datatype::Int32, "i32"),
    (Datatype::Int64, "i64"),
    (Datatype::Fp16, "f16"),
    (Datatype::Bf16, "bf16"),
    (Datatype::Fp32, "f32"),
    (Datatype::Fp64, "f64"),
];

#[tokio::test]
async fn every_datatype_goes_in_and_comes_back() {
    let backends = backends();
    for (datatype, kind) in KINDS {
        let graphs = Graphs::load(&backends, vec![source(&identity(kind, "?,2"), b"")]).unwrap();
        let size = datatype.size().unwrap();
        // Numbers of every datatype, whose bytes differ.
        let bytes: Vec<u8> = (0..6 * size).map(|place| 0x30 + u8::try_from(place % 16).unwrap()).collect();
        let tensor = Tensor::new(datatype, Shape::from(&[3, 2][..]), bytes.into()).unwrap();
        let expected = vec![("y".to_owned(), tensor.clone())];
        assert_eq!(compute(&graphs, &[("x", tensor)]).await.unwrap(), expected, "{datatype}");
        let empty = Tensor::new(datatype, Shape::from(&[0, 2][..]), Bytes::new()).unwrap();
        let error = compute(&graphs, &[("x", empty)]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
        assert!(error.to_string().contains("'x' has shape [0, 2] and no elements"), "{error}");
    }
    for kind in ["boolean", "i8", "u16", "u64", "string"] {
        let error = Graphs::load(&backends, vec![source(&identity(kind, "?,2"), b"")]).err().unwrap();
        assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
        assert!(error.to_string().contains("it carries UINT8, INT32, INT64,"), "{error}");
    }
}

#[tokio::test]
async fn values_reach_the_ports_that_the_signature_names() {
    let numbers: Vec<u8> = [1_i64, -2, 3].into_iter().flat_map(i64::to_le_bytes).collect();
    let alone = Tensor::new(Datatype::Int64, Shape::from(&[1, 3][..]), numbers.into()).unwrap();
    let bounded = floats(&[2, 3], &[1.0, 2.0, 3.0, -4.0, 5.0, 6.0]);
    let named = floats(&[1, 2], &[-7.0, 8.0]);
    let unnamed = PORTS.replace(" output_names=\"", " was=\"").replace(" names=\"", " was=\"");
    for (file, third, first) in [(PORTS, "with,comma", "first"), (&unnamed, "bounded", "last")] {
        let graphs = load(source(file, &PORTS_WEIGHTS)).unwrap();
        let inputs = [(third, bounded.clone()), ("alone", alone.clone()), ("named", named.clone())];
        let outputs = compute(&graphs, &inputs).await.unwrap();
        let negative: Vec<u8> = [-1_i64, 2, -3].into_iter().flat_map(i64::to_le_bytes).collect();
        let negative = Tensor::new(Datatype::Int64, Shape::from(&[1, 3][..]), negative.into()).unwrap();
        let expected = [
            (first.to_owned(), floats(&[1, 2], &[0.0, 8.0])),
            ("middle".to_owned(), floats(&[2, 1], &[2.0, 5.0])),
            ("left".to_owned(), floats(&[2, 1], &[1.0, 0.0])),
            ("negative".to_owned(), negative),
        ];
        assert_eq!(outputs, expected);
        // Beyond the bounds of the graph, which the signature does not tell.
        let many = [(third, floats(&[17, 3], &[0.0; 51])), inputs[1].clone(), inputs[2].clone()];
        let error = compute(&graphs, &many).await.unwrap_err();
        assert!(matches!(error.code(), ErrorCode::InvalidArgument), "{error}");
        assert_eq!(compute(&graphs, &inputs).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_loop_runs_and_its_constants_are_read() {
    let graphs = load(source(LOOP, &LOOP_WEIGHTS)).unwrap();
    let outputs = compute(&graphs, &[("rows", floats(&[2, 2], &[10.0, 20.0, 30.0, 40.0]))]).await.unwrap();
    assert_eq!(outputs, [("sums".to_owned(), floats(&[2, 2], &[11.0, 22.0, 31.0, 42.0]))]);
}

#[tokio::test]
async fn callers_at_once_share_runs_and_get_their_own_rows() {
    let graphs = GraphSource { instances: NonZero::new(2).unwrap(), ..source(&identity("f32", "?,2"), b"") };
    let graphs = load(graphs).unwrap();
    let calls = (0..200_u16).map(|number| {
        let graphs = graphs.clone();
        tokio::spawn(async move {
            let tensor = floats(&[1, 2], &[f32::from(number), -f32::from(number)]);
            let expected = vec![("y".to_owned(), tensor.clone())];
            assert_eq!(compute(&graphs, &[("x", tensor)]).await.unwrap(), expected);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[test]
fn what_is_not_there_is_named_and_nothing_takes_its_place() {
    let graph = || source(&identity("f32", "?,2"), b"");
    for (changed, expected) in [
        // The library that set-up fetches is for the processor.
        (
            GraphSource { device: Device::Gpu(0), ..graph() },
            "device 'gpu:0' is not available to the openvino backend: OpenVINO finds the devices [CPU] here",
        ),
        (GraphSource { device: Device::Gpu(1), ..graph() }, "device 'gpu:1' is not available"),
        (GraphSource { provider: Some(Provider::Openvino), ..graph() }, "leave `provider` out"),
        (GraphSource { threads: NonZero::new(2), ..graph() }, "`threads` is not available to the openvino"),
        (
            GraphSource { backend: Some(BackendName::Embedded), ..graph() },
            "encoding 'openvino' is not read by the embedded backend",
        ),
        (
            GraphSource { backend: Some(BackendName::Openvino), encoding: Encoding::Onnx, ..graph() },
            "encoding 'onnx' is not read by the openvino backend",
        ),
    ] {
        let (code, error) = refusal(changed);
        assert_eq!(code, ErrorCode::Unsupported, "{error}");
        assert!(error.contains(expected), "{error}");
    }
    let automatic = load(GraphSource { device: Device::Auto, ..graph() }).unwrap();
    let automatic = automatic.get("graph").unwrap();
    assert_eq!((automatic.device, automatic.backend), (Device::Cpu, BackendName::Openvino));

    let without = Graphs::load(&Backends::embedded(), vec![graph()]).err().unwrap().to_string();
    let expected = "the openvino backend is not loaded: start the server with --openvino FILE";
    assert!(without.contains(expected), "{without}");
}

#[test]
fn bad_graphs_are_refused_with_what_the_library_says() {
    let unknown = PORTS.replace("type=\"Negative\"", "type=\"NoSuchOperator\"");
    let (code, error) = refusal(source(&unknown, &PORTS_WEIGHTS));
    assert_eq!(code, ErrorCode::Unsupported, "{error}");
    assert!(error.contains("NoSuchOperator") && !error.contains('\n'), "{error}");
    // Sound as XML, and no graph.
    let torn = PORTS.replace("to-layer=\"7\" to-port=\"0\"", "to-layer=\"77\" to-port=\"0\"");
    assert!(torn != PORTS);
    let (code, error) = refusal(source(&torn, &PORTS_WEIGHTS));
    assert_eq!(code, ErrorCode::InvalidArgument, "{error}");
    assert!(error.contains("failed to load"), "{error}");
    let (_, error) = refusal(source(PORTS, &PORTS_WEIGHTS[..4]));
    assert!(error.contains("does not lie within the 4 bytes of weights"), "{error}");
    let mut fixed = source(&identity("f32", "1,2"), b"");
    fixed.lane.max_rows = Some(8);
    assert!(refusal(fixed).1.contains("'x' has a fixed first dimension of 1"));
}

#[test]
fn fp32_is_computed_in_fp32() {
    let openvino = OpenVino::at(library());
    let loaded = openvino.loaded().unwrap();
    assert_eq!(loaded.lower_precision(), None, "set-up's plugins.xml is not read");
    assert_eq!(loaded.devices(), ["CPU"]);
    let second = OpenVino::at(library().with_file_name("second.so")).loaded().err().unwrap().to_string();
    assert!(second.contains("second.so: it cannot be loaded"), "{second}");
}

#[test]
fn a_file_that_is_another_library_or_none_is_named() {
    let open = |file: &Path| OpenVino::at(file.to_owned()).loaded().err().unwrap().to_string();
    let missing = open("/nonexistent/libopenvino_c.so".as_ref());
    assert!(missing.starts_with("/nonexistent/libopenvino_c.so: it cannot be loaded"), "{missing}");
    let system = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
    let other = system.iter().map(Path::new).find(|file| file.exists()).unwrap();
    let error = open(other);
    assert!(error.contains(&format!("it is not OpenVINO's {FILE_NAME}")), "{error}");
    // And the right one can be loaded after it.
    assert!(OpenVino::at(library()).loaded().is_ok());
}
