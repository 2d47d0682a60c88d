//! Forms, query strings and cookies: no panic, nothing longer than what it was written with.
#![no_main]

use gateway_waf::body::{cookies, urlencoded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let mut total = 0;
    urlencoded::parse(body, b'&', &mut |name, value| total += name.len() + value.len());
    assert!(total <= body.len());
    total = 0;
    cookies::parse(body, b';', &mut |name, value| {
        assert!(!name.is_empty());
        total += name.len() + value.len();
    });
    assert!(total <= body.len());
});
