//! How a graph is encoded, and what runs it where, as `model.toml` names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a graph's file is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// An ONNX `ModelProto`.
    Onnx,
    /// OpenVINO's intermediate representation: an XML file, and its weights in a second one.
    Openvino,
}

impl Encoding {
    /// The name as `model.toml` and model metadata write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Openvino => "openvino",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The inference library that runs a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendName {
    /// The one inside the binary: pure Rust, on the processor.
    Embedded,
    /// ONNX Runtime, whose library is loaded at run time.
    Onnxruntime,
    /// OpenVINO, whose library is loaded at run time.
    Openvino,
}

impl BackendName {
    /// The name as `model.toml` and model metadata write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Onnxruntime => "onnxruntime",
            Self::Openvino => "openvino",
        }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What ONNX Runtime hands a graph's operators to ("execution provider").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// ONNX Runtime's own kernels on the processor.
    Cpu,
    /// NVIDIA's CUDA, on a graphics processor.
    Cuda,
    /// NVIDIA's TensorRT, on a graphics processor.
    Tensorrt,
    /// Intel's OpenVINO, on the processor.
    Openvino,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::Tensorrt, Self::Openvino];

    /// The name as `model.toml` writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        }
    }

    /// Whether it runs graphs on a graphics processor.
    #[must_use]
    pub const fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda | Self::Tensorrt)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a graph runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A graphics processor by its index.
    Gpu(u32),
    /// A graphics processor where there is one, else the processor; chosen by whoever wrote it, so not a fallback.
    Auto,
}

/// A text that names no device.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a device: use \"cpu\", \"gpu\", \"gpu:1\" or \"auto\"")]
pub struct InvalidDevice(String);

impl FromStr for Device {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(0)),
            "auto" => Ok(Self::Auto),
            _ => text
                .strip_prefix("gpu:")
                .and_then(|index| index.parse().ok())
                .map(Self::Gpu)
                .ok_or_else(|| InvalidDevice(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = InvalidDevice;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(index) => write!(f, "gpu:{index}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}
