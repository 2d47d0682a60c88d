//! `@detectSQLi`: libinjection's tokens and fingerprints, behind a screen.

use libinjectionrs::{SqliFlags, SqliState};

/// Whether the value looks like an SQL injection.
pub(super) fn is_sqli(value: &[u8]) -> bool {
    !is_plainly_harmless(value) && SqliState::new(value, SqliFlags::FLAG_NONE).detect()
}

/// As [`is_sqli`], with libinjection's fingerprint of a value that does.
pub(super) fn fingerprint(value: &[u8]) -> Option<String> {
    if is_plainly_harmless(value) {
        return None;
    }
    let mut state = SqliState::new(value, SqliFlags::FLAG_NONE);
    state.detect().then(|| state.fingerprint_string())
}

/// Whether a value is a single word to libinjection, for which no fingerprint is on its list: only letters, digits and
/// underscores; or with dots, as long as no part between them begins with a digit (`not.1or.0` is four tokens).
fn is_plainly_harmless(value: &[u8]) -> bool {
    let mut dotted = false;
    for (at, &byte) in value.iter().enumerate() {
        match CLASS[usize::from(byte)] {
            WORD => {}
            DOT => {
                dotted = true;
                if value.get(at + 1).is_some_and(u8::is_ascii_digit) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    !dotted || !value.first().is_some_and(u8::is_ascii_digit)
}

const WORD: u8 = 1;
const DOT: u8 = 2;

static CLASS: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'_' {
            classes[byte] = WORD;
        }
        byte += 1;
    }
    classes[b'.' as usize] = DOT;
    classes
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn injections_have_fingerprints() {
        for (value, expected) in [
            ("1' OR '1'='1", Some("s&sos")),
            ("-1 UNION SELECT 1,2", Some("1UE1,")),
            ("not.1or.0", Some("n1&1")),
            ("hello world", None),
            ("", None),
        ] {
            assert_eq!(fingerprint(value.as_bytes()).is_some(), expected.is_some(), "{value}");
            assert_eq!(is_sqli(value.as_bytes()), expected.is_some(), "{value}");
        }
        assert_eq!(fingerprint(b"1' OR '1'='1").as_deref(), Some("s&sos"));
    }

    /// The screen may only pass what libinjection passes: pieces that mean something to it, put together at random.
    #[test]
    fn the_screen_is_sound() {
        const PIECES: &[&str] = &[
            "1", "0", "42", "0x1f", "1e5", "e", "x", "b", "n", "q", "u", "or", "and", "not", "select",
            "union", "from", "null", "sp_", "a", "_", ".", "..", "having", "div", "mod", "in", "is", "like",
            "order", "by", "group", "create", "user", "if", "case", "when", "end", "_utf8", "binary", "0b1",
            "1or", "1and", "sleep", "begin", "into", "outfile", "e1", "1.e", "d", "f",
        ];
        let mut random = Random::new(7);
        let mut screened = 0;
        for _ in 0..60_000 {
            let value: String = (0..=random.below(7)).map(|_| PIECES[random.below(PIECES.len())]).collect();
            if is_plainly_harmless(value.as_bytes()) {
                screened += 1;
                assert!(!SqliState::new(value.as_bytes(), SqliFlags::FLAG_NONE).detect(), "{value}");
            }
        }
        assert!(screened > 10_000, "{screened}");
    }
}
