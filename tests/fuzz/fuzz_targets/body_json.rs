//! JSON bodies: no panic, no value beyond the limits, names below the root.
#![no_main]

use gateway_waf::body::json::{ArrayNaming, JsonLimits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for naming in [ArrayNaming::Index, ArrayNaming::V3] {
        let limits = JsonLimits { depth: 32, entries: 200, name_bytes: 128, naming, array_lengths: true };
        let mut entries = 0;
        let _ = parse(body, &limits, &mut |name, _| {
            entries += 1;
            assert!(name.starts_with(b"json") && name.len() <= limits.name_bytes);
        });
        assert!(entries <= limits.entries);
    }
});
