//! Rule files: no panic in parsing and compiling, and every refusal says where it is.
#![no_main]

use gateway_waf::source::MemorySource;
use gateway_waf::{CompileOptions, Entry, Ruleset};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let files = MemorySource::new().with("words.data", "one\ntwo\n");
    let entries = [Entry::Text { name: "fuzz.conf", text }];
    match Ruleset::compile(&files, &entries, &CompileOptions::default()) {
        Ok(_) => {}
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            let lines = text.split('\n').count() as u32;
            assert!(diagnostics.iter().all(|d| d.line <= lines + 1), "{diagnostics:?}");
        }
    }
});
