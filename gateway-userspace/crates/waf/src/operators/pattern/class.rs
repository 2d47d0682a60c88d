//! Character classes and single-byte escapes of PCRE, as sets of bytes.

use std::fmt::Write as _;

use super::PatternError;
use super::translate::{malformed, unsupported};

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSet([bool; 256]);

impl ByteSet {
    const fn empty() -> Self {
        Self([false; 256])
    }

    fn of(test: impl Fn(u8) -> bool) -> Self {
        let mut set = Self::empty();
        for byte in 0..=255_u8 {
            set.0[usize::from(byte)] = test(byte);
        }
        set
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte)] = true;
    }

    fn join(&mut self, other: &Self, negated: bool) {
        for (own, theirs) in self.0.iter_mut().zip(other.0) {
            *own |= theirs != negated;
        }
    }

    /// As a class of the regex crate.
    fn write(&self, negated: bool) -> String {
        let mut out = String::from(if negated { "[^" } else { "[" });
        let mut byte = 0_usize;
        let mut any = false;
        while byte < 256 {
            if !self.0[byte] {
                byte += 1;
                continue;
            }
            let first = byte;
            while byte < 256 && self.0[byte] {
                byte += 1;
            }
            any = true;
            push_in_class(&mut out, first as u8);
            if byte - first > 1 {
                if byte - first > 2 {
                    out.push('-');
                }
                push_in_class(&mut out, (byte - 1) as u8);
            }
        }
        if any {
            out.push(']');
            out
        } else if negated {
            r"[\x00-\xFF]".to_owned()
        } else {
            r"[^\x00-\xFF]".to_owned()
        }
    }
}

fn push_in_class(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "\\x{byte:02X}");
    }
}

/// `\h`, `\v`, `\N` and their negations as classes.
pub(super) fn shorthand(letter: u8) -> String {
    class_escape(letter).map_or_else(|| r"[^\n]".to_owned(), |(set, negated)| set.write(negated))
}

/// The set of `\d`, `\w`, `\s`, `\h`, `\v` and whether the letter negates it.
fn class_escape(letter: u8) -> Option<(ByteSet, bool)> {
    let set = match letter.to_ascii_lowercase() {
        b'd' => ByteSet::of(|byte| byte.is_ascii_digit()),
        b'w' => ByteSet::of(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        b's' => ByteSet::of(|byte| matches!(byte, b'\t'..=b'\r' | b' ')),
        b'h' => ByteSet::of(|byte| matches!(byte, b'\t' | b' ' | 0xA0)),
        b'v' => ByteSet::of(|byte| matches!(byte, b'\n'..=b'\r' | 0x85)),
        _ => return None,
    };
    Some((set, letter.is_ascii_uppercase()))
}

/// The class that begins at `start`, in the syntax of the regex crate, and its length in the pattern.
pub(super) fn translate(pattern: &[u8], start: usize) -> Result<(String, usize), PatternError> {
    let mut at = start + 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let first = at;
    let mut set = ByteSet::empty();
    // The low end of a range, when the last item was a single byte and may begin one.
    let mut low: Option<u8> = None;
    loop {
        let rest = pattern.get(at..).unwrap_or_default();
        match rest.first() {
            None => return Err(malformed(start, "a class is not closed")),
            Some(b']') if at > first => break,
            Some(b'[') if matches!(rest.get(1), Some(b':')) => {
                if let Some((named, length)) = posix(rest, at)? {
                    set.join(&named, false);
                    at += length;
                } else {
                    set.add(b'[');
                    at += 1;
                }
                low = None;
                continue;
            }
            Some(b'\\') if rest.starts_with(br"\Q") => {
                let text = &rest[2..];
                let (length, skip) =
                    memchr::memmem::find(text, br"\E").map_or((text.len(), 0), |end| (end, 2));
                text[..length].iter().for_each(|&byte| set.add(byte));
                at += 2 + length + skip;
                low = text[..length].last().copied();
                continue;
            }
            Some(b'\\') if rest.starts_with(br"\E") => {
                at += 2;
                continue;
            }
            Some(b'\\') if rest.get(1).is_some_and(|&letter| class_escape(letter).is_some()) => {
                if let Some((named, inverted)) = class_escape(rest[1]) {
                    set.join(&named, inverted);
                }
                at += 2;
                low = None;
                continue;
            }
            _ => {}
        }
        // A hyphen between two single bytes makes a range; elsewhere it stands for itself.
        if rest[0] == b'-'
            && let Some(from) = low
            && let Some((to, length)) = range_end(&rest[1..], at)?
        {
            if to < from {
                return Err(malformed(at, "a range runs backwards"));
            }
            (from..=to).for_each(|byte| set.add(byte));
            at += 1 + length;
            low = None;
            continue;
        }
        let (byte, length) = single(rest, at)?;
        set.add(byte);
        at += length;
        low = Some(byte);
    }
    Ok((set.write(negated), at + 1 - start))
}

/// The high end of a range; none when what follows the hyphen ends the class or is itself a class.
fn range_end(rest: &[u8], offset: usize) -> Result<Option<(u8, usize)>, PatternError> {
    match rest {
        [] | [b']', ..] => Ok(None),
        [b'[', b':', ..] if posix(rest, offset)?.is_some() => Ok(None),
        [b'\\', letter, ..] if class_escape(*letter).is_some() => Ok(None),
        _ => single(rest, offset).map(Some),
    }
}

/// One byte of a class, escaped or not.
fn single(rest: &[u8], offset: usize) -> Result<(u8, usize), PatternError> {
    match rest {
        [] => Err(malformed(offset, "a class is not closed")),
        [b'\\', ..] => escaped_byte(rest, true)?.ok_or(unsupported(offset, "this escape in a class")),
        [byte, ..] => Ok((*byte, 1)),
    }
}

/// `[:alpha:]` and its like at the start of `rest`.
fn posix(rest: &[u8], offset: usize) -> Result<Option<(ByteSet, usize)>, PatternError> {
    let Some(end) = memchr::memmem::find(rest, b":]") else {
        return Ok(None);
    };
    let name = &rest[2..end.max(2)];
    let (negated, name) = name.strip_prefix(b"^").map_or((false, name), |name| (true, name));
    if !name.iter().all(u8::is_ascii_lowercase) {
        return Ok(None);
    }
    let test: fn(u8) -> bool = match name {
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"space" => |byte| matches!(byte, b'\t'..=b'\r' | b' '),
        b"blank" => |byte| matches!(byte, b'\t' | b' '),
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"print" => |byte| matches!(byte, 0x20..=0x7E),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        b"word" => |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        b"ascii" => |byte| byte.is_ascii(),
        _ => return Err(malformed(offset, "an unknown class name between [: and :]")),
    };
    Ok(Some((ByteSet::of(|byte| test(byte) != negated), end + 2)))
}

/// The byte that an escape stands for, and the escape's length; none for escapes that mean more than one byte.
pub(super) fn escaped_byte(rest: &[u8], in_class: bool) -> Result<Option<(u8, usize)>, PatternError> {
    let Some(&letter) = rest.get(1) else {
        return Err(malformed(0, "a backslash at the end; write \\\\"));
    };
    let byte = match letter {
        b'a' => 0x07,
        b'b' if in_class => 0x08,
        b'e' => 0x1B,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => return hexadecimal(&rest[2..]).map(|(value, length)| Some((value, length + 2))),
        b'o' if rest.get(2) == Some(&b'{') => {
            let digits = rest[3..].iter().take(4).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            let value = octal(&rest[3..], 4).filter(|_| rest.get(3 + digits) == Some(&b'}'));
            let (value, length) =
                value.ok_or(malformed(0, "an octal number between braces goes from 0 to 377"))?;
            return Ok(Some((value, length + 4)));
        }
        b'0' => return Ok(octal(&rest[1..], 3).map(|(value, length)| (value, length + 1))),
        b'1'..=b'7' if in_class => return Ok(octal(&rest[1..], 3).map(|(value, length)| (value, length + 1))),
        b'8' | b'9' if in_class => letter,
        b'c' => match rest.get(2) {
            Some(control) if control.is_ascii_graphic() || *control == b' ' => {
                return Ok(Some((control.to_ascii_uppercase() ^ 0x40, 3)));
            }
            _ => return Err(malformed(0, "\\c is followed by a printable character")),
        },
        // Letters without a meaning stand for themselves, as they did before PCRE2.
        b'i' | b'j' | b'm' | b'q' | b'y' | b'F' | b'I' | b'J' | b'M' | b'O' | b'T' | b'Y' => letter,
        _ if !letter.is_ascii_alphanumeric() => letter,
        _ => return Ok(None),
    };
    Ok(Some((byte, 2)))
}

/// What follows `\x`: up to two digits, or any number of them in braces.
fn hexadecimal(rest: &[u8]) -> Result<(u8, usize), PatternError> {
    if rest.first() == Some(&b'{')
        && let Some(end) = memchr::memchr(b'}', rest)
        && end > 1
        && rest[1..end].iter().all(u8::is_ascii_hexdigit)
    {
        let digits = std::str::from_utf8(&rest[1..end]).unwrap_or_default();
        return u8::from_str_radix(digits.trim_start_matches('0'), 16)
            .or_else(|_| if digits.trim_start_matches('0').is_empty() { Ok(0) } else { Err(()) })
            .map(|value| (value, end + 1))
            .map_err(|()| {
                unsupported(0, "\\x{..} above FF; rules see bytes, write the bytes of its UTF-8 form")
            });
    }
    let digits = rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let value = rest[..digits]
        .iter()
        .fold(0_u8, |all, digit| all << 4 | char::from(*digit).to_digit(16).unwrap_or(0) as u8);
    Ok((value, digits))
}

/// An octal number of at most `most` digits; larger than 377 keeps its low eight bits, as PCRE does in byte mode.
pub(super) fn octal(rest: &[u8], most: usize) -> Option<(u8, usize)> {
    let digits = rest.iter().take(most).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    let value = rest[..digits].iter().fold(0_u32, |all, digit| all << 3 | u32::from(digit - b'0'));
    (digits > 0).then_some((value as u8, digits))
}
