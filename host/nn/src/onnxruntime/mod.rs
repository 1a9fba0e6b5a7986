//! The backend over ONNX Runtime, whose library is loaded at run time.
//!
//! Contract: ONNX graphs of every operator and every datatype that the library has, on the execution provider that is
//! named or that the device implies; a provider or device that cannot be had is an error, never a fallback. Operators
//! for which a device's provider has no kernel run on the processor, as ONNX Runtime has it. Cost: a graph
//! has `instances` sessions, each with its own threads (`threads`) and its own copy of the weights. On the processor,
//! inputs are borrowed and outputs handed over; on another device the library copies them
//! there and back. Left out on purpose: IO binding (see `session`), weights in files beside the graph, sequences and maps as inputs or
//! outputs, and operators from libraries of the user's.

mod convert;
mod library;
mod session;

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider as _};
use ort::session::Session as OrtSession;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use vespid_types::{BackendName, Device, Provider, TensorSpec};

use crate::backend::{Backend, Footprint, GraphSource, LoadedSessions, Session};
use crate::{NnError, onnx};
use session::OnnxSession;

pub use library::FILE_NAME;

const NAME: BackendName = BackendName::Onnxruntime;

/// The lowest minor version of ONNX Runtime 1 that has what is called here.
pub const MIN_MINOR_VERSION: u32 = ort::MINOR_VERSION;

/// ONNX Runtime, loaded. A process can load it once.
pub struct OnnxRuntime {
    environment: Environment,
    library: PathBuf,
    version: String,
}

impl OnnxRuntime {
    /// Loads the library from its file.
    ///
    /// # Errors
    /// [`NnError::Library`] where the file is not there, is no such library, or is too old.
    pub fn open(file: &Path) -> Result<Self, NnError> {
        let refused = |reason: String| NnError::Library { path: file.to_owned(), reason };
        let version = library::version(file).map_err(refused)?;
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_none_or(|minor| minor < MIN_MINOR_VERSION) {
            return Err(refused(format!(
                "this is ONNX Runtime {version}; 1.{MIN_MINOR_VERSION} or later is needed"
            )));
        }
        let environment = ort::init_from(file)
            .map_err(|error| refused(error.to_string()))?
            .with_name("vespid")
            .with_telemetry(false)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { environment, library: file.to_owned(), version })
    }

    /// The library's version, such as `1.32.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The library's file.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The providers that the library was built with. That one is here does not say that its device is.
    #[must_use]
    pub fn providers(&self) -> Vec<Provider> {
        Provider::ALL.into_iter().filter(|provider| is_built_in(*provider)).collect()
    }

    /// The provider and device that a graph asks for.
    fn place(&self, source: &GraphSource) -> Result<(Provider, Device), NnError> {
        let gpu = || is_built_in(Provider::Cuda) && nvidia_devices() > 0;
        let device = match source.device {
            Device::Auto if source.provider.is_some_and(|provider| !provider.is_gpu()) => Device::Cpu,
            Device::Auto if gpu() => Device::Gpu(0),
            Device::Auto => Device::Cpu,
            named => named,
        };
        let usual = if matches!(device, Device::Gpu(_)) { Provider::Cuda } else { Provider::Cpu };
        let provider = source.provider.unwrap_or(usual);
        if provider.is_gpu() != matches!(device, Device::Gpu(_)) {
            let fitting = if provider.is_gpu() { "gpu" } else { "cpu" };
            let reason = format!("it does not run on device '{device}'; use device = \"{fitting}\"");
            return Err(NnError::UnsupportedProvider { backend: NAME, provider, reason });
        }
        if !is_built_in(provider) {
            let reason = format!(
                "the library {} ({}) was built without it; `vespid doctor` says which it has and how to get another",
                self.library.display(),
                self.version
            );
            return Err(match source.provider {
                Some(provider) => NnError::UnsupportedProvider { backend: NAME, provider, reason },
                None => NnError::UnsupportedDevice { backend: NAME, device, reason },
            });
        }
        Ok((provider, device))
    }

    fn session(
        &self,
        source: &GraphSource,
        provider: Provider,
        device: Device,
    ) -> Result<OrtSession, NnError> {
        let builder = options(&self.environment, source).map_err(|error| load_error(&error))?;
        let mut builder = with_provider(builder, provider, device, source.threads()).map_err(|error| {
            NnError::UnsupportedDevice {
                backend: NAME,
                device,
                reason: format!("provider '{provider}' does not start: {}", error.message()),
            }
        })?;
        builder.commit_from_memory(&source.data).map_err(|error| load_error(&error))
    }
}

impl Backend for OnnxRuntime {
    fn name(&self) -> BackendName {
        NAME
    }

    fn load(&self, source: GraphSource) -> Result<LoadedSessions, NnError> {
        onnx::check_encoding(NAME, source.encoding)?;
        let onnx::Described { signature, batching, growth, .. } = onnx::describe(&source.data)?;
        let (provider, device) = self.place(&source)?;
        let session = |_| {
            let session = self.session(&source, provider, device)?;
            check_same(&signature.inputs, session.inputs())?;
            Ok(Box::new(OnnxSession::new(session, signature.clone())) as Box<dyn Session>)
        };
        let sessions = (0..source.instances.get()).map(session).collect::<Result<_, NnError>>()?;
        let memory = MEMORY.of(source.data.len(), source.instances.get());
        let threads = if device == Device::Cpu { source.threads() } else { 1 };
        Ok(LoadedSessions { signature, batching, growth, device, memory, threads, sessions })
    }
}

/// Each session has its own copy of the weights, of some in another order as well. One more graph of one session took 1.77
/// (EfficientNet-Lite0), 1.30 (MiniLM) and 0.70 (Magika) times its file.
const MEMORY: Footprint = Footprint { fixed: 1 << 20, percent: 180 };

/// Whether the library was built with a provider.
fn is_built_in(provider: Provider) -> bool {
    let available = match provider {
        Provider::Cpu => Ok(true),
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::Tensorrt => ep::TensorRT::is_available(),
        Provider::Openvino => ep::OpenVINO::is_available(),
    };
    available.unwrap_or(false)
}

/// How many NVIDIA devices the kernel shows.
#[must_use]
pub fn nvidia_devices() -> usize {
    let is_device =
        |name: &str| name.strip_prefix("nvidia").is_some_and(|index| index.parse::<u32>().is_ok());
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_device)).count()
}

fn options(environment: &Environment, source: &GraphSource) -> ort::Result<SessionBuilder> {
    let builder = OrtSession::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(source.threads())?
        .with_inter_threads(1)?
        // A server's other threads need the processor more than the next operator does.
        .with_intra_op_spinning(false)?
        // No graph that names files is let through (`onnx::describe`); should one be, it finds nothing.
        .with_config_entry("session.model_external_initializers_file_folder_path", "/nonexistent")?;
    Ok(builder)
}

fn with_provider(
    builder: SessionBuilder,
    provider: Provider,
    device: Device,
    threads: usize,
) -> ort::Result<SessionBuilder> {
    let index = match device {
        Device::Gpu(index) => i32::try_from(index).unwrap_or(i32::MAX),
        Device::Cpu | Device::Auto => 0,
    };
    // Without TF32, which rounds factors to ten bits: a GPU is to answer as the processor does.
    let cuda = || ep::CUDA::default().with_device_id(index).with_tf32(false).build().error_on_failure();
    let providers = match provider {
        Provider::Cpu => vec![],
        Provider::Cuda => vec![cuda()],
        // TensorRT takes the parts of a graph that it knows; the rest is CUDA's.
        Provider::Tensorrt => {
            vec![ep::TensorRT::default().with_device_id(index).build().error_on_failure(), cuda()]
        }
        Provider::Openvino => {
            vec![
                ep::OpenVINO::default()
                    .with_device_type("CPU")
                    .with_num_threads(threads)
                    .build()
                    .error_on_failure(),
            ]
        }
    };
    Ok(builder.with_execution_providers(providers)?)
}

fn load_error(error: &ort::Error) -> NnError {
    let message = error.message().to_owned();
    // An operator that is not so much as known has no code of its own, but two texts.
    let unknown =
        ["No Op registered for", "is not a registered function/op"].iter().any(|text| message.contains(text));
    if unknown || error.code() == ort::ErrorCode::NotImplemented {
        let remedy = "this build of ONNX Runtime lacks the operator, or has it not for these datatypes";
        return NnError::UnsupportedOperator { message, remedy };
    }
    NnError::Load { message }
}

/// The inputs as the library reads them must be those that the file was checked for.
fn check_same(specs: &[TensorSpec], inputs: &[ort::value::Outlet]) -> Result<(), NnError> {
    let same = specs.len() == inputs.len()
        && specs.iter().zip(inputs).all(|(spec, input)| spec.name == input.name());
    if same {
        return Ok(());
    }
    let names: Vec<&str> = inputs.iter().map(ort::value::Outlet::name).collect();
    Err(NnError::Load {
        message: format!("ONNX Runtime finds the inputs [{}] in it, unlike its file", names.join(", ")),
    })
}
