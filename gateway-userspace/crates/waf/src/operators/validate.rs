//! `@validateByteRange`, `@validateUrlEncoding`, `@validateUtf8Encoding`: they match what is invalid.

use super::OperatorError;

/// The bytes that `@validateByteRange` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    allowed: [bool; 256],
}

impl ByteRange {
    /// The set of an argument such as `10,13,32-126`. An empty argument allows nothing.
    ///
    /// # Errors
    /// [`OperatorError::Argument`] names the part that is no byte and no range of bytes.
    pub fn new(argument: &str) -> Result<Self, OperatorError> {
        let mut range = Self { allowed: [false; 256] };
        for part in argument.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            match (low.trim().parse::<u8>(), high.trim().parse::<u8>()) {
                (Ok(low), Ok(high)) if low <= high => {
                    for byte in low..=high {
                        range.allowed[usize::from(byte)] = true;
                    }
                }
                _ => {
                    let reason =
                        format!("{part:?} is neither a byte from 0 to 255 nor a range such as 32-126");
                    return Err(OperatorError::Argument { name: "validateByteRange", reason });
                }
            }
        }
        Ok(range)
    }

    /// Whether a byte is allowed.
    pub fn allows(&self, byte: u8) -> bool {
        self.allowed[usize::from(byte)]
    }

    /// Whether the value has a byte that is not allowed.
    pub fn is_violated_by(&self, value: &[u8]) -> bool {
        // In blocks without a branch for each byte.
        value.chunks(32).any(|block| !block.iter().fold(true, |all, &byte| all & self.allows(byte)))
    }
}

/// Whether a `%` is not followed by two hexadecimal digits.
pub(super) fn has_invalid_url_encoding(value: &[u8]) -> bool {
    memchr::memchr_iter(b'%', value).any(|at| {
        !matches!(value.get(at + 1..at + 3), Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

/// Whether the value is not UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
pub(super) fn is_invalid_utf8(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_ranges() {
        for (argument, value, expected) in [
            ("1-255", "a\0", true),
            ("1-255", "a", false),
            ("10, 13 ,32-126", "a\r\n", false),
            ("10,13,32-126", "a\t", true),
            ("", "a", true),
            ("", "", false),
        ] {
            let range = ByteRange::new(argument).expect("compiles");
            assert_eq!(range.is_violated_by(value.as_bytes()), expected, "{value:?} against {argument}");
        }
        for argument in ["256", "9-1", "a", "1-", "-1", "1-2-3"] {
            assert!(ByteRange::new(argument).is_err(), "{argument}");
        }
    }

    #[test]
    fn url_encoding() {
        for (value, expected) in
            [("", false), ("a%41%fF", false), ("%4", true), ("%", true), ("%%41", true), ("%zz", true)]
        {
            assert_eq!(has_invalid_url_encoding(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn utf8() {
        let rows: &[(&[u8], bool)] = &[
            (b"abc\xC3\xA9", false),
            (b"\xF0\x9F\x98\x80", false),
            (b"\xC0\x80", true),
            (b"\xED\xA0\x80", true),
            (b"\xF4\x90\x80\x80", true),
            (b"\xE2\x82", true),
            (b"\x80", true),
        ];
        for (value, expected) in rows {
            assert_eq!(is_invalid_utf8(value), *expected, "{value:?}");
        }
    }
}
