//! JSON bodies (RFC 8259), flattened to names and values as arguments.
//!
//! One pass, no tree, no recursion. `{"a":[1,{"b":"x"}]}` gives `json.a.0` = `1` and `json.a.1.b` = `x`, or with
//! [`ArrayNaming::V3`] `json.a.array_0` and `json.a.array_1.b`. Duplicate keys are all kept. Strings are unescaped; numbers, `true` and
//! `false` are given as written, `null` as an empty value. Bytes in strings that are not UTF-8 pass as they are: whether an application
//! would take them is not known here, and what is inside should be seen.

mod text;

#[cfg(test)]
mod tests;

/// How elements of arrays are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ArrayNaming {
    /// By their index alone, `json.a.0`, as Coraza does.
    #[default]
    Index,
    /// By `array_` and their index, `json.a.array_0`, as ModSecurity v3 does.
    V3,
}

/// Bounds and options of parsing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonLimits {
    /// Most arrays and objects within each other (SecRequestBodyJsonDepthLimit).
    pub depth: usize,
    /// Most values handed over.
    pub entries: usize,
    /// Longest name, in bytes: `json` and the keys on the way down.
    pub name_bytes: usize,
    /// How elements of arrays are called.
    pub naming: ArrayNaming,
    /// Whether each array gives one value more, of the array's own name: how many elements it has.
    pub array_lengths: bool,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self {
            depth: 512,
            entries: 20_000,
            name_bytes: 4096,
            naming: ArrayNaming::Index,
            array_lengths: false,
        }
    }
}

/// Why a body is not taken. What was handed over before stays handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON.
    #[error("JSON: at byte {offset}: {what}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What was expected.
        what: &'static str,
    },
    /// Arrays and objects nest too deep.
    #[error("JSON: nested deeper than {limit} levels")]
    TooDeep {
        /// The most levels.
        limit: usize,
    },
    /// There are too many values.
    #[error("JSON: more than {limit} values")]
    TooMany {
        /// The most values.
        limit: usize,
    },
    /// A name grew too long.
    #[error("JSON: a name longer than {limit} bytes")]
    NameTooLong {
        /// The most bytes.
        limit: usize,
    },
}

/// Parses a whole body and hands each value to `sink` with its name, in order. The slices live for the call only.
///
/// # Errors
/// [`JsonError`] at the first thing that is not JSON or beyond a limit.
pub fn parse(input: &[u8], limits: &JsonLimits, sink: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), JsonError> {
    let mut parser = Parser {
        input,
        at: 0,
        limits,
        sink,
        name: b"json".to_vec(),
        scratch: Vec::new(),
        open: Vec::new(),
        entries: 0,
    };
    parser.skip_space();
    parser.value()?;
    while !parser.open.is_empty() {
        parser.step()?;
    }
    parser.skip_space();
    if parser.at == input.len() { Ok(()) } else { Err(parser.malformed("the end after the value")) }
}

/// An array or object that is not closed yet.
struct Open {
    /// How much of the name is the container's own.
    name_length: usize,
    /// How many elements have been begun.
    count: usize,
    is_array: bool,
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    limits: &'a JsonLimits,
    sink: &'a mut dyn FnMut(&[u8], &[u8]),
    name: Vec<u8>,
    scratch: Vec<u8>,
    open: Vec<Open>,
    entries: usize,
}

impl Parser<'_> {
    fn malformed(&self, what: &'static str) -> JsonError {
        JsonError::Malformed { offset: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// One element of the innermost container, or its end.
    fn step(&mut self) -> Result<(), JsonError> {
        let Some(container) = self.open.last_mut() else {
            return Ok(());
        };
        self.name.truncate(container.name_length);
        let (is_array, count) = (container.is_array, container.count);
        self.skip_space();
        let closing = if is_array { b']' } else { b'}' };
        match self.peek() {
            Some(byte) if byte == closing => {
                self.at += 1;
                return self.close();
            }
            Some(b',') if count > 0 => {
                self.at += 1;
                self.skip_space();
            }
            Some(_) if count == 0 => {}
            _ => {
                return Err(self.malformed(if is_array { "a comma or ]" } else { "a comma or }" }));
            }
        }
        if let Some(container) = self.open.last_mut() {
            container.count += 1;
        }
        self.name.push(b'.');
        if is_array {
            self.push_index(count);
        } else {
            self.key()?;
        }
        if self.name.len() > self.limits.name_bytes {
            return Err(JsonError::NameTooLong { limit: self.limits.name_bytes });
        }
        self.value()
    }

    fn close(&mut self) -> Result<(), JsonError> {
        let Some(container) = self.open.pop() else {
            return Ok(());
        };
        if container.is_array && self.limits.array_lengths {
            self.count_entry()?;
            let mut digits = Vec::with_capacity(8);
            push_decimal(&mut digits, container.count);
            (self.sink)(&self.name, &digits);
        }
        Ok(())
    }

    fn push_index(&mut self, index: usize) {
        if self.limits.naming == ArrayNaming::V3 {
            self.name.extend_from_slice(b"array_");
        }
        push_decimal(&mut self.name, index);
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed("a key in double quotes"));
        }
        self.at += 1;
        self.at = text::unescape(self.input, self.at, &mut self.name)?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.malformed("a colon"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), JsonError> {
        if self.entries == self.limits.entries {
            return Err(JsonError::TooMany { limit: self.limits.entries });
        }
        self.entries += 1;
        Ok(())
    }

    /// A value: scalars are handed over, containers are opened.
    fn value(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(opening @ (b'[' | b'{')) => {
                if self.open.len() == self.limits.depth {
                    return Err(JsonError::TooDeep { limit: self.limits.depth });
                }
                self.at += 1;
                self.open.push(Open { name_length: self.name.len(), count: 0, is_array: opening == b'[' });
                return Ok(());
            }
            Some(b'"') => {
                self.count_entry()?;
                let start = self.at + 1;
                // Most strings have no escape and need no copy.
                if let Some(end) = text::plain_end(self.input, start) {
                    self.at = end + 1;
                    (self.sink)(&self.name, &self.input[start..end]);
                } else {
                    self.scratch.clear();
                    self.at = text::unescape(self.input, start, &mut self.scratch)?;
                    (self.sink)(&self.name, &self.scratch);
                }
                return Ok(());
            }
            _ => self.count_entry()?,
        }
        let rest = &self.input[self.at..];
        let length = match rest.first() {
            Some(b't') if rest.starts_with(b"true") => 4,
            Some(b'f') if rest.starts_with(b"false") => 5,
            Some(b'n') if rest.starts_with(b"null") => 4,
            Some(b'-' | b'0'..=b'9') => {
                text::number_length(rest).ok_or(self.malformed("the digits of a number"))?
            }
            _ => return Err(self.malformed("a value")),
        };
        self.at += length;
        (self.sink)(&self.name, if rest[0] == b'n' { b"" } else { &rest[..length] });
        Ok(())
    }
}

/// Appends a number in decimal.
fn push_decimal(out: &mut Vec<u8>, number: usize) {
    let start = out.len();
    let mut left = number;
    loop {
        out.push(b'0' + (left % 10) as u8);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out[start..].reverse();
}
