//! What can run graphs here, and on which devices.

use vespid_nn::onnxruntime::{MIN_MINOR_VERSION, nvidia_devices};
use vespid_nn::openvino::{EXACT, FILE_NAME, MIN_VERSION};
use vespid_types::Provider;

use super::Check;
use crate::onnxruntime::Choice;
use crate::openvino;

const OPENVINO: &str = "backend openvino";
const NAME: &str = "backend onnxruntime";
const PROVIDERS: &str = "providers";
const GPU: &str = "gpu";

pub(super) fn embedded() -> Check {
    let carried = vespid_nn::embedded::CARRIED;
    Check::ok("backend embedded", format!("ONNX on the CPU (rten); carries {carried}"))
}

pub(super) fn onnxruntime(choice: &Choice) -> Vec<Check> {
    let opened = match choice.open() {
        Ok(opened) => opened,
        Err(error) => return vec![Check::missing(NAME, format!("{error:#}"), get()), gpu(&[])],
    };
    let Some(library) = opened else {
        return vec![Check::warn(NAME, "not found: the embedded backend runs the graphs", get()), gpu(&[])];
    };
    let providers = library.providers();
    let names: Vec<&str> = providers.iter().map(|provider| provider.as_str()).collect();
    let detail = format!("ONNX Runtime {} ({})", library.version(), library.library().display());
    vec![Check::ok(NAME, detail), Check::ok(PROVIDERS, names.join(", ")), gpu(&providers)]
}

pub(super) fn openvino(choice: &openvino::Choice) -> Check {
    let opened = match choice.open() {
        Ok(Some(opened)) => opened,
        // Nothing else would run what it runs, so that a machine without it lacks nothing.
        Ok(None) => {
            let detail = "not found: graphs in its own encoding are refused";
            return Check { remedy: Some(get_openvino()), ..Check::ok(OPENVINO, detail) };
        }
        Err(error) => return Check::missing(OPENVINO, format!("{error:#}"), get_openvino()),
    };
    let loaded = match opened.loaded() {
        Ok(loaded) => loaded,
        Err(error) => return Check::warn(OPENVINO, error.to_string(), get_openvino()),
    };
    let (version, devices) = (loaded.version(), loaded.devices().join(", "));
    let detail = format!("OpenVINO {version} ({}); devices: {devices}", opened.library().display());
    match loaded.lower_precision() {
        Some(precision) => Check::warn(OPENVINO, format!("{detail}; FP32 graphs run in {precision}"), EXACT),
        None => Check::ok(OPENVINO, detail),
    }
}

fn get_openvino() -> String {
    let (year, release) = MIN_VERSION;
    format!(
        "get OpenVINO {year}.{release} or later: `cargo xtask setup openvino` in a checkout, Intel's packages, or `pip download \
         openvino`, whose wheel holds openvino/libs/{FILE_NAME}.*; serve with --openvino FILE where it is not found by itself"
    )
}

fn get() -> String {
    format!(
        "get ONNX Runtime 1.{MIN_MINOR_VERSION} or later: `cargo xtask setup --onnxruntime` in a checkout, or `pip download onnxruntime` \
         (for NVIDIA devices onnxruntime-gpu), whose wheel holds onnxruntime/capi/libonnxruntime.so.*; then serve with --onnxruntime FILE"
    )
}

fn gpu(providers: &[Provider]) -> Check {
    let built = providers.iter().any(|provider| provider.is_gpu());
    match (nvidia_devices(), built) {
        (0, _) => Check::ok(GPU, "no NVIDIA device: graphs run on the processor"),
        (count, true) => {
            Check::ok(GPU, format!("{count} NVIDIA device(s), for device = \"gpu\" or \"auto\""))
        }
        (count, false) => Check::warn(
            GPU,
            format!("{count} NVIDIA device(s), and no backend that reaches them"),
            "serve with the library of onnxruntime-gpu, whose folder also holds libonnxruntime_providers_cuda.so",
        ),
    }
}
