//! See `tests/fuzz/properties/proxy.rs`.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/fuzz/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::proxy::check(data));
