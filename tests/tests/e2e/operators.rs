//! Some of ONNX's own tests of its operators, on each backend; `cargo xtask operators` runs all of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use vespid_tests::built::{onnxruntime, python_onnx, vespid};
use vespid_tests::cli::run;

/// What both backends pass: every datatype that the embedded one carries, scalars, empty tensors, subgraphs.
const PASSED: [&str; 40] = [
    "add/test_add_bcast",
    "and_/test_and_bcast4v2d",
    "attention/test_attention_4d",
    "globalaveragepool/test_globalaveragepool",
    "batch_normalization/test_batchnorm_example",
    "cast/test_cast_FLOAT16_to_FLOAT",
    "cast/test_cast_FLOAT_to_FLOAT16",
    "clip/test_clip_default_min",
    "concat/test_concat_3d_axis_1",
    "constant/test_constant",
    "conv/test_conv_with_strides_padding",
    "dynamicquantizelinear/test_dynamicquantizelinear_max_adjusted",
    "dropout/test_dropout_default",
    "expand/test_expand_dim_changed",
    "gather/test_gather_1",
    "gelu/test_gelu_default_1",
    "gemm/test_gemm_all_attributes",
    "greater/test_greater_bcast",
    "if_/test_if",
    "isinf/test_isinf_float16",
    "layernormalization/test_layer_normalization_default_axis_expanded_ver18",
    "loop/test_loop11",
    "lstm/test_lstm_defaults",
    "matmul/test_matmul_3d",
    "maxpool/test_maxpool_2d_strides",
    "nonzero/test_nonzero_example",
    "not_/test_not_2d",
    "rangeop/test_range_float_type_positive_delta",
    "reducesum/test_reduce_sum_default_axes_keepdims_example",
    "reducesum/test_reduce_sum_empty_set",
    "reshape/test_reshape_zero_dim",
    "resize/test_resize_upsample_scales_nearest",
    "scatternd/test_scatternd",
    "size/test_size_example",
    "slice/test_slice",
    "softmax/test_softmax_axis_0",
    "split/test_split_zero_size_splits_opset18",
    "topk/test_top_k",
    "transpose/test_transpose_default",
    "where/test_where_example",
];

/// What they differ in, or do not do: what each test comes to on the embedded backend and on ONNX Runtime, and a part of
/// the text.
const OTHERS: [(&str, [(&str, &str); 2]); 13] = [
    ("add/test_add_uint64", [("refused", "'x' has datatype UINT64"), ("passed", "")]),
    ("cast/test_cast_FLOAT_to_DOUBLE", [("refused", "'output' has datatype FP64"), ("passed", "")]),
    ("rangeop/test_range_bfloat16_type_positive_delta", [("refused", "has datatype BF16"), ("passed", "")]),
    ("string_concat/test_string_concat", [("refused", "'x' has datatype BYTES"), ("passed", "")]),
    ("celu/test_celu", [("refused", "Celu operator not supported"), ("passed", "")]),
    ("resize/test_resize_upsample_scales_cubic", [("refused", "has mode \"cubic\""), ("passed", "")]),
    ("gridsample/test_gridsample_bicubic", [("refused", "attribute \"mode\""), ("passed", "")]),
    ("maxpool/test_maxpool_2d_default", [("failed", "strides len does not match"), ("passed", "")]),
    ("max/test_max_uint16", [("refused", "has datatype UINT16"), ("refused", "implementation for Max(13)")]),
    (
        "adam/test_adam",
        [("refused", "Adam operator not supported"), ("refused", "Adam(-1) is not a registered function/op")],
    ),
    ("dequantizelinear/test_dequantizelinear", [("passed", ""), ("refused", "DequantizeLinear(28)")]),
    ("sign/test_sign", [("wrong", "output 'y': 1 of 11 elements differ"), ("passed", "")]),
    ("identity/test_identity_sequence", [("skipped", "a sequence"), ("skipped", "a sequence")]),
];

const BACKENDS: [&str; 2] = ["embedded", "onnxruntime"];

/// A line that the script writes.
#[derive(Deserialize)]
struct Line {
    backend: String,
    test: String,
    outcome: String,
    text: String,
}

#[test]
fn onnx_s_own_tests_come_to_what_they_did() {
    let mut script = python_onnx("tests/python/node_tests");
    script.arg("--vespid").arg(vespid()).arg("--onnxruntime").arg(onnxruntime());
    script.args(PASSED).args(OTHERS.map(|(test, _)| test));
    let outcome = run(script);
    outcome.expect(0);
    let line = |line: &str| {
        let Line { backend, test, outcome, text } = serde_json::from_str(line).unwrap();
        ((backend, test), (outcome, text))
    };
    let got: BTreeMap<_, _> = outcome.stdout.lines().map(line).collect();
    assert_eq!(got.len(), BACKENDS.len() * (PASSED.len() + OTHERS.len()), "{}", outcome.stdout);
    let passed = PASSED.map(|test| (test, [("passed", ""); 2]));
    for (test, expected) in passed.into_iter().chain(OTHERS) {
        let (_, name) = test.split_once('/').unwrap();
        for (backend, (outcome, part)) in BACKENDS.into_iter().zip(expected) {
            let (got, text) = &got[&(backend.to_owned(), name.to_owned())];
            assert!(got == outcome && text.contains(part), "{backend}: {test}: {got}, not {outcome}: {text}");
        }
    }
}
