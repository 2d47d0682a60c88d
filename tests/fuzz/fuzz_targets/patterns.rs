//! Any pattern: refused with a reason or compiled, never a panic; what is compiled can be searched with.
#![no_main]

use gateway_waf::operators::Captures;
use gateway_waf::operators::pattern::{Pattern, Search};
use libfuzzer_sys::fuzz_target;

const COMPILED_BYTES: usize = 256 * 1024;

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (pattern, value) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    if pattern.len() > 200 || value.len() > 200 {
        return;
    }
    if let Ok(pattern) = Pattern::with_limit(pattern, COMPILED_BYTES) {
        let mut captures = Captures::new();
        let with_captures = pattern.search_with_captures(value, &mut captures);
        let plain = pattern.search(value);
        if plain != Search::LimitExceeded && with_captures != Search::LimitExceeded {
            assert_eq!(plain, with_captures, "{}", pattern.source());
        }
    }
});
