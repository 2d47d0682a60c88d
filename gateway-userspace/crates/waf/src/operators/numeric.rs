//! `@eq`, `@ge`, `@gt`, `@le`, `@lt`: the value and the argument as integers.
//!
//! Numbers are read as C's `strtol` reads them: whitespace, a sign, digits, and whatever follows is ignored; no digits at all
//! are 0. What does not fit saturates at the ends of `i64`; ModSecurity v3 makes 0 of it, which lets `@gt 100` pass
//! a length of twenty digits.

/// Which comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `@eq`
    Equal,
    /// `@ge`
    GreaterOrEqual,
    /// `@gt`
    Greater,
    /// `@le`
    LessOrEqual,
    /// `@lt`
    Less,
}

impl Comparison {
    /// Compares the value with the argument.
    pub fn holds(self, value: i64, argument: i64) -> bool {
        match self {
            Self::Equal => value == argument,
            Self::GreaterOrEqual => value >= argument,
            Self::Greater => value > argument,
            Self::LessOrEqual => value <= argument,
            Self::Less => value < argument,
        }
    }
}

/// The integer at the start of a text, as these operators read it.
pub fn parse_integer(text: &[u8]) -> i64 {
    let text = match text.iter().position(|byte| !matches!(byte, b'\t'..=b'\r' | b' ')) {
        Some(start) => &text[start..],
        None => return 0,
    };
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut number = 0_i64;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        number = number.saturating_mul(10);
        number = if negative { number.saturating_sub(digit) } else { number.saturating_add(digit) };
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, expected) in [
            ("", 0),
            ("12", 12),
            (" \t-7x", -7),
            ("+5", 5),
            ("x", 0),
            ("- 5", 0),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("1e3", 1),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn comparisons() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        for (comparison, below, same, above) in [
            (Equal, false, true, false),
            (GreaterOrEqual, false, true, true),
            (Greater, false, false, true),
            (LessOrEqual, true, true, false),
            (Less, true, false, false),
        ] {
            assert_eq!(
                [comparison.holds(1, 2), comparison.holds(2, 2), comparison.holds(3, 2)],
                [below, same, above]
            );
        }
    }
}
