//! Leaves the contents of large files out of a body while it comes in.
//!
//! What comes out is a body that [`parse`] reads as it would have read the whole: the same parts, flags and error, only
//! that files end after a number of bytes. What they held in truth is counted. For rules that ask for names and sizes of
//! files and not for what is in them; the whole body is the caller's to keep.

use super::{MultipartFlags, MultipartLimits, content_type, lines, lines::Marker, parse};

/// Longest head of a part that is looked at, in bytes; after a longer one nothing is left out any more.
const MAX_HEAD_BYTES: usize = 512 << 10;

/// Where in the body the next byte is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Before the first part, or in a part that is no file.
    Outside,
    /// In the headers of a part, which are kept.
    Head,
    /// In a file's content.
    File,
    /// Nothing is left out any more: the last boundary came, or something that cannot be read.
    Done,
}

/// How the line under way is treated.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Its bytes go on as they come.
    Kept,
    /// It began within what is left out, and its beginning does not tell yet what it is.
    Waiting,
    /// Its bytes are left out.
    Left,
}

/// Takes a body in pieces and gives on what is kept of it.
#[derive(Debug)]
pub struct Elider {
    content_type: Vec<u8>,
    boundary: Vec<u8>,
    quoted: bool,
    keep: u64,
    state: State,
    line: Line,
    /// The line's beginning, as much as telling a boundary takes.
    start: Vec<u8>,
    /// The line's length so far, without its LF.
    line_len: u64,
    last: u8,
    /// The last bytes of a line that is left out, to find a boundary within it.
    tail: Vec<u8>,
    head: Vec<u8>,
    /// Bytes of the file's content so far, the line under way among them.
    content: u64,
    /// The same up to the line under way.
    content_before_line: u64,
    /// How long the end of the line before is: 2 for CRLF, 1 for LF.
    line_end: u64,
    /// Whether what was given on ends with a line end.
    out_at_line_start: bool,
    told_unmatched: bool,
    sizes: Vec<u64>,
}

impl Elider {
    /// For a body with this `Content-Type`, of whose files `keep` bytes and the rest of the line are kept. None where the
    /// boundary is not clear: then nothing may be left out.
    pub fn new(content_type: &[u8], keep: u64) -> Option<Self> {
        let mut flags = MultipartFlags::default();
        let boundary = content_type::boundary(content_type, &mut flags).ok()?.to_vec();
        Some(Self {
            content_type: content_type.to_vec(),
            boundary,
            quoted: flags.boundary_quoted,
            keep,
            state: State::Outside,
            line: Line::Kept,
            start: Vec::new(),
            line_len: 0,
            last: 0,
            tail: Vec::new(),
            head: Vec::new(),
            content: 0,
            content_before_line: 0,
            line_end: 0,
            out_at_line_start: true,
            told_unmatched: false,
            sizes: Vec::new(),
        })
    }

    /// Takes a piece; what is kept goes to `out`, in order.
    pub fn push(&mut self, piece: &[u8], out: &mut dyn FnMut(&[u8])) {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.state == State::Done {
                return out(rest);
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (bytes, after) = rest.split_at(end);
            rest = after;
            self.bytes(bytes, out);
            if bytes.ends_with(b"\n") {
                self.end_of_line();
            }
        }
    }

    /// The body's end.
    pub fn finish(&mut self) {
        if self.state == State::File {
            match lines::marker(&self.start, &self.boundary, self.quoted) {
                // The last boundary needs no line end.
                Marker::Boundary { is_final: true } => self.close_file(),
                _ => self.sizes.push(self.content),
            }
        }
        self.state = State::Done;
    }

    /// The lengths of the files' contents, in the order of the body; valid after [`finish`](Self::finish).
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// Bytes of a line: all of it, or what came of it.
    fn bytes(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let room = (self.boundary.len() + 8).saturating_sub(self.start.len());
        self.start.extend_from_slice(&text[..text.len().min(room)]);
        self.line_len += text.len() as u64;
        if let Some(last) = text.last() {
            self.last = *last;
        }
        if self.state == State::File {
            self.content += bytes.len() as u64;
        }
        match self.line {
            Line::Kept => {
                self.give(bytes, out);
                if self.state == State::File {
                    self.remember(text);
                }
            }
            Line::Waiting => {
                // What waits is two dashes at most: the line's beginning.
                let waited = self.line_len as usize - text.len();
                let waiting = self.start[..waited.min(self.start.len())].to_vec();
                if self.start.starts_with(b"--") && self.start.len() > 2 {
                    // A boundary, or what looks like one.
                    self.line = Line::Kept;
                    self.begin_line(out);
                    self.give(&waiting, out);
                    self.give(bytes, out);
                } else if !b"--".starts_with(&self.start) {
                    self.line = Line::Left;
                    self.leave(&waiting, out);
                    self.leave(text, out);
                }
            }
            Line::Left => self.leave(text, out),
        }
        if self.state == State::Head {
            self.head.extend_from_slice(bytes);
            if self.head.len() > MAX_HEAD_BYTES {
                self.state = State::Done;
            }
        }
        // Within a line without end as well.
        if self.state == State::File && self.line == Line::Kept && self.content > self.keep {
            let may_be_boundary = self.start.starts_with(b"--") || b"--".starts_with(&self.start);
            if !may_be_boundary && !bytes.ends_with(b"\n") {
                self.line = Line::Left;
            }
        }
    }

    fn end_of_line(&mut self) {
        let has_cr = self.line_len > 0 && self.last == b'\r';
        let text_len = self.line_len - u64::from(has_cr);
        let is_whole = text_len <= self.start.len() as u64;
        let text = &self.start[..self.start.len().min(text_len as usize)];
        let marker = if self.line == Line::Kept && (is_whole || text.starts_with(b"--")) {
            lines::marker(text, &self.boundary, self.quoted)
        } else {
            Marker::None
        };
        // A longer line that begins as the boundary does is an error, and so is its beginning.
        match marker {
            Marker::Boundary { is_final } => self.boundary_line(is_final),
            Marker::Invalid(_) => {
                self.close_file();
                self.state = State::Done;
            }
            Marker::Unmatched | Marker::None => {
                if self.state == State::Head && text_len == 0 {
                    self.end_of_head();
                }
            }
        }
        self.line_end = 1 + u64::from(has_cr);
        self.content_before_line = self.content;
        self.start.clear();
        self.tail.clear();
        (self.line_len, self.last) = (0, 0);
        let beyond = self.state == State::File && self.content > self.keep;
        self.line = if beyond { Line::Waiting } else { Line::Kept };
    }

    fn boundary_line(&mut self, is_final: bool) {
        self.close_file();
        self.head.clear();
        self.state = if is_final { State::Done } else { State::Head };
        if !is_final {
            self.head.extend_from_slice(b"--");
            self.head.extend_from_slice(&self.boundary);
            self.head.extend_from_slice(b"\r\n");
        }
    }

    fn close_file(&mut self) {
        if self.state == State::File {
            self.sizes.push(self.content_before_line.saturating_sub(self.line_end));
        }
        (self.content, self.content_before_line) = (0, 0);
    }

    /// What the parser itself makes of the part's headers decides whether the part is a file.
    fn end_of_head(&mut self) {
        self.head.extend_from_slice(b"\r\n--");
        self.head.extend_from_slice(&self.boundary);
        self.head.extend_from_slice(b"--\r\n");
        let parsed = parse(&self.content_type, &self.head, &MultipartLimits::default());
        self.head = Vec::new();
        self.state = match (&*parsed.parts, parsed.error) {
            ([part], None) if part.is_file() => State::File,
            ([_], None) => State::Outside,
            _ => State::Done,
        };
        (self.content, self.told_unmatched) = (0, false);
        self.line = Line::Kept;
    }

    /// Ends the line that was given on last, with the end that the body has before this line.
    fn begin_line(&mut self, out: &mut dyn FnMut(&[u8])) {
        if !self.out_at_line_start {
            let end: &[u8] = if self.line_end == 2 { b"\r\n" } else { b"\n" };
            self.give(end, out);
        }
    }

    fn give(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        if let Some(last) = bytes.last() {
            self.out_at_line_start = *last == b'\n';
            out(bytes);
        }
    }

    /// Leaves bytes of a line out, but for a boundary within it: that is told once a file.
    fn leave(&mut self, text: &[u8], out: &mut dyn FnMut(&[u8])) {
        if self.remember(text) && !self.told_unmatched {
            self.told_unmatched = true;
            if !self.out_at_line_start {
                self.give(b"\n", out);
            }
            // Not at the line's beginning, where it would be a boundary.
            self.give(&[b"x--", self.boundary.as_slice(), b"\n"].concat(), out);
        }
    }

    /// Notes the last bytes of a line; whether the boundary ends within `text`.
    fn remember(&mut self, text: &[u8]) -> bool {
        let longest = self.boundary.len() + 1;
        let finder = memchr::memmem::Finder::new(&self.boundary);
        let ends_here =
            |bytes: &[u8]| finder.find_iter(bytes).any(|at| at >= 2 && bytes[at - 2..at] == *b"--");
        let head = text.len().min(longest);
        self.tail.extend_from_slice(&text[..head]);
        let found = ends_here(&self.tail) || ends_here(text);
        if text.len() > longest {
            self.tail.clear();
            self.tail.extend_from_slice(&text[text.len() - longest..]);
        } else {
            let from = self.tail.len().saturating_sub(longest);
            self.tail.drain(..from);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Multipart, MultipartError};
    use super::*;

    const KIND: &[u8] = b"multipart/form-data; boundary=abab";

    /// Random numbers (splitmix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }

        fn of<'a>(&mut self, choices: &[&'a [u8]]) -> &'a [u8] {
            choices[self.below(choices.len() as u64) as usize]
        }
    }

    /// Pieces of bodies that stress the framing.
    const PIECES: &[&[u8]] = &[
        b"--abab\r\n",
        b"--abab\n",
        b"--abab--\r\n",
        b"--abab--",
        b"Content-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n",
        b"Content-Disposition: form-data; name=\"f\"; filename=\"x\"\n\n",
        b"Content-Disposition: form-data; name=\"f\"; filename=\"x\"\r\nX: y\r\n\r\n",
        b"Content-Disposition: form-data; name=\"filename=x\"\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"-",
        b"--",
        b"--ab",
        b"abab",
        b"ab--ab",
        b"x--abab",
        b"-- abab",
        b"--other\r\n",
        b"content content content content content\r\n",
        b"more of it without an end, which is longer than what is kept",
    ];

    fn elide(body: &[u8], keep: u64, random: &mut Random) -> (Vec<u8>, Vec<u64>) {
        let mut elider = Elider::new(KIND, keep).expect("a boundary");
        let mut out = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(40) as usize).min(rest.len()));
            elider.push(piece, &mut |bytes| out.extend_from_slice(bytes));
            rest = after;
        }
        elider.finish();
        (out, elider.sizes().to_vec())
    }

    /// What must be the same, whether files are whole or not.
    fn shape(body: &[u8], parsed: &Multipart, sizes: Option<&[u64]>) -> String {
        let mut files = 0;
        let parts: Vec<String> = parsed
            .parts
            .iter()
            .map(|part| {
                let headers: Vec<&[u8]> = part.headers.iter().map(|h| &body[h.clone()]).collect();
                let content = if part.is_file() {
                    files += 1;
                    format!(
                        "{:?}",
                        sizes.map_or(Some(part.content.len() as u64), |s| s.get(files - 1).copied())
                    )
                } else {
                    format!("{:?}", &body[part.content.clone()])
                };
                format!("{:?} {:?} {headers:?} {content}", part.name, part.filename)
            })
            .collect();
        let error = parsed.error.as_ref().map(|error| match error {
            MultipartError::Boundary { what, .. } => format!("boundary {what}"),
            MultipartError::Header { what, .. } => format!("header {what}"),
            MultipartError::Disposition { what, .. } => format!("disposition {what}"),
            other => other.to_string(),
        });
        format!("{parts:#?} {:?} {error:?}", parsed.flags)
    }

    #[test]
    fn what_is_left_reads_as_the_whole_does() {
        let mut random = Random(1);
        let limits = MultipartLimits::default();
        let (mut shorter, mut files) = (0, 0);
        for round in 0..20_000 {
            let mut body = Vec::new();
            if random.below(8) > 0 {
                body.extend_from_slice(PIECES[0]);
                body.extend_from_slice(random.of(&PIECES[4..8]));
            }
            for _ in 0..random.below(20) {
                body.extend_from_slice(random.of(PIECES));
            }
            let keep = random.below(60);
            let (kept, sizes) = elide(&body, keep, &mut random);
            let whole = parse(KIND, &body, &limits);
            let reduced = parse(KIND, &kept, &limits);
            shorter += usize::from(kept.len() < body.len());
            files += whole.parts.iter().filter(|p| p.is_file()).count();
            assert_eq!(
                shape(&kept, &reduced, Some(&sizes)),
                shape(&body, &whole, None),
                "round {round}, keep {keep}\n{}\n---\n{}",
                String::from_utf8_lossy(&body),
                String::from_utf8_lossy(&kept)
            );
        }
        assert!(shorter > 3_000 && files > 6_000, "{shorter} {files}");
    }

    #[test]
    fn a_large_file_takes_no_memory() {
        let mut random = Random(2);
        for content in [vec![b'a'; 1 << 20], b"a line of it\n".repeat(80_000)] {
            let head = b"--abab\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n";
            let body = [head.as_slice(), &content, b"\r\n--abab--\r\n"].concat();
            let (kept, sizes) = elide(&body, 1000, &mut random);
            assert!(kept.len() < 1300, "{}", kept.len());
            assert_eq!(sizes, [content.len() as u64]);
        }
    }
}
