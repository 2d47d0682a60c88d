//! The ClientHello: no panic, and bytes that come later change nothing about an answer that was given.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the whole file is taken in for its reader")]
#[path = "../../../gateway-userspace/src/listen/ja4.rs"]
mod ja4;
use ja4::Peek;

fuzz_target!(|data: &[u8]| {
    check(data);
    // Seldom found by chance: one record with one ClientHello around the bytes.
    let mut hello = vec![22, 3, 1];
    let length = data.len().min(0x3fff - 4);
    hello.extend(((length + 4) as u16).to_be_bytes());
    hello.push(1);
    hello.extend(&(length as u32).to_be_bytes()[1..]);
    hello.extend(&data[..length]);
    check(&hello);
});

fn check(stream: &[u8]) {
    for stable in [false, true] {
        let whole = ja4::ja4(stream, stable);
        for cut in [stream.len() / 2, stream.len().saturating_sub(1)] {
            let early = ja4::ja4(&stream[..cut], stable);
            assert!(early == Peek::More || early == whole, "{early:?} became {whole:?}");
        }
        if let Peek::Fingerprint(text) = &whole {
            let parts: Vec<&str> = text.split('_').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [10, 12, 12], "{text}");
            assert!(text.is_ascii(), "{text}");
        }
        ja4::ja4_quic(stream, stable);
    }
}
