//! See `tests/fuzz/properties/header.rs`.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/fuzz/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::header::check(data));
