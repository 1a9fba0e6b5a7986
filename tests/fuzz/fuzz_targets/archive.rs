//! See `vespid_fuzz::archive`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: vespid_fuzz::bounded(), |data: &[u8]| vespid_fuzz::archive(data));
