//! The library's file: found, looked at, and loaded for the crates `openvino` and `wasmtime-wasi-nn`.
#![allow(
    unsafe_code,
    reason = "the version is asked for through the library's C interface; each use says why it is sound"
)]

use std::ffi::CStr;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;
use openvino_sys::{ov_status_e, ov_version_t};

/// The file name of the library's C interface. What it needs lies beside it: its core, the reader of the encoding, and a
/// plugin for each device.
pub const FILE_NAME: &str = "libopenvino_c.so";

/// The lowest version, as year and release: the library's numbers for datatypes changed with it.
pub const MIN_VERSION: (u32, u32) = (2025, 1);

/// The library of an installed OpenVINO: in the folders that its own set-up script names in the environment
/// (`INTEL_OPENVINO_DIR`, `LD_LIBRARY_PATH`), in `OPENVINO_INSTALL_DIR`, or in those of the system's packages.
#[must_use]
pub fn find() -> Option<PathBuf> {
    // It panics where it may not list a folder.
    catch_unwind(openvino_sys::library::find).ok().flatten()
}

/// Loads the library for this process, which can load one; the version that it says it has.
///
/// # Errors
/// Why the file cannot be loaded, or is another library.
pub(super) fn load(file: &Path) -> Result<String, String> {
    static LOADED: OnceLock<PathBuf> = OnceLock::new();
    // Before the crate loads it: that takes any library, and panics at the first call of one that is another.
    let version = version(file)?;
    if number(&version).is_none_or(|number| number < MIN_VERSION) {
        let (year, release) = MIN_VERSION;
        return Err(format!("this is OpenVINO {version}; {year}.{release} or later is needed"));
    }
    let loaded = LOADED.get_or_init(|| file.to_owned());
    if loaded != file {
        return Err(format!("this process has loaded {} already", loaded.display()));
    }
    openvino_sys::library::load_from(file)?;
    Ok(version)
}

fn version(file: &Path) -> Result<String, String> {
    // SAFETY: loading runs the library's initialisers. The operator of the server names the file, or the machine has it
    // where OpenVINO is installed; no client and no guest can name one.
    let library = unsafe { Library::new(file) }.map_err(|error| format!("it cannot be loaded: {error}"))?;
    // SAFETY: `openvino/c/ov_core.h` declares the two functions so, in every version since 2022.
    let get = unsafe {
        library.get::<unsafe extern "C" fn(*mut ov_version_t) -> ov_status_e>(b"ov_get_openvino_version")
    };
    // SAFETY: as above.
    let free = unsafe { library.get::<unsafe extern "C" fn(*mut ov_version_t)>(b"ov_version_free") };
    let (Ok(get), Ok(free)) = (get, free) else {
        return Err(format!("it is not OpenVINO's {FILE_NAME}: it has no ov_get_openvino_version"));
    };
    let mut version = ov_version_t { buildNumber: ptr::null(), description: ptr::null() };
    // SAFETY: the function fills in the structure that it is given, with texts that are the caller's until freed.
    let status = unsafe { get(&raw mut version) };
    if status != ov_status_e::OK || version.buildNumber.is_null() {
        return Err("it does not tell its version".to_owned());
    }
    // SAFETY: a text that the function has just made, which ends with a NUL.
    let number = unsafe { CStr::from_ptr(version.buildNumber) }.to_string_lossy().into_owned();
    // SAFETY: filled in by the function above, and not used after.
    unsafe { free(&raw mut version) };
    Ok(number)
}

/// The year and release of a version such as `2026.4.1-22982-e213a147257-releases/2026/4`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        assert_eq!(number("2026.4.1-22982-e213a147257-releases/2026/4"), Some((2026, 4)));
        assert_eq!(number("2025.0.0-17942"), Some((2025, 0)));
        assert!(number("2025.0.0-17942").unwrap() < MIN_VERSION);
        assert_eq!(number("custom_branch_1"), None);
    }
}
