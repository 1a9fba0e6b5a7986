//! How a graph is encoded and where it runs, as `model.toml` names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a graph's file is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// An ONNX `ModelProto`.
    Onnx,
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
