//! The claim of `tests/it/fuzzed/socks.rs`, for whatever the fuzzer makes of the corpus.

#![no_main]

#[path = "../../tests/it/fuzzed/socks.rs"]
mod claim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| claim::check(data));
