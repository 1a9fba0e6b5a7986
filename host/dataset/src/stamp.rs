//! What tells one state of a file from another.

use object_store::ObjectMeta;

/// The file's entity tag, or else the time that it was modified (RFC 3339, as exact as the store has it).
pub(crate) fn stamp(meta: &ObjectMeta) -> String {
    meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339())
}
