use std::env;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions};
use vespid_types::{
    Datatype, Deadline, Device, Encoding, ErrorCode, Extent, NamedTensor, Priority, Shape, Signature, Tensor,
    TensorSpec,
};

use super::*;
use crate::engine::EngineOptions;
use crate::error::Refusal;
use crate::plugin::{Callers, Plugin};
use crate::pool::PoolOptions;

/// What each guest below begins with. `$fail` exits with a code that is not 0; the memory from 4096 on is a guest's own.
const BEGIN: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "load" (func $load (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "load_by_name" (func $by_name (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "init_execution_context" (func $context (param i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "set_input" (func $set_input (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
    (import "wasi_ephemeral_nn" "get_output" (func $get_output (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "iris")
    (data (i32.const 8) "\01\00\00\00\04\00\00\00")      ;; the extents [1, 4]
    (func $fail (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
    ;; Reads `length` bytes to `to`; gives how many came.
    (func $read (param $to i32) (param $length i32) (result i32)
        (i32.store (i32.const 1024) (local.get $to))
        (i32.store (i32.const 1028) (local.get $length))
        (call $fail (call $fd_read (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1032)))
        (i32.load (i32.const 1032)))
    (func $write (param $stream i32) (param $from i32) (param $length i32)
        (i32.store (i32.const 1024) (local.get $from))
        (i32.store (i32.const 1028) (local.get $length))
        (call $fail (call $fd_write (local.get $stream) (i32.const 1024) (i32.const 1) (i32.const 1032))))
    ;; A new context of the graph.
    (func $new (result i32)
        (call $fail (call $by_name (i32.const 0) (i32.const 4) (i32.const 1036)))
        (call $fail (call $context (i32.load (i32.const 1036)) (i32.const 1040)))
        (i32.load (i32.const 1040)))
    ;; Writes a wasi-nn tensor to 1048: FP32 of `rank` extents of those at 8.
    (func $tensor (param $rank i32) (param $data i32) (param $length i32)
        (i32.store (i32.const 1048) (i32.const 8))
        (i32.store (i32.const 1052) (local.get $rank))
        (i32.store (i32.const 1056) (i32.const 1))
        (i32.store (i32.const 1060) (local.get $data))
        (i32.store (i32.const 1064) (local.get $length)))
"#;

/// Two contexts, filled in one order, computed in another and read in a third: each row has its own.
const IRIS: &str = r#"(func (export "_start") (local $first i32) (local $second i32)
    (call $fail (i32.ne (call $read (i32.const 4096) (i32.const 64)) (i32.const 32)))
    (call $fail (call $read (i32.const 4160) (i32.const 64)))
    (local.set $first (call $new))
    (local.set $second (call $new))
    (call $tensor (i32.const 2) (i32.const 4112) (i32.const 16))
    (call $fail (call $set_input (local.get $second) (i32.const 0) (i32.const 1048)))
    (call $tensor (i32.const 2) (i32.const 4096) (i32.const 16))
    (call $fail (call $set_input (local.get $first) (i32.const 0) (i32.const 1048)))
    (call $fail (call $compute (local.get $second)))
    (call $fail (call $compute (local.get $first)))
    (call $fail (call $get_output (local.get $first) (i32.const OUT) (i32.const 5120) (i32.const 12) (i32.const 1044)))
    (call $fail (i32.ne (i32.load (i32.const 1044)) (i32.const 12)))
    (call $write (i32.const 1) (i32.const 5120) (i32.const 12))
    (call $fail (call $get_output (local.get $second) (i32.const OUT) (i32.const 5120) (i32.const 64) (i32.const 1044)))
    (call $write (i32.const 1) (i32.const 5120) (i32.const 12)))"#;

const ECHO: &str = r#"(func (export "_start") (local $length i32)
    (loop $more
        (local.set $length (call $read (i32.const 4096) (i32.const 1000)))
        (if (local.get $length) (then
            (call $write (i32.const 1) (i32.const 4096) (local.get $length))
            (br $more)))))"#;

fn graphs() -> Graphs {
    // Asked for at run time: a target folder that several checkouts share may hold what another one built.
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let source = GraphSource {
        weights: None,
        name: "iris".to_owned(),
        data: fs::read(root.join("../../plugins/iris/iris.onnx")).unwrap().into(),
        encoding: Encoding::Onnx,
        backend: None,
        device: Device::Cpu,
        provider: None,
        threads: NonZero::new(1),
        instances: NonZero::<usize>::MIN,
        lane: LaneOptions::default(),
    };
    Graphs::load(&Backends::embedded(), vec![source]).unwrap()
}

fn spec(name: &str, datatype: Datatype, shape: &[Extent]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec(), optional: false }
}

/// One input and one output of these datatypes, each [-1].
fn signature(input: Datatype, output: Datatype) -> Signature {
    let spec = |name, datatype| spec(name, datatype, &[Extent::Any]);
    Signature { inputs: vec![spec("in", input)], outputs: vec![spec("out", output)] }
}

struct Host {
    engine: Engine,
    graphs: Graphs,
    _cache: tempfile::TempDir,
}

impl Host {
    fn new(max_instances: u32) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let options = EngineOptions { code_cache: cache.path().to_owned(), max_instances };
        Self { engine: Engine::new(&options).unwrap(), graphs: graphs(), _cache: cache }
    }

    fn context(&self, written: Signature) -> PluginContext {
        PluginContext {
            snapshot: None,
            model: "command".parse().unwrap(),
            version: "1".parse().unwrap(),
            written,
            graphs: self.graphs.clone(),
            config: [("min-score".to_owned(), "0.5".to_owned())].into(),
            memory_limit: ByteSize::mib(16),
            instances: PoolOptions::default(),
            grants: Grants::default(),
            peers: None,
        }
    }

    fn guest(&self, body: &str, written: Signature) -> Plugin {
        let place = self.graphs.get("iris").unwrap().lane.signature().outputs.iter();
        let place = place.clone().position(|output| output.name == "probabilities").unwrap();
        let code = wat::parse_str(format!("{BEGIN}{})", body.replace("OUT", &place.to_string()))).unwrap();
        Plugin::compile(&self.engine, &code, self.context(written)).unwrap()
    }

    /// A guest that is asked with eight bytes, and fails.
    async fn fails(&self, body: &str) -> EngineError {
        let guest = self.guest(body, signature(Datatype::Uint8, Datatype::Uint8));
        guest.call(call(Datatype::Uint8, &[8], &[0; 8])).await.unwrap_err()
    }

    async fn refused(&self, code: &str, context: PluginContext) -> String {
        let code = wat::parse_str(code).unwrap();
        let error = Plugin::compile(&self.engine, &code, context).err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        error.to_string()
    }
}

fn call(datatype: Datatype, shape: &[u64], data: &[u8]) -> Call {
    let tensor = Tensor::new(datatype, Shape::from(shape), data.to_vec().into()).unwrap();
    Call {
        id: None,
        deadline: Deadline::after(Duration::from_secs(60)),
        priority: Priority::ONLINE,
        sequence: None,
        callers: Callers::default(),
        inputs: vec![NamedTensor { name: "in".to_owned(), tensor }],
        outputs: Vec::new(),
        parameters: Parameters::new(),
        timeline: Arc::default(),
    }
}

fn within(time: Duration, call: Call) -> Call {
    Call { deadline: Deadline::after(time), ..call }
}

const ROWS: [f32; 8] = [5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5];

async fn assert_answers(host: &Host) {
    let extents = [Extent::Any, Extent::Fixed(3)];
    let written = Signature {
        inputs: vec![spec("in", Datatype::Fp32, &[Extent::Any, Extent::Fixed(4)])],
        outputs: vec![spec("out", Datatype::Fp32, &extents)],
    };
    let guest = host.guest(IRIS, written);
    let runs = || host.graphs.usage().runs.values().map(|run| run.count).sum::<u64>();
    let before = runs();
    let data: Vec<u8> = ROWS.iter().flat_map(|value| value.to_le_bytes()).collect();
    let answer = guest.call(call(Datatype::Fp32, &[2, 4], &data)).await.unwrap();
    assert_eq!(runs() - before, 2);
    assert_eq!(guest.usage().fresh, 1);
    assert!(guest.usage().cpu > Duration::ZERO);
    let lane = &host.graphs.get("iris").unwrap().lane;
    let mut expected = Vec::new();
    for row in data.chunks(16) {
        let NamedTensor { tensor, .. } = call(Datatype::Fp32, &[1, 4], row).inputs.remove(0);
        let inputs = vec![NamedTensor { name: lane.signature().inputs[0].name.clone(), tensor }];
        let deadline = Deadline::after(Duration::from_secs(60));
        let outputs = lane.compute(inputs, deadline, Priority::ONLINE, &Arc::default()).await.unwrap();
        let output = outputs.iter().find(|output| output.name == "probabilities").unwrap();
        expected.extend_from_slice(output.tensor.data());
    }
    assert_eq!(&answer.outputs[0].tensor.shape()[..], [2, 3]);
    assert_eq!(answer.outputs[0].tensor.data(), &expected);
    assert_ne!(expected[..12], expected[12..], "the rows are told apart");
}

#[tokio::test]
async fn each_context_computes_its_own_row() {
    assert_answers(&Host::new(4)).await;
}

#[tokio::test]
async fn streams_carry_the_tensors_and_end() {
    let host = Host::new(4);
    let data: Vec<u8> = (0..100_000).map(|index| (index % 251) as u8).collect();
    let guest = host.guest(ECHO, signature(Datatype::Uint8, Datatype::Uint8));
    let answer = guest.call(call(Datatype::Uint8, &[100_000], &data)).await.unwrap();
    assert_eq!(answer.outputs[0].tensor.data(), &data);
    let element = Tensor::from_elements(Shape::from(&[1][..]), &["text"]).unwrap();
    let guest = host.guest(ECHO, signature(Datatype::Bytes, Datatype::Bytes));
    let answer = guest.call(call(Datatype::Bytes, &[1], element.data())).await.unwrap();
    assert_eq!(answer.outputs[0].tensor, element);
}

#[tokio::test]
async fn a_command_is_told_its_name_the_shape_and_the_configuration_and_no_more() {
    let host = Host::new(4);
    let tell = r#"(func (export "_start")
        (call $fail (call $args_get (i32.const 2048) (i32.const 4096)))
        (call $write (i32.const 1) (i32.const 4096) (i32.const 7))
        (call $fail (call $environ_sizes (i32.const 2048) (i32.const 2052)))
        (call $fail (call $environ_get (i32.const 2056) (i32.const 4096)))
        (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 2052))))"#;
    let guest = host.guest(tell, signature(Datatype::Uint8, Datatype::Bytes));
    let answer = guest.call(call(Datatype::Uint8, &[8], &[0; 8])).await.unwrap();
    let told = answer.outputs[0].tensor.elements().contents().next().unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert_eq!(told, "commandVESPID_INPUT_SHAPE=8\0VESPID_CONFIG_MIN_SCORE=0.5\0");
}

/// Pointers that lead outside of the guest's memory, for each of the functions of wasi-nn that takes any.
const POINTERS: [&str; 8] = [
    "(call $by_name (i32.const 0x7ffffff0) (i32.const 4) (i32.const 2048))",
    "(call $by_name (i32.const 0) (i32.const 0x7fffffff) (i32.const 2048))",
    "(call $by_name (i32.const 0) (i32.const 4) (i32.const -4))",
    "(call $by_name (i32.const 0) (i32.const 4) (i32.const 2049))",
    "(call $context (call $new) (i32.const -4))",
    "(call $set_input (call $new) (i32.const 0) (i32.const -20))",
    "(block (result i32) (call $tensor (i32.const 2) (i32.const -16) (i32.const 16))
        (call $set_input (call $new) (i32.const 0) (i32.const 1048)))",
    "(block (result i32) (call $tensor (i32.const 0x40000000) (i32.const 4096) (i32.const 16))
        (call $set_input (call $new) (i32.const 0) (i32.const 1048)))",
];

#[tokio::test]
async fn a_bad_pointer_fails_the_call_and_nothing_else() {
    let host = Host::new(2);
    for pointer in POINTERS {
        let error = host.fails(&format!(r#"(func (export "_start") (drop {pointer}))"#)).await;
        assert_eq!(error.code(), ErrorCode::PluginFailed, "{pointer}: {error}");
        let told = matches!(error, EngineError::Panicked { .. } | EngineError::Trapped { .. });
        assert!(told, "{pointer}: {error:?}");
    }
    let buffer = IRIS.replace(
        "(i32.const 5120) (i32.const 12) (i32.const 1044)",
        "(i32.const -4) (i32.const 12) (i32.const 1044)",
    );
    let guest = host.guest(&buffer, signature(Datatype::Fp32, Datatype::Fp32));
    let error = guest.call(call(Datatype::Fp32, &[8], &[0; 32])).await.unwrap_err();
    assert!(matches!(error, EngineError::Panicked { .. }), "{error:?}");
    assert_answers(&host).await;
}

#[tokio::test]
async fn what_wasi_nn_refuses_is_told_with_the_exit_code() {
    let host = Host::new(2);
    let set = "(call $set_input (call $new)";
    for (refused, code, said) in [
        // No backend is given to the glue, which has no words of its own.
        ("(call $load (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 2048))", 6, ""),
        ("(call $by_name (i32.const 1) (i32.const 3) (i32.const 2048))", 6, "no graph is named 'ris'"),
        ("(call $context (i32.const 7) (i32.const 2048))", 6, ""),
        ("(call $compute (i32.const 7))", 1, "there is no execution context 7"),
        ("(call $compute (call $new))", 1, "is missing"),
        (
            "(call $get_output (call $new) (i32.const 0) (i32.const 4096) (i32.const 12) (i32.const 2048))",
            5,
            "there is no output 0",
        ),
        (&format!("{set} (i32.const 9) (i32.const 1048))"), 5, "there is no input 9: the graph has 1"),
        (&format!("{set} (i32.const 0) (i32.const 1048))"), 5, "input 0: "),
    ] {
        // The extents [1, 4], and one byte.
        let body = format!(
            r#"(func (export "_start") (call $tensor (i32.const 2) (i32.const 4096) (i32.const 1)) (call $fail {refused}))"#
        );
        let error = host.fails(&body).await;
        assert!(matches!(error, EngineError::Exited { exit, .. } if exit == code), "{refused}: {error:?}");
        assert!(error.to_string().contains(said), "{refused}: {error}");
    }
}

#[tokio::test]
async fn an_exit_code_comes_with_the_last_line() {
    let host = Host::new(1);
    let error = host
        .fails(
            r#"(data (i32.const 4096) "first\nlast words\n\n")
            (func (export "_start")
                (call $write (i32.const 2) (i32.const 4096) (i32.const 18))
                (call $exit (i32.const 3)))"#,
        )
        .await;
    assert_eq!(error.to_string(), "the plugin exited with code 3: last words");
    assert_eq!(error.code(), ErrorCode::PluginFailed);
    let refused = Some(Refusal { code: ErrorCode::Unavailable, message: "the queue is full".to_owned() });
    let busy = EngineError::Exited { exit: 1, said: None, refused };
    assert_eq!(busy.to_string(), "the plugin exited with code 1 (wasi-nn: the queue is full)");
    assert_eq!(busy.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn memory_in_every_form_is_limited() {
    let host = Host::new(1);
    let endless = |what: &str| format!(r#"(func (export "_start") (loop $more {what} (br $more)))"#);
    for hoard in [
        endless("(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))"),
        endless("(call $write (i32.const 1) (i32.const 4096) (i32.const 0x10000))"),
        endless("(call $fail (call $by_name (i32.const 0) (i32.const 4) (i32.const 1036)))"),
        endless("(drop (call $new))"),
        endless(
            "(call $tensor (i32.const 2) (i32.const 4096) (i32.const 16))
            (call $fail (call $set_input (call $new) (i32.const 0) (i32.const 1048)))",
        ),
    ] {
        let error = host.fails(&hoard).await;
        assert!(matches!(error, EngineError::MemoryLimit { .. }), "{hoard}: {error:?}");
    }
    assert_answers(&host).await;
}

#[tokio::test]
async fn a_guest_that_does_not_end_is_ended() {
    let host = Host::new(1);
    // A subscription to the clock, an hour from now.
    let sleep = r#"(func (export "_start")
        (i32.store (i32.const 2064) (i32.const 1))
        (i64.store (i32.const 2072) (i64.const 3600000000000))
        (call $fail (call $poll (i32.const 2048) (i32.const 4096) (i32.const 1) (i32.const 1044))))"#;
    let spin = r#"(func (export "_start") (loop $more (br $more)))"#;
    for body in [sleep, spin] {
        let guest = host.guest(body, signature(Datatype::Uint8, Datatype::Uint8));
        let asked = || call(Datatype::Uint8, &[8], &[0; 8]);
        let error = guest.call(within(Duration::from_millis(50), asked())).await.unwrap_err();
        assert!(matches!(error, EngineError::DeadlineExceeded), "{error:?}");
        // A caller who leaves takes the call along, and makes room for the next.
        let left = tokio::time::timeout(Duration::from_millis(50), guest.call(asked())).await;
        assert!(left.is_err());
        assert_answers(&host).await;
    }
}

#[tokio::test]
async fn what_is_no_command_is_refused() {
    let host = Host::new(1);
    let context = || host.context(signature(Datatype::Uint8, Datatype::Uint8));
    let start = r#"(func (export "_start"))"#;
    for (code, expected) in [
        ("(module)".to_owned(), "it exports no function '_start'; build a binary crate for wasm32-wasip1"),
        (format!("(module {start})"), "it exports no memory"),
        (r#"(module (func (export "_start") (result i32) i32.const 1))"#.to_owned(), "takes or gives values"),
        (
            format!(r#"(module (import "env" "x" (func)) {start})"#),
            "it imports 'x' of 'env', and a command may import wasi_snapshot_preview1 and wasi_ephemeral_nn alone",
        ),
        (
            format!(
                r#"(module (import "wasi_ephemeral_nn" "train" (func)) (memory (export "memory") 1) {start})"#
            ),
            "an import of the plugin does not fit",
        ),
    ] {
        let error = host.refused(&code, context()).await;
        assert!(error.contains(expected), "{code}: {error}");
    }
    let code = format!(r#"(module (memory (export "memory") 1) {start})"#);
    let warm = PoolOptions { warm: 1, ..PoolOptions::default() };
    let two = |one: &str, other: &str| [one, other].map(|key| (key.to_owned(), String::new())).into();
    for (context, expected) in [
        (host.context(Signature::default()), "[[input]]: a command cannot describe itself"),
        (PluginContext { instances: warm, ..context() }, "instances: "),
        (
            PluginContext { grants: Grants { env: two("A", "B"), ..Grants::default() }, ..context() },
            "grants: a command reaches nothing",
        ),
        (
            PluginContext { config: two("a-b", "a_b"), ..context() },
            "config: 'a-b' and 'a_b' are both VESPID_CONFIG_A_B",
        ),
    ] {
        let error = host.refused(&code, context).await;
        assert!(error.contains(expected), "{error}");
    }
}
