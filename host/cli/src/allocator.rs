//! The allocator, and what it says of itself.
//!
//! jemalloc: it gives the memory of models that have been unloaded back to the system, which the C library's keeps where
//! small blocks lie between. Inference libraries in C++ stay with the C library's: OpenVINO's frees memory with it whatever
//! `malloc` the process has.

use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's name.
pub(crate) const NAME: &str = "jemalloc";

/// What it has handed out, what of it is in memory, and what it has given back and may ask for again.
pub(crate) fn statistics() -> Vec<(&'static str, u64)> {
    // Its numbers are as of the last epoch.
    if epoch::advance().is_err() {
        return Vec::new();
    }
    let read = [
        ("allocated", stats::allocated::read()),
        ("resident", stats::resident::read()),
        ("retained", stats::retained::read()),
    ];
    read.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes.ok()? as u64))).collect()
}
