//! See `vespid_fuzz::component`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: vespid_fuzz::bounded(), |data: &[u8]| vespid_fuzz::component(data));
