use serde_json::{Value, json};
use vespid_serving::{Manifest, Overrides, VersionPolicy};
use vespid_types::{Datatype, Extent, Signature, TensorSpec};

use super::agreement::Asked;
use super::describe::{Described, data_type};
use super::json::{from_json, to_json};
use super::read;
use crate::grpc::proto::{DataType, ModelConfig};

const NATIVE: &str = "[model]\nname = 'm'\nversion = '1'\n[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'\n\
    backend = 'onnxruntime'\ninstances = 2\n\
    batching = { max_rows = 32, preferred_rows = 16, max_delay = '2ms', queue_limit = 9 }\n[labels]\ny = 'labels.txt'\n[config]\nthreshold = 0.5\n";
const PLUGIN: &str = "[model]\nname = 'm'\nversion = '1'\nplugin = 'p.wasm'\n";

fn spec(name: &str, shape: &[i64], optional: bool) -> TensorSpec {
    let shape = shape.iter().map(|extent| Extent::from_signed(*extent).unwrap()).collect();
    TensorSpec { name: name.to_owned(), datatype: Datatype::Fp32, shape, optional }
}

fn rows() -> Signature {
    Signature { inputs: vec![spec("x", &[-1, 4], false)], outputs: vec![spec("y", &[-1], false)] }
}

fn config(manifest: &str, signature: &Signature, platform: &str, decoupled: bool) -> ModelConfig {
    let manifest = Manifest::parse(manifest).unwrap();
    Described { manifest: &manifest, signature, platform, decoupled, versions: None }.config()
}

fn native() -> ModelConfig {
    config(NATIVE, &rows(), "onnx_onnxruntime", false)
}

fn plugin() -> ModelConfig {
    config(PLUGIN, &rows(), "vespid_plugin", false)
}

/// The overrides of a configuration for the model `m`.
fn overrides(json: &Value) -> Result<Overrides, String> {
    let read = read(&"m".parse().unwrap(), &json.to_string());
    read.map(|(overrides, _)| overrides).map_err(|error| error.to_string())
}

/// What a model of the configuration `has` answers to one that is asked for.
fn agrees(json: &Value, has: &ModelConfig) -> Result<(), String> {
    let says_rows = json.get("max_batch_size").is_some();
    let asked = Asked::of(&from_json(json).unwrap(), says_rows);
    asked.and_then(|asked| asked.check_config(has)).map_err(|error| error.to_string())
}

#[test]
fn a_graph_is_described_as_triton_s_clients_read_it() {
    let json = to_json(&native()).unwrap();
    for (field, expected) in [
        ("name", json!("m")),
        ("platform", json!("onnx_onnxruntime")),
        ("backend", json!("onnxruntime")),
        ("max_batch_size", json!(32)),
        ("default_model_filename", json!("g.onnx")),
        ("version_policy", json!({"all": {}})),
        ("parameters", json!({"threshold": {"string_value": "0.5"}})),
        ("model_transaction_policy", json!({"decoupled": false})),
        ("response_cache", json!({"enable": false})),
        ("batch_input", json!([])),
        ("metric_tags", json!({})),
    ] {
        assert_eq!(json[field], expected, "{field}: {json:#}");
    }
    let input = &json["input"][0];
    assert_eq!(
        (&input["name"], &input["data_type"], &input["dims"], &input["optional"]),
        (&json!("x"), &json!("TYPE_FP32"), &json!([4]), &json!(false))
    );
    // A scalar for each row.
    assert_eq!(json["output"][0]["dims"], json!([]));
    assert_eq!(json["output"][0]["label_filename"], json!("labels.txt"));
    let group = &json["instance_group"][0];
    assert_eq!(
        (&group["name"], &group["kind"], &group["count"]),
        (&json!("g"), &json!("KIND_CPU"), &json!(2))
    );
    let batching = &json["dynamic_batching"];
    assert_eq!(batching["max_queue_delay_microseconds"], json!(2000), "a number, not text");
    assert_eq!(batching["preferred_batch_size"], json!([16]));
    assert_eq!((&batching["priority_levels"], &batching["default_priority_level"]), (&json!(100), &json!(1)));
    assert_eq!(batching["default_queue_policy"]["max_queue_size"], json!(9));
    assert!(json.get("sequence_batching").is_none() && json.get("ensemble_scheduling").is_none());
}

#[test]
fn rows_are_a_dimension_of_their_own_where_there_are_batches() {
    let fixed = Signature { inputs: vec![spec("x", &[3], false)], outputs: vec![spec("y", &[-1, 2], true)] };
    let unbatched = NATIVE.replace("max_rows = 32, preferred_rows = 16, max_delay = '2ms'", "max_rows = 1");
    for (config, rows, dims) in [
        (native(), 32, vec![4]),
        (config(&unbatched, &rows(), "onnx_onnxruntime", false), 0, vec![-1, 4]),
        (config(NATIVE, &fixed, "onnx_onnxruntime", false), 0, vec![3]),
        (plugin(), 64, vec![4]),
        (config(PLUGIN, &rows(), "vespid_plugin", true), 0, vec![-1, 4]),
        (config(PLUGIN, &fixed, "vespid_plugin", false), 0, vec![3]),
    ] {
        assert_eq!((config.max_batch_size, &config.input[0].dims), (rows, &dims));
        assert_eq!(config.scheduling_choice.is_some(), rows == 32);
    }
}

#[test]
fn what_is_described_may_be_given_back_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("labels.txt"), "a\n").unwrap();
    let stateful = format!("{PLUGIN}[sequences]\nidle_timeout = '5s'\nmax = 7\n");
    for (manifest, platform) in
        [(NATIVE, "onnx_onnxruntime"), (PLUGIN, "vespid_plugin"), (&stateful, "vespid_plugin")]
    {
        let described = config(manifest, &rows(), platform, false);
        let json = to_json(&described).unwrap();
        agrees(&json, &described).unwrap();
        let manifest =
            overrides(&json).unwrap().apply(Manifest::parse(manifest).unwrap(), folder.path()).unwrap();
        let (signature, versions) = (rows(), VersionPolicy::All);
        let again = Described {
            manifest: &manifest,
            signature: &signature,
            platform,
            decoupled: false,
            versions: Some(&versions),
        };
        assert_eq!(again.config(), described);
    }
}

#[test]
fn numbers_may_be_text_and_names_in_either_case() {
    let given = overrides(&json!({
        "maxBatchSize": "8",
        "backend": "onnxruntime",
        "dynamic_batching": {
            "preferredBatchSize": ["8", 4],
            "max_queue_delay_microseconds": "500",
            "default_queue_policy": {"max_queue_size": "7"},
        },
        "instance_group": [{"count": "3", "kind": "KIND_CPU"}],
        "version_policy": {"specific": {"versions": ["2", 3]}},
        "parameters": {"threshold": {"string_value": "0.25"}},
        // What Triton fills in by itself.
        "optimization": {"priority": "PRIORITY_DEFAULT", "input_pinned_memory": {"enable": true}},
    }))
    .unwrap();
    assert_eq!(given.max_rows, Some(8));
    let waiting = given.waiting.unwrap();
    assert_eq!(
        (waiting.max_delay.as_micros(), waiting.preferred_rows, waiting.queue_limit),
        (500, Some(4), Some(7))
    );
    assert_eq!(given.groups[0].instances.unwrap().get(), 3);
    assert_eq!(given.config["threshold"], "0.25");
    let versions = ["2", "3"].map(|version| version.parse().unwrap());
    assert_eq!(given.versions, VersionPolicy::Specific(versions.into()));
    assert_eq!(overrides(&json!({})).unwrap(), Overrides::default());
    assert_eq!(overrides(&json!({"max_batch_size": 0})).unwrap().max_rows, Some(1));
}

#[test]
fn sequences_are_described_and_set() {
    let stateful = format!("{PLUGIN}[sequences]\nidle_timeout = '5s'\nmax = 7\n");
    let json = to_json(&config(&stateful, &rows(), "vespid_plugin", false)).unwrap();
    let batching = &json["sequence_batching"];
    assert_eq!(batching["max_sequence_idle_microseconds"], json!(5_000_000));
    assert_eq!(batching["oldest"]["max_candidate_sequences"], json!(7));
    assert!(json.get("dynamic_batching").is_none());
    let given =
        overrides(&json!({"sequence_batching": {"max_sequence_idle_microseconds": "1000", "direct": {}}}));
    let sequences = given.unwrap().sequences.unwrap();
    assert_eq!((sequences.idle_timeout.unwrap().as_micros(), sequences.max), (1000, None));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    for (config, expected) in [
        (json!([]), "config: "),
        (json!({"nme": "m"}), "nme"),
        (json!({"dynamic_batching": {"max_delay": 1}}), "dynamic_batching"),
        (json!({"dynamic_batching": {"max_delay": 1}}), "max_delay"),
        (json!({"max_batch_size": "many"}), "max_batch_size"),
        (json!({"max_batch_size": 3_000_000_000_u64}), "max_batch_size"),
        (json!({"max_batch_size": -1}), "config: max_batch_size: use 0"),
        (json!({"name": "other"}), "config: name: 'other' is not the model's"),
        (json!({"backend": "tensorflow"}), "config: backend: 'tensorflow' is not known"),
        (json!({"platform": "tensorrt_plan"}), "config: platform: 'tensorrt_plan' is not known"),
        (
            json!({"backend": "openvino", "platform": "onnxruntime_onnx"}),
            "config: platform: 'onnxruntime_onnx'",
        ),
        (json!({"runtime": "r"}), "config: runtime: this server has no equal"),
        (json!({"model_warmup": [{"name": "w"}]}), "config: model_warmup: "),
        (json!({"metric_tags": {"a": "b"}}), "config: metric_tags: "),
        (json!({"optimization": {"eager_batching": true}}), "config: optimization: "),
        (json!({"response_cache": {"enable": true}}), "config: response_cache.enable: "),
        (json!({"ensemble_scheduling": {}}), "config: ensemble_scheduling: "),
        (json!({"batch_input": [{}]}), "config: batch_input: "),
        (
            json!({"dynamic_batching": {"preserve_ordering": true}}),
            "config: dynamic_batching.preserve_ordering: ",
        ),
        (
            json!({"dynamic_batching": {"default_queue_policy": {"timeout_action": "DELAY"}}}),
            "config: dynamic_batching.default_queue_policy.timeout_action: ",
        ),
        (
            json!({"dynamic_batching": {"default_priority_level": 2}}),
            "config: dynamic_batching.default_priority_level: ",
        ),
        (
            json!({"dynamic_batching": {"priority_levels": 101}}),
            "config: dynamic_batching.priority_levels: use",
        ),
        (
            json!({"sequence_batching": {"control_input": [{"name": "START"}]}}),
            "config: sequence_batching.control_input: ",
        ),
        (
            json!({"sequence_batching": {"oldest": {"preserve_ordering": true}}}),
            "config: sequence_batching.oldest: ",
        ),
        (json!({"instance_group": [{"gpus": [0, 1]}]}), "config: instance_group.gpus: "),
        (json!({"instance_group": [{"kind": "KIND_CPU", "gpus": [0]}]}), "config: instance_group.gpus: "),
        (json!({"instance_group": [{"count": -1}]}), "config: instance_group.count: "),
        (json!({"instance_group": [{"passive": true}]}), "config: instance_group.passive: "),
        (json!({"version_policy": {"latest": {}}}), "config: version_policy.latest.num_versions: "),
        (
            json!({"version_policy": {"specific": {"versions": [0]}}}),
            "config: version_policy.specific.versions: ",
        ),
        (json!({"input": [{"name": "x", "reshape": {"shape": [1]}}]}), "config: input: 'x': reshape: "),
        (
            json!({"output": [{"name": "y", "label_filename": "../l"}]}),
            "config: output.label_filename: '../l'",
        ),
    ] {
        let error = overrides(&config).unwrap_err();
        assert!(error.contains(expected), "{config}: {error}");
    }
    let long = json!({"parameters": {"a": {"string_value": "x".repeat(1 << 20)}}});
    assert!(overrides(&long).unwrap_err().contains("longer than 1048576 bytes"));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep = read(&"m".parse().unwrap(), &deep).err().unwrap();
    assert!(deep.message().contains("config is not JSON"), "{deep}");
}

#[test]
fn what_is_taken_for_granted_is_held_against_the_model() {
    let (native, plugin) = (native(), plugin());
    for config in [
        json!({"platform": "onnxruntime_onnx", "max_batch_size": 32}),
        json!({"platform": "onnx_onnxruntime_gpu:1"}),
        json!({"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]}),
        json!({"input": [{"name": "x", "dims": ["-1", "4"]}], "output": [{"name": "y"}]}),
        json!({"model_transaction_policy": {}}),
    ] {
        agrees(&config, &native).unwrap();
    }
    for (config, has, expected) in [
        (json!({"backend": "vespid"}), &native, "config: backend: it is 'onnxruntime'"),
        (json!({"platform": "vespid_plugin"}), &native, "config: platform: it is 'onnx_onnxruntime'"),
        (
            json!({"default_model_filename": "model.onnx"}),
            &native,
            "config: default_model_filename: it is 'g.onnx'",
        ),
        (json!({"max_batch_size": 8}), &plugin, "config: max_batch_size: it is 64"),
        (json!({"max_batch_size": 0}), &plugin, "config: max_batch_size: it is 64"),
        (
            json!({"model_transaction_policy": {"decoupled": true}}),
            &native,
            "config: model_transaction_policy.decoupled: it is false",
        ),
        (
            json!({"input": [{"name": "z"}]}),
            &native,
            "config: input: the model has none of the name 'z', but x",
        ),
        (
            json!({"input": [{"name": "x", "data_type": "TYPE_INT8"}]}),
            &native,
            "'x': its data_type is TYPE_FP32",
        ),
        (json!({"input": [{"name": "x", "dims": [5]}]}), &native, "'x': its dims are [4]"),
        (json!({"input": [{"name": "x", "optional": true}]}), &native, "'x': it is not optional"),
    ] {
        let error = agrees(&config, has).unwrap_err();
        assert!(error.contains(expected), "{config}: {error}");
    }
}

#[test]
fn every_datatype_has_its_name() {
    let names = Datatype::ALL.map(|datatype| data_type(datatype).as_str_name());
    let expected = Datatype::ALL.map(|datatype| match datatype {
        Datatype::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    });
    assert_eq!(names.map(str::to_owned), expected);
    assert_eq!(DataType::default(), DataType::TypeInvalid);
}
