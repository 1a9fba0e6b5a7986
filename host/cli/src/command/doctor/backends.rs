//! What can run graphs here, and on which devices.

use vespid_nn::onnxruntime::{MIN_MINOR_VERSION, nvidia_devices};
use vespid_types::Provider;

use super::Check;
use crate::onnxruntime::Choice;

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
