//! The package's folder over `wasi:filesystem`.

use crate::assets_bindings::wasi::filesystem::preopens::get_directories;
use crate::assets_bindings::wasi::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use crate::{Error, Result};

/// Where the host has the folder.
const FOLDER: &str = "/assets";
const READ: u64 = 1 << 20;

pub(crate) fn read(path: &str) -> Result<Vec<u8>> {
    let folders = get_directories();
    let folder = folders.iter().find(|(_, name)| name == FOLDER).map(|(folder, _)| folder);
    let folder = folder.ok_or_else(|| Error::internal("no folder is granted"))?;
    let failed = |error: ErrorCode| Error::internal(error.name());
    let file = folder
        .open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ)
        .map_err(failed)?;
    let mut content = Vec::new();
    loop {
        let (piece, end) = file.read(READ, content.len() as u64).map_err(failed)?;
        content.extend_from_slice(&piece);
        if end {
            return Ok(content);
        }
    }
}
