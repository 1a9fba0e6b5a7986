//! The backend over OpenVINO, whose library is loaded at run time, through wasmtime-wasi-nn's backend of it.
//!
//! Contract: graphs in OpenVINO's own encoding of the datatypes that wasi-nn has, on the processor or on the graphics
//! processor that the library finds; what cannot be had is an error. The library is loaded with the first graph, so that a
//! server without one does without. Cost: a graph has `instances` compiled models, each with its own copy of the weights;
//! each input is copied twice and each output once, for wasi-nn's tensors are vectors of their own. Left out on purpose:
//! scalars (OpenVINO's C interface makes none), tensors without elements, `threads` and other settings of a compiled model
//! (wasmtime-wasi-nn passes none on), and IR before version 11. Of an output without elements OpenVINO may give a null
//! pointer, of which the crate `openvino` 0.11 makes a slice: inputs without elements are refused, for most such outputs
//! come of them, and a graph whose output can be empty for another reason (`NonZero` and the like) is not to be served
//! here. What reads the graph is OpenVINO's own code: `ir` keeps from it what is damaged in ways that can be told from the
//! outside.

mod convert;
mod ir;
mod library;
mod session;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use openvino::{Core, DeviceType, RwPropertyKey};
use vespid_types::{BackendName, Device, Encoding};
use wasmtime_wasi_nn::backend::openvino::OpenvinoBackend;
use wasmtime_wasi_nn::backend::{BackendError, BackendInner};
use wasmtime_wasi_nn::wit::ExecutionTarget;

use crate::NnError;
use crate::backend::{Backend, Footprint, GraphSource, LoadedSessions, Session};
use crate::growth::Growth;
use session::WasiNnSession;

pub use convert::CARRIED;
pub use library::{FILE_NAME, MIN_VERSION, find};

const NAME: BackendName = BackendName::Openvino;

/// OpenVINO, by the file of its library. A process can load one.
pub struct OpenVino {
    library: PathBuf,
    loaded: OnceLock<Result<Loaded, String>>,
}

/// OpenVINO, loaded.
pub struct Loaded {
    version: String,
    devices: Vec<String>,
    precision: Option<String>,
    /// Reading a graph takes it whole; running one does not need it.
    backend: Mutex<OpenvinoBackend>,
}

impl OpenVino {
    /// The library in a file, which is not looked at before it is needed.
    #[must_use]
    pub fn at(library: PathBuf) -> Self {
        Self { library, loaded: OnceLock::new() }
    }

    /// The library's file.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Loads the library, the first time.
    ///
    /// # Errors
    /// [`NnError::Library`] where the file is not there, is no such library, or is too old.
    pub fn loaded(&self) -> Result<&Loaded, NnError> {
        let loaded = self.loaded.get_or_init(|| Loaded::open(&self.library)).as_ref();
        loaded.map_err(|reason| NnError::Library { path: self.library.clone(), reason: reason.clone() })
    }
}

impl Loaded {
    fn open(library: &Path) -> Result<Self, String> {
        let version = library::load(library)?;
        let core = Core::new().map_err(|error| one_line(&error.to_string()))?;
        let devices = core.available_devices().map_err(|error| one_line(&error.to_string()))?;
        let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let precision =
            core.get_property(&DeviceType::CPU, &RwPropertyKey::HintInferencePrecision.into()).ok();
        let loaded = Self { version, devices, precision, backend: Mutex::default() };
        tracing::info!(version = loaded.version, library = %library.display(), devices = ?loaded.devices, "OpenVINO is loaded");
        if let Some(precision) = loaded.lower_precision() {
            tracing::warn!("OpenVINO runs FP32 graphs in {precision} on this processor: {EXACT}");
        }
        Ok(loaded)
    }

    /// The library's version, such as `2026.4.1-22982-e213a147257-releases/2026/4`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The devices that the library finds, by its own names for them.
    #[must_use]
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// What the library computes FP32 graphs in on the processor, where that is something else: by itself it takes BF16
    /// where the processor has it.
    #[must_use]
    pub fn lower_precision(&self) -> Option<&str> {
        self.precision.as_deref().filter(|precision| *precision != "f32")
    }

    /// Where a graph is to run.
    fn place(&self, device: Device) -> Result<(Device, ExecutionTarget), NnError> {
        let has_gpu = || self.devices.iter().any(|found| found == "GPU" || found == "GPU.0");
        let refused = |reason| Err(NnError::UnsupportedDevice { backend: NAME, device, reason });
        match device {
            Device::Auto if has_gpu() => Ok((Device::Gpu(0), ExecutionTarget::Gpu)),
            Device::Cpu | Device::Auto => Ok((Device::Cpu, ExecutionTarget::Cpu)),
            Device::Gpu(0) if has_gpu() => Ok((device, ExecutionTarget::Gpu)),
            Device::Gpu(0) => {
                let found = self.devices.join(", ");
                refused(format!("OpenVINO finds the devices [{found}] here; use device = \"cpu\""))
            }
            Device::Gpu(_) => refused("wasi-nn names the first one alone; use device = \"gpu\"".to_owned()),
        }
    }
}

/// What to do where FP32 graphs are computed in less.
pub const EXACT: &str = "where that is too coarse, have the plugins.xml beside its library set INFERENCE_PRECISION_HINT to f32 \
                         for the CPU, as `cargo xtask setup openvino` does";

/// Each session is compiled by itself, with its own copy of the weights. Assumed, not measured.
const MEMORY: Footprint = Footprint { fixed: 2 << 20, percent: 200 };

impl Backend for OpenVino {
    fn name(&self) -> BackendName {
        NAME
    }

    fn load(&self, source: GraphSource) -> Result<LoadedSessions, NnError> {
        check_options(&source)?;
        let weights = source.weights.as_deref().unwrap_or_default();
        let ir::Described { signature, batching, ports } = ir::describe(&source.data, weights.len())?;
        let loaded = self.loaded()?;
        let (device, target) = loaded.place(source.device)?;
        // It keeps the library's core alone, which a panic leaves as it was.
        let mut backend = loaded.backend.lock().unwrap_or_else(PoisonError::into_inner);
        let session = |_| {
            let graph = backend.load(&[&source.data, weights], target).map_err(|error| load_error(&error))?;
            let context = graph.init_execution_context().map_err(|error| load_error(&error))?;
            let session = WasiNnSession::new(context, signature.clone(), ports.clone());
            Ok(Box::new(session) as Box<dyn Session>)
        };
        let sessions = (0..source.instances.get()).map(session).collect::<Result<_, NnError>>()?;
        let memory = MEMORY.of(source.data.len() + weights.len(), source.instances.get());
        let threads = if device == Device::Cpu { source.threads() } else { 1 };
        let growth = Growth::default();
        Ok(LoadedSessions { signature, batching, growth, device, memory, threads, sessions })
    }
}

fn check_options(source: &GraphSource) -> Result<(), NnError> {
    if let encoding @ Encoding::Onnx = source.encoding {
        let remedy = "it reads OpenVINO's own; leave `backend` out, or convert the graph";
        return Err(NnError::UnsupportedEncoding { backend: NAME, encoding, remedy });
    }
    if let Some(provider) = source.provider {
        let reason = "providers are ONNX Runtime's; leave `provider` out".to_owned();
        return Err(NnError::UnsupportedProvider { backend: NAME, provider, reason });
    }
    match source.threads {
        Some(_) => {
            let reason = "it takes as many as the machine has; leave `threads` out";
            Err(NnError::UnsupportedOption { backend: NAME, option: "threads", reason })
        }
        None => Ok(()),
    }
}

fn load_error(error: &BackendError) -> NnError {
    let message = error_text(error);
    if message.contains("unsupported opset") || message.contains("doesn't contain the operation") {
        let remedy =
            "this version of OpenVINO lacks the operator: use a later one, or convert the graph anew";
        return NnError::UnsupportedOperator { message, remedy };
    }
    NnError::Load { message }
}

/// What the library says.
fn error_text(error: &BackendError) -> String {
    match error {
        BackendError::BackendAccess(error) => one_line(&format!("{error:#}")),
        other => other.to_string(),
    }
}

/// Without the lines that say where in the library's source code it was said.
fn one_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_place = |line: &&str| line.contains("Exception from ") && line.ends_with(':');
    let told: Vec<&str> = lines().filter(|line| !is_place(line)).collect();
    if told.is_empty() { lines().collect::<Vec<_>>().join(" ") } else { told.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_is_kept_and_where_is_not() {
        let text = "general error: Exception from src/inference/src/cpp/core.cpp:105:\nException from \
                    src/core/xml_util/src/xml_deserialize_util.cpp:1286:\nOpset opset1 doesn't contain the operation\n\n";
        assert_eq!(one_line(text), "Opset opset1 doesn't contain the operation");
        assert_eq!(one_line("Exception from a.cpp:1:\n"), "Exception from a.cpp:1:");
    }
}
