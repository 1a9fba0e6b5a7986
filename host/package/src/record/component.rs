//! What a component imports and exports, for those who read a record's config.

use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

/// The names, in the component's order.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Interface {
    pub(super) exports: Vec<String>,
    pub(super) imports: Vec<String>,
}

impl Interface {
    /// That of a component; of a core module there is none. What is not WebAssembly is refused with the reason.
    pub(super) fn read(code: &[u8]) -> Result<Option<Self>, String> {
        let mut found = Self::default();
        // The components and modules within the component, whose sections come in between.
        let mut depth = 0_usize;
        let damaged = |error: wasmparser::BinaryReaderError| error.to_string();
        for payload in Parser::new(0).parse_all(code) {
            match payload.map_err(damaged)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Ok(None),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        found.imports.push(import.map_err(damaged)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        found.exports.push(export.map_err(damaged)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(Some(found))
    }
}
