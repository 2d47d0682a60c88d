//! `multipart/form-data` bodies (RFC 7578), read as strictly as ModSecurity v3 reads them.
//!
//! Attacks on this format live from two parsers that see different parts in the same bytes. So whatever two parsers might read
//! differently sets a flag (they are the `MULTIPART_*` variables of rules), and what cannot be read in one way only is an error.
//! Nothing is copied: names are decoded, contents and headers are ranges of the body. One pass, linear.

mod content_type;
mod disposition;
mod elide;
mod lines;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use elide::Elider;
use lines::{Line, Marker};

/// Longest `Content-Type` header that is looked at, in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 1024;

/// Longest header of a part, in bytes, with its continuation lines.
pub const MAX_HEADER_BYTES: usize = 4096;

/// Most headers of one part.
pub const MAX_HEADERS: usize = 64;

/// Bounds of parsing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MultipartLimits {
    /// Most parts of a body; more is an error.
    pub parts: usize,
    /// Most files of a body (SecUploadFileLimit); more sets [`MultipartFlags::file_limit_exceeded`], and they are parts all the same.
    pub files: usize,
}

impl Default for MultipartLimits {
    fn default() -> Self {
        Self { parts: 5_000, files: 100 }
    }
}

/// What was seen that well-behaved clients don't send. Each is the variable `MULTIPART_` and its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MultipartFlags {
    /// Data before the first boundary.
    pub data_before: bool,
    /// Data after the last boundary.
    pub data_after: bool,
    /// The boundary is in quotes in the `Content-Type` header.
    pub boundary_quoted: bool,
    /// Whitespace around the `=` of the boundary parameter.
    pub boundary_whitespace: bool,
    /// A part's header goes on in a second line.
    pub header_folding: bool,
    /// That second line begins with something other than a space or tab.
    pub invalid_header_folding: bool,
    /// A line of boundaries or headers ends in LF alone.
    pub lf_line: bool,
    /// Such a line ends in CRLF. Not an anomaly, but one together with `lf_line`.
    pub crlf_line: bool,
    /// No semicolon between the media type and the boundary parameter.
    pub missing_semicolon: bool,
    /// Apostrophes as quotes, or a quote after a value.
    pub invalid_quoting: bool,
    /// A part ended within its headers.
    pub invalid_part: bool,
    /// More files than the limit.
    pub file_limit_exceeded: bool,
    /// Lines that look like a boundary and are not the boundary.
    pub unmatched_boundary: UnmatchedBoundary,
}

/// The variable `MULTIPART_UNMATCHED_BOUNDARY`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnmatchedBoundary {
    /// 0: none.
    #[default]
    None = 0,
    /// 1: there are such lines, and the body is not framed as it should be.
    Unframed = 1,
    /// 2: there are such lines within a body that begins and ends as it should. Often a signature or a key in a text.
    Framed = 2,
}

/// A part that has a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The `name` parameter, without quotes and escapes.
    pub name: Vec<u8>,
    /// The `filename` parameter, where there is one that is not empty: the part is a file.
    pub filename: Option<Vec<u8>>,
    /// The `filename*` parameter (RFC 8187), percent-decoded: the part is a file. Applications differ in which of the two
    /// they take, so inspect both.
    pub filename_extended: Option<Vec<u8>>,
    /// The headers as they stand in the body, without the last line end, in order.
    pub headers: Vec<Range<usize>>,
    /// The content, in the body.
    pub content: Range<usize>,
}

impl Part {
    /// Whether the part is a file and not a form field.
    pub fn is_file(&self) -> bool {
        self.filename.is_some() || self.filename_extended.is_some()
    }
}

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// The `Content-Type` header does not name one boundary clearly.
    #[error("Multipart: invalid boundary in Content-Type ({0})")]
    ContentType(&'static str),
    /// A line begins with the boundary and goes on with something else, or has it in another form.
    #[error("Multipart: invalid boundary at byte {offset} ({what})")]
    Boundary {
        /// Where the line begins.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A part's header cannot be read in one way only.
    #[error("Multipart: invalid part header at byte {offset} ({what})")]
    Header {
        /// Where the line begins.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A part's `Content-Disposition` is missing or malformed.
    #[error("Multipart: invalid Content-Disposition at byte {offset} ({what})")]
    Disposition {
        /// Where the part's headers end.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no boundary in the body.
    #[error("Multipart: no boundaries found in the body")]
    NoBoundary,
    /// The body ends before the last boundary.
    #[error("Multipart: final boundary missing")]
    NoFinalBoundary,
    /// Too many parts.
    #[error("Multipart: more than {limit} parts")]
    TooManyParts {
        /// The most.
        limit: usize,
    },
}

/// What a body is made of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Multipart {
    /// The parts that have a name, in order. After an error, those before it; when the body ends early, the last one
    /// goes to its end.
    pub parts: Vec<Part>,
    /// What was seen that should not be.
    pub flags: MultipartFlags,
    /// What stopped the parsing (`REQBODY_ERROR`, `MULTIPART_STRICT_ERROR`).
    pub error: Option<MultipartError>,
}

impl Multipart {
    /// The variable `MULTIPART_STRICT_ERROR`: an error, or any flag but the one on unmatched boundaries.
    pub fn strict_error(&self) -> bool {
        let flags = &self.flags;
        self.error.is_some()
            || flags.boundary_quoted
            || flags.boundary_whitespace
            || flags.data_before
            || flags.data_after
            || flags.header_folding
            || flags.lf_line
            || flags.missing_semicolon
            || flags.invalid_quoting
            || flags.invalid_part
            || flags.invalid_header_folding
            || flags.file_limit_exceeded
    }

    /// The variable `MULTIPART_CRLF_LF_LINES`: both kinds of line ends.
    pub fn mixes_line_ends(&self) -> bool {
        self.flags.crlf_line && self.flags.lf_line
    }
}

/// Reads a whole body with the value of its `Content-Type` header. An empty body has no parts and no error.
pub fn parse(content_type: &[u8], body: &[u8], limits: &MultipartLimits) -> Multipart {
    let mut result = Multipart::default();
    let boundary = match content_type::boundary(content_type, &mut result.flags) {
        Ok(boundary) => boundary,
        Err(what) => {
            result.error = Some(MultipartError::ContentType(what));
            return result;
        }
    };
    if body.is_empty() {
        return result;
    }
    let mut parser = Parser {
        body,
        boundary,
        limits,
        result,
        part: None,
        boundaries: 0,
        complete: false,
        unmatched: false,
        files: 0,
    };
    let error = parser.run().err();
    parser.finish(error)
}

/// The part that is being read.
struct OpenPart {
    headers: Vec<Range<usize>>,
    /// Once the headers are over: the part without its content's end.
    part: Option<Part>,
}

struct Parser<'a> {
    body: &'a [u8],
    boundary: &'a [u8],
    limits: &'a MultipartLimits,
    result: Multipart,
    part: Option<OpenPart>,
    boundaries: usize,
    complete: bool,
    unmatched: bool,
    files: usize,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), MultipartError> {
        let mut start = 0;
        while start < self.body.len() {
            let line = Line::at(self.body, start);
            start = line.end;
            self.line(&line)?;
        }
        match (self.complete, self.boundaries) {
            (true, _) => Ok(()),
            (false, 0) => Err(MultipartError::NoBoundary),
            (false, _) => Err(MultipartError::NoFinalBoundary),
        }
    }

    fn line(&mut self, line: &Line) -> Result<(), MultipartError> {
        let text = &self.body[line.text.clone()];
        match lines::marker(text, self.boundary, self.result.flags.boundary_quoted) {
            Marker::Boundary { is_final } => return self.boundary(line, is_final),
            Marker::Invalid(what) => return Err(MultipartError::Boundary { offset: line.text.start, what }),
            Marker::Unmatched => self.unmatched = true,
            Marker::None => {}
        }
        match &self.part {
            None if self.complete => self.result.flags.data_after = true,
            None => self.result.flags.data_before = true,
            Some(OpenPart { part: Some(_), .. }) => {}
            Some(_) => return self.header_line(line),
        }
        Ok(())
    }

    fn boundary(&mut self, line: &Line, is_final: bool) -> Result<(), MultipartError> {
        let offset = line.text.start;
        if self.complete {
            return Err(MultipartError::Boundary { offset, what: "another one after the final one" });
        }
        if !line.is_terminated() && !is_final {
            // The body ends here; what is missing is told at the end.
            return Ok(());
        }
        self.note_line_end(line);
        self.close_part(lines::content_end(self.body, offset));
        self.boundaries += 1;
        if is_final {
            self.complete = true;
        } else {
            if self.result.parts.len() == self.limits.parts {
                return Err(MultipartError::TooManyParts { limit: self.limits.parts });
            }
            self.part = Some(OpenPart { headers: Vec::new(), part: None });
        }
        Ok(())
    }

    fn note_line_end(&mut self, line: &Line) {
        if line.is_terminated() {
            self.result.flags.crlf_line |= line.has_cr;
            self.result.flags.lf_line |= !line.has_cr;
        }
    }

    /// Ends the part that is open, if one is, with its content up to `end`.
    fn close_part(&mut self, end: usize) {
        match self.part.take() {
            Some(OpenPart { part: Some(mut part), .. }) => {
                part.content.end = end.max(part.content.start);
                self.result.parts.push(part);
            }
            Some(_) => self.result.flags.invalid_part = true,
            None => {}
        }
    }

    fn header_line(&mut self, line: &Line) -> Result<(), MultipartError> {
        let text = &self.body[line.text.clone()];
        let error = |what| Err(MultipartError::Header { offset: line.text.start, what });
        let Some(open) = &mut self.part else {
            return Ok(());
        };
        if !line.is_terminated() {
            return error("the line is not ended");
        }
        if text.contains(&0) {
            return error("a NUL byte");
        }
        self.result.flags.crlf_line |= line.has_cr;
        self.result.flags.lf_line |= !line.has_cr;
        match text.first() {
            None => return self.end_of_headers(line.end),
            Some(first) if is_space(*first) => {
                self.result.flags.header_folding = true;
                let prefix = text.iter().take_while(|byte| is_space(**byte));
                self.result.flags.invalid_header_folding |=
                    prefix.into_iter().any(|byte| !matches!(byte, b' ' | b'\t'));
                match open.headers.last_mut() {
                    Some(header) => header.end = line.text.end,
                    None => return error("a continuation of nothing"),
                }
            }
            Some(_) => {
                match memchr::memchr(b':', text) {
                    None => return error("no colon"),
                    Some(0) => return error("no name"),
                    Some(_) => open.headers.push(line.text.clone()),
                }
                if open.headers.len() > MAX_HEADERS {
                    return error("too many headers");
                }
            }
        }
        if open.headers.last().is_some_and(|header| header.len() > MAX_HEADER_BYTES) {
            return error("longer than 4096 bytes");
        }
        Ok(())
    }

    /// The empty line after a part's headers; `content` is where the content begins.
    fn end_of_headers(&mut self, content: usize) -> Result<(), MultipartError> {
        let Some(open) = &mut self.part else {
            return Ok(());
        };
        let error = |what| MultipartError::Disposition { offset: content, what };
        let name_of = |header: &Range<usize>| {
            let text = &self.body[header.clone()];
            &text[..memchr::memchr(b':', text).unwrap_or(text.len())]
        };
        // At most MAX_HEADERS, so that comparing each with each is bounded.
        for (at, header) in open.headers.iter().enumerate() {
            if open.headers[..at].iter().any(|other| name_of(other).eq_ignore_ascii_case(name_of(header))) {
                return Err(MultipartError::Header { offset: header.start, what: "a header twice" });
            }
        }
        let disposition = open
            .headers
            .iter()
            .find(|header| name_of(header).eq_ignore_ascii_case(b"content-disposition"))
            .ok_or(error("it is missing"))?;
        let value = &self.body[disposition.start + name_of(disposition).len() + 1..disposition.end];
        let parsed = disposition::parse(value, &mut self.result.flags.invalid_quoting).map_err(error)?;
        let part = Part {
            name: parsed.name,
            filename: parsed.filename.filter(|name| !name.is_empty()),
            filename_extended: parsed.filename_extended,
            headers: open.headers.clone(),
            content: content..content,
        };
        if part.is_file() {
            self.files += 1;
            self.result.flags.file_limit_exceeded |= self.files > self.limits.files;
        }
        open.part = Some(part);
        Ok(())
    }

    fn finish(mut self, error: Option<MultipartError>) -> Multipart {
        if matches!(error, Some(MultipartError::NoFinalBoundary)) {
            self.close_part(self.body.len());
        }
        if self.unmatched {
            let framed = self.complete && error.is_none() && !self.result.flags.data_before;
            self.result.flags.unmatched_boundary =
                if framed { UnmatchedBoundary::Framed } else { UnmatchedBoundary::Unframed };
        }
        self.result.error = error;
        self.result
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}
