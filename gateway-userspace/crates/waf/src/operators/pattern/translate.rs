//! From PCRE's syntax to that of the regex crate.
//!
//! Rules are written for PCRE in byte mode with DOTALL and DOLLAR_ENDONLY, the options of ModSecurity v2 and what CRS
//! expects: the dot matches newlines, `^` and `$` are the very ends of the value. The two syntaxes differ in small and
//! treacherous ways (`\<` is a literal in one and a word boundary in the other; `a++` is possessive in one and a repetition
//! of a repetition in the other; `[[a]` is a class of two bytes in one and an error in the other), so every element is read
//! as PCRE reads it and written out anew, in ASCII. Groups keep their numbers.

use super::PatternError;
use super::class;
use super::scan::{count_groups, counted, delimited, push_literal};
use std::collections::BTreeMap;

/// Longest pattern taken, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// Deepest nesting of groups.
const MAX_GROUP_DEPTH: usize = 200;

/// A pattern in the syntax of the regex crate or, where `needs_backtracking`, of fancy-regex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) source: String,
    /// Look-around, back-references, atomic groups or possessive quantifiers: no automaton can do it.
    pub(super) needs_backtracking: bool,
}

/// Translates a whole pattern.
///
/// # Errors
/// [`PatternError`] with the byte offset of what cannot be taken.
pub(super) fn translate(pattern: &[u8]) -> Result<Translated, PatternError> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TooLong { limit: MAX_PATTERN_BYTES });
    }
    let mut translator = Translator {
        pattern,
        at: 0,
        out: String::with_capacity(pattern.len() + 16),
        extended: false,
        open: Vec::new(),
        atom: None,
        after_look_around: false,
        groups: 0,
        total_groups: count_groups(pattern),
        names: BTreeMap::new(),
        needs_backtracking: false,
        ungreedy: false,
    };
    translator.run()?;
    if translator.needs_backtracking && translator.ungreedy {
        return Err(unsupported(0, "the U option together with look-around or back-references"));
    }
    Ok(Translated { source: translator.out, needs_backtracking: translator.needs_backtracking })
}

pub(super) fn unsupported(offset: usize, what: &'static str) -> PatternError {
    PatternError::Unsupported { offset, what }
}

pub(super) fn malformed(offset: usize, what: &'static str) -> PatternError {
    PatternError::Malformed { offset, what }
}

struct Translator<'a> {
    pattern: &'a [u8],
    at: usize,
    out: String,
    /// The `x` option is on.
    extended: bool,
    open: Vec<OpenGroup>,
    /// Where the last element begins in `out`, when a quantifier may follow it.
    atom: Option<usize>,
    /// The last element is a look-around.
    after_look_around: bool,
    groups: usize,
    total_groups: usize,
    names: BTreeMap<Vec<u8>, usize>,
    needs_backtracking: bool,
    ungreedy: bool,
}

struct OpenGroup {
    /// Where its text begins in `out`.
    start: usize,
    /// The `x` option outside of it.
    extended: bool,
    is_look_around: bool,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), PatternError> {
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' => self.escape()?,
                b'[' => self.class()?,
                b'(' => self.open_group()?,
                b')' => self.close_group()?,
                b'*' | b'+' | b'?' => {
                    self.at += 1;
                    self.quantifier(char::from(byte).encode_utf8(&mut [0; 4]))?;
                }
                b'{' => match counted(&self.pattern[self.at..]) {
                    Some((text, length)) => {
                        self.at += length;
                        self.quantifier(&text)?;
                    }
                    None => self.literal_at_point(),
                },
                b'|' => {
                    self.at += 1;
                    self.out.push('|');
                    self.atom = None;
                }
                b'.' | b'^' | b'$' => {
                    self.at += 1;
                    self.element(char::from(byte).encode_utf8(&mut [0; 4]));
                }
                b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C if self.extended => self.at += 1,
                b'#' if self.extended => {
                    let rest = &self.pattern[self.at..];
                    self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                }
                _ => self.literal_at_point(),
            }
        }
        if self.open.is_empty() { Ok(()) } else { Err(malformed(self.at, "a group is not closed")) }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.pattern.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn literal_at_point(&mut self) {
        if let Some(byte) = self.peek(0) {
            self.at += 1;
            self.literal(byte);
        }
    }

    fn literal(&mut self, byte: u8) {
        self.after_look_around = false;
        self.atom = Some(self.out.len());
        push_literal(&mut self.out, byte);
    }

    fn element(&mut self, text: &str) {
        self.after_look_around = false;
        self.atom = Some(self.out.len());
        self.out.push_str(text);
    }

    /// Writes a quantifier that has just been read, with what makes it lazy or possessive.
    fn quantifier(&mut self, text: &str) -> Result<(), PatternError> {
        let Some(start) = self.atom else {
            return Err(malformed(self.at - 1, "a quantifier has nothing to repeat"));
        };
        if std::mem::take(&mut self.after_look_around) {
            self.repeat_look_around(start, text);
            return Ok(());
        }
        self.out.push_str(text);
        match self.peek(0) {
            Some(b'?') => {
                self.at += 1;
                self.out.push('?');
            }
            Some(b'+') => {
                self.at += 1;
                self.out.insert_str(start, "(?>");
                self.out.push(')');
                self.needs_backtracking = true;
            }
            _ => {}
        }
        // A further quantifier repeats the repetition: a{2}{3}. Wrapping keeps `*` and `?` from joining.
        if matches!(self.peek(0), Some(b'*' | b'+' | b'?')) || counted(self.rest()).is_some() {
            self.out.insert_str(start, "(?:");
            self.out.push(')');
        }
        Ok(())
    }

    /// Looking around twice is looking around once: at most one repetition counts, or none.
    fn repeat_look_around(&mut self, start: usize, quantifier: &str) {
        let is_optional = match quantifier.strip_prefix('{') {
            Some(counts) => counts.trim_start_matches('0').starts_with([',', '}']),
            None => quantifier != "+",
        };
        let is_lazy = self.peek(0) == Some(b'?');
        if matches!(self.peek(0), Some(b'?' | b'+')) {
            self.at += 1;
        }
        if is_optional {
            self.out.insert_str(start, if is_lazy { "(?:|" } else { "(?:" });
            self.out.push_str(if is_lazy { ")" } else { "|)" });
        }
    }

    fn class(&mut self) -> Result<(), PatternError> {
        let (text, length) = class::translate(self.pattern, self.at)?;
        self.element(&text);
        self.at += length;
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), PatternError> {
        let Some(group) = self.open.pop() else {
            return Err(malformed(self.at, "a parenthesis closes nothing; write \\)"));
        };
        self.at += 1;
        self.out.push(')');
        self.extended = group.extended;
        self.atom = Some(group.start);
        self.after_look_around = group.is_look_around;
        Ok(())
    }

    fn push_group(&mut self, opening: &str, length: usize) -> Result<(), PatternError> {
        if self.open.len() == MAX_GROUP_DEPTH {
            return Err(PatternError::TooDeep { limit: MAX_GROUP_DEPTH });
        }
        let is_look_around = matches!(opening, "(?=" | "(?!" | "(?<=" | "(?<!");
        self.open.push(OpenGroup { start: self.out.len(), extended: self.extended, is_look_around });
        self.out.push_str(opening);
        self.at += length;
        self.atom = None;
        Ok(())
    }

    fn open_group(&mut self) -> Result<(), PatternError> {
        let rest = self.rest();
        if rest.starts_with(b"(*") {
            return Err(unsupported(self.at, "verbs, (*..)"));
        }
        if !rest.starts_with(b"(?") {
            self.groups += 1;
            return self.push_group("(", 1);
        }
        if rest.starts_with(b"(?#") {
            let Some(end) = memchr::memchr(b')', rest) else {
                return Err(malformed(self.at, "a comment is not closed"));
            };
            self.at += end + 1;
            return Ok(());
        }
        for (opening, is_fancy) in
            [("(?:", false), ("(?>", true), ("(?=", true), ("(?!", true), ("(?<=", true), ("(?<!", true)]
        {
            if rest.starts_with(opening.as_bytes()) {
                self.needs_backtracking |= is_fancy;
                return self.push_group(opening, opening.len());
            }
        }
        match rest.get(2) {
            Some(b'P') if rest.get(3) == Some(&b'=') => {
                let (name, length) =
                    delimited(rest, 4, b')').ok_or(malformed(self.at, "a name is not closed"))?;
                let number = self.named(name)?;
                self.at += length;
                self.back_reference(number);
                Ok(())
            }
            Some(b'P') if rest.get(3) == Some(&b'<') => self.named_group(4, b'>'),
            Some(b'<') => self.named_group(3, b'>'),
            Some(b'\'') => self.named_group(3, b'\''),
            Some(b'(') => self.conditional(),
            Some(b'|') => Err(unsupported(self.at, "branch reset, (?|..)")),
            Some(b'R' | b'0'..=b'9' | b'&' | b'+' | b'P') => Err(unsupported(self.at, "recursion")),
            Some(b'C') => Err(unsupported(self.at, "call-outs")),
            _ => self.options(),
        }
    }

    fn named_group(&mut self, from: usize, end: u8) -> Result<(), PatternError> {
        let (name, length) =
            delimited(self.rest(), from, end).ok_or(malformed(self.at, "a name is not closed"))?;
        let name = name.to_vec();
        self.groups += 1;
        self.names.insert(name, self.groups);
        self.push_group("(", length)
    }

    /// `(?(1)then|else)`; other conditions are refused.
    fn conditional(&mut self) -> Result<(), PatternError> {
        let number = delimited(self.rest(), 3, b')').and_then(|(digits, length)| {
            Some((std::str::from_utf8(digits).ok()?.parse::<usize>().ok()?, length))
        });
        let Some((number, length)) = number.filter(|(number, _)| (1..=self.total_groups).contains(number))
        else {
            return Err(unsupported(self.at, "conditions other than a group's number"));
        };
        self.needs_backtracking = true;
        self.push_group(&format!("(?({number})"), length)
    }

    /// `(?i)`, `(?i:..)`, `(?s-i)`.
    fn options(&mut self) -> Result<(), PatternError> {
        let rest = self.rest();
        let Some(end) = rest.iter().position(|byte| matches!(byte, b')' | b':')) else {
            return Err(malformed(self.at, "options are not closed"));
        };
        let mut written = String::from("(?");
        let (mut off, mut extended, mut ungreedy) = (false, self.extended, false);
        for &option in &rest[2..end] {
            match option {
                b'-' if !off => {
                    off = true;
                    written.push('-');
                }
                b'i' | b'm' | b's' => written.push(char::from(option)),
                b'U' => {
                    ungreedy = true;
                    written.push('U');
                }
                b'x' => extended = !off,
                b'J' => {}
                _ => return Err(unsupported(self.at, "this kind of group or option")),
            }
        }
        let written = written.trim_end_matches('-').to_owned();
        let is_group = rest[end] == b':';
        self.ungreedy |= ungreedy;
        if is_group {
            self.push_group(&format!("{written}:"), end + 1)?;
        } else {
            if written.len() > 2 {
                self.out.push_str(&written);
                self.out.push(')');
            }
            self.at += end + 1;
            self.atom = None;
        }
        self.extended = extended;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let start = self.at;
        let Some(byte) = self.peek(1) else {
            return Err(malformed(start, "a backslash at the end; write \\\\"));
        };
        if let Some((value, length)) = class::escaped_byte(self.rest(), false)? {
            self.at += length;
            self.literal(value);
            return Ok(());
        }
        let plain = match byte {
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' | b'b' | b'B' | b'A' | b'z' => {
                format!("\\{}", char::from(byte))
            }
            b'Z' => r"(?:\n?\z)".to_owned(),
            b'G' => r"\A".to_owned(),
            b'h' | b'H' | b'v' | b'V' | b'N' => class::shorthand(byte),
            // Atomic in PCRE: \R{2} does not take \r\n apart. Not worth backtracking.
            b'R' => r"(?:\r\n|[\n-\r\x85])".to_owned(),
            b'C' => r"[\x00-\xFF]".to_owned(),
            b'K' => {
                self.needs_backtracking = true;
                r"\K".to_owned()
            }
            b'E' => {
                self.at += 2;
                return Ok(());
            }
            b'Q' => {
                self.quoted();
                return Ok(());
            }
            b'1'..=b'9' => return self.numbered(),
            b'k' | b'g' => return self.reference(byte),
            b'p' | b'P' | b'X' => return Err(unsupported(start, "Unicode properties; rules see bytes")),
            _ => return Err(unsupported(start, "this escape")),
        };
        self.at += 2;
        self.element(&plain);
        Ok(())
    }

    /// `\Q..\E`.
    fn quoted(&mut self) {
        self.at += 2;
        let text = self.pattern.get(self.at..).unwrap_or_default();
        let (length, skip) = memchr::memmem::find(text, br"\E").map_or((text.len(), 0), |end| (end, 2));
        for &byte in &text[..length] {
            self.literal(byte);
        }
        self.at += length + skip;
    }

    /// `\1`: a back-reference, or an octal number where PCRE takes it for one.
    fn numbered(&mut self) -> Result<(), PatternError> {
        let rest = self.rest();
        let digits = rest[1..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        let number = rest[1..=digits].iter().fold(0_usize, |all, digit| all * 10 + usize::from(digit - b'0'));
        if number <= self.total_groups {
            self.at += 1 + digits;
            self.back_reference(number);
            return Ok(());
        }
        if number < 10 {
            return Err(malformed(self.at, "a back-reference to a group that is not there"));
        }
        let (value, length) = class::octal(&rest[1..], 3)
            .ok_or(malformed(self.at, "a back-reference to a group that is not there"))?;
        self.at += 1 + length;
        self.literal(value);
        Ok(())
    }

    /// `\k<name>`, `\k{name}`, `\k'name'`, `\g1`, `\g{-1}`, `\g{name}`.
    fn reference(&mut self, kind: u8) -> Result<(), PatternError> {
        let rest = self.rest();
        let (name, length) = match rest.get(2) {
            Some(b'{') => delimited(rest, 3, b'}'),
            Some(b'<') if kind == b'k' => delimited(rest, 3, b'>'),
            Some(b'\'') if kind == b'k' => delimited(rest, 3, b'\''),
            Some(b'<' | b'\'') => return Err(unsupported(self.at, "recursion")),
            _ => {
                let digits =
                    rest.iter().skip(2).take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
                Some((&rest[2..2 + digits], 2 + digits))
            }
        }
        .ok_or(malformed(self.at, "a reference is not closed"))?;
        let number = match std::str::from_utf8(name).ok().and_then(|text| text.parse::<i64>().ok()) {
            Some(relative) if relative < 0 => usize::try_from(self.groups as i64 + 1 + relative).unwrap_or(0),
            Some(number) => usize::try_from(number).unwrap_or(0),
            None => self.named(name)?,
        };
        if number == 0 || number > self.total_groups {
            return Err(malformed(self.at, "a back-reference to a group that is not there"));
        }
        self.at += length;
        self.back_reference(number);
        Ok(())
    }

    fn named(&self, name: &[u8]) -> Result<usize, PatternError> {
        self.names
            .get(name)
            .copied()
            .ok_or(malformed(self.at, "a back-reference to a name that is not there"))
    }

    fn back_reference(&mut self, number: usize) {
        self.needs_backtracking = true;
        self.element(&format!("(?:\\{number})"));
    }
}
