//! `application/x-www-form-urlencoded` and query strings.

/// What parsing met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// A `%` was not followed by two hexadecimal digits: `URLENCODED_ERROR`.
    pub invalid_encoding: bool,
}

/// Splits at `separator` (SecArgumentSeparator, `&` by default), then at the first `=`, decodes `%HH` and `+`, and hands
/// each decoded pair to `sink`, in order. Empty pieces are left out; a piece without `=` is a name with an empty value.
/// Invalid escapes stay as they are and set a flag. The slices live for the call only.
pub fn parse(input: &[u8], separator: u8, sink: &mut dyn FnMut(&[u8], &[u8])) -> Flags {
    let mut flags = Flags::default();
    let (mut name_space, mut value_space) = (Vec::new(), Vec::new());
    for piece in input.split(|&byte| byte == separator) {
        if piece.is_empty() {
            continue;
        }
        let (name, value) = match memchr::memchr(b'=', piece) {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &[][..]),
        };
        let name = decode(name, &mut name_space, &mut flags);
        let value = decode(value, &mut value_space, &mut flags);
        sink(name, value);
    }
    flags
}

/// Decodes into `space` when there is something to decode.
fn decode<'a>(input: &'a [u8], space: &'a mut Vec<u8>, flags: &mut Flags) -> &'a [u8] {
    let Some(first) = memchr::memchr2(b'%', b'+', input) else {
        return input;
    };
    space.clear();
    space.extend_from_slice(&input[..first]);
    let mut rest = &input[first..];
    while let [byte, tail @ ..] = rest {
        match (byte, tail) {
            (b'+', _) => {
                space.push(b' ');
                rest = tail;
            }
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                space.push(hex_value(*high) << 4 | hex_value(*low));
                rest = after;
            }
            (b'%', _) => {
                flags.invalid_encoding = true;
                space.push(b'%');
                rest = tail;
            }
            _ => {
                space.push(*byte);
                rest = tail;
            }
        }
    }
    space
}

/// The value of a hexadecimal digit; the caller has made sure that it is one.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &[(&str, &str)], invalid: bool) {
        let mut got = Vec::new();
        let flags = parse(input.as_bytes(), b'&', &mut |name, value| {
            got.push((
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            ));
        });
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(got, expected, "{input}");
        assert_eq!(flags.invalid_encoding, invalid, "{input}");
    }

    #[test]
    fn pairs() {
        check("", &[], false);
        check("a=1&b=2", &[("a", "1"), ("b", "2")], false);
        check("a&&b=", &[("a", ""), ("b", "")], false);
        check("=x&a=b=c", &[("", "x"), ("a", "b=c")], false);
        check("a+b=%41%2b+%2B", &[("a b", "A+ +")], false);
        check("a=%4&b=%zz%", &[("a", "%4"), ("b", "%zz%")], true);
        check("a%3Db=c%26d", &[("a=b", "c&d")], false);
    }
}
