//! The claim of `tests/it/fuzzed/settings.rs`, for whatever the fuzzer makes of the corpus.

#![no_main]

#[path = "../../tests/it/fuzzed/settings.rs"]
mod claim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| claim::check(data));
