//! Multipart bodies, the header before the first line end: no panic, parts in order and within the body.
#![no_main]

use gateway_waf::body::multipart::{MultipartLimits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = MultipartLimits { parts: 50, files: 5 };
    let (content_type, body) = match data.iter().position(|&byte| byte == b'\n') {
        Some(end) if data.starts_with(b"m") => (&data[..end], &data[end + 1..]),
        _ => (&b"multipart/form-data; boundary=b0"[..], data),
    };
    let result = parse(content_type, body, &limits);
    assert!(result.parts.len() <= limits.parts);
    let mut end = 0;
    for part in &result.parts {
        for range in part.headers.iter().chain([&part.content]) {
            assert!(range.start >= end && range.end >= range.start && range.end <= body.len());
            end = range.end;
        }
    }
});
