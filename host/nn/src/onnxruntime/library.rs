//! The library's file, before it is used.
#![allow(
    unsafe_code,
    reason = "the version is asked for through the library's C interface; each use says why it is sound"
)]

use std::ffi::CStr;
use std::path::Path;

use libloading::Library;
use ort::sys::OrtApiBase;

/// The name under which the system's loader finds the library.
pub const FILE_NAME: &str = "libonnxruntime.so";

/// The version that the library says it has.
///
/// # Errors
/// Why the file cannot be loaded, or is another library.
pub(super) fn version(file: &Path) -> Result<String, String> {
    // SAFETY: loading runs the library's initialisers. The operator of the server names the file, and with it code that
    // is to run in this process; no client and no guest can.
    let library = unsafe { Library::new(file) }.map_err(|error| format!("it cannot be loaded: {error}"))?;
    // SAFETY: `onnxruntime_c_api.h` declares the function so, in every version of the library.
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase") }
        .map_err(|_| "it is not ONNX Runtime: it has no OrtGetApiBase".to_owned())?;
    // SAFETY: the function takes nothing and gives a pointer to a static, or null, which is looked at before it is used.
    let base = unsafe { base().as_ref() }.ok_or("it gives no interface")?;
    // SAFETY: the text is a static of the library, which is still loaded here, and ends with a NUL.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) };
    Ok(version.to_string_lossy().into_owned())
}
