//! The body stands in the library, where ordinary tests replay the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| switchboard_proto::fuzzing::gateway_peer(data));
