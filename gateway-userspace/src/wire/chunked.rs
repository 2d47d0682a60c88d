//! The chunked coding (RFC 9112, section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, HeadLimits, Scan};

/// Longest chunk-size line with its extensions, in bytes.
pub const MAX_CHUNK_LINE: usize = 256;
/// Most bytes of a trailer section.
pub const MAX_TRAILER_BYTES: usize = 8 << 10;
/// Most trailer fields.
pub const MAX_TRAILERS: usize = 32;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not one to fifteen hexadecimal digits, an extension or nothing, then CRLF.
    #[error("a chunk size is malformed")]
    Size,
    /// The size line is longer than [`MAX_CHUNK_LINE`].
    #[error("a chunk extension is too long")]
    Line,
    /// No CRLF after a chunk's data.
    #[error("a chunk doesn't end where its size says")]
    End,
    /// The trailer section is malformed or too large.
    #[error("the trailer section is malformed")]
    Trailer,
}

/// What the decoder found.
#[derive(Debug)]
pub enum Decoded {
    /// More bytes are needed.
    Need,
    /// Data of the body.
    Data(Bytes),
    /// The end, with its trailer fields.
    End(HeaderMap),
}

/// A decoder: feed it the same growing buffer, it takes what it has understood.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    scan: Scan,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

impl Chunked {
    /// Takes the next piece out of `buf`.
    ///
    /// # Errors
    /// At the first byte that doesn't belong; the body is lost then, and the connection with it.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, ChunkError> {
        loop {
            match self.state {
                State::Size => {
                    let Some(size) = take_size(buf)? else { return Ok(Decoded::Need) };
                    self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                }
                State::Data(left) => {
                    if buf.is_empty() {
                        return Ok(Decoded::Need);
                    }
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    let left = left - n as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(buf.split_to(n).freeze()));
                }
                State::DataEnd => {
                    match buf.as_ref() {
                        [] | [b'\r'] => return Ok(Decoded::Need),
                        [b'\r', b'\n', ..] => buf.advance(2),
                        _ => return Err(ChunkError::End),
                    }
                    self.state = State::Size;
                }
                State::Trailer => {
                    let limits = HeadLimits { bytes: MAX_TRAILER_BYTES, fields: MAX_TRAILERS, target: 0 };
                    let end = self.scan.advance(buf, &limits).map_err(|_| ChunkError::Trailer)?;
                    let Some(end) = end else { return Ok(Decoded::Need) };
                    let section = buf.split_to(end).freeze();
                    self.state = State::Done;
                    let trailers = if section.len() == 2 {
                        HeaderMap::new()
                    } else {
                        head::fields(&section, 0, MAX_TRAILERS.min(4)).map_err(|_| ChunkError::Trailer)?
                    };
                    return Ok(Decoded::End(trailers));
                }
                State::Done => return Ok(Decoded::End(HeaderMap::new())),
            }
        }
    }

    /// Whether the last chunk and its trailers were read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// The size of the next chunk, when its line is complete.
fn take_size(buf: &mut BytesMut) -> Result<Option<u64>, ChunkError> {
    let window = &buf[..buf.len().min(MAX_CHUNK_LINE)];
    let line = match memchr::memchr(b'\n', window) {
        Some(end) => window[..end].strip_suffix(b"\r").ok_or(ChunkError::Size)?,
        None if window.len() == MAX_CHUNK_LINE => return Err(ChunkError::Line),
        // Refuse what can't become right, rather than wait for more of it.
        None => match window.first() {
            Some(b) if !b.is_ascii_hexdigit() => return Err(ChunkError::Size),
            _ => return Ok(None),
        },
    };
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let extension = &line[digits..];
    let odd = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
    if !matches!(digits, 1..=15)
        || !(extension.is_empty() || extension[0] == b';')
        || extension.iter().any(odd)
    {
        return Err(ChunkError::Size);
    }
    let size = line[..digits].iter().fold(0u64, |n, b| {
        let digit = char::from(*b).to_digit(16).unwrap_or(0);
        (n << 4) | u64::from(digit)
    });
    let taken = line.len() + 2;
    buf.advance(taken);
    Ok(Some(size))
}

/// Appends `data` as one chunk; nothing for empty data, which would end the body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    use std::io::Write as _;
    if data.is_empty() {
        return;
    }
    // Writing to a Vec doesn't fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk with its trailer section.
pub fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        super::write_fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in steps of `step` bytes; the body, its trailers and what is left over.
    fn decode(text: &[u8], step: usize) -> Result<(Vec<u8>, usize, Vec<u8>), ChunkError> {
        let mut decoder = Chunked::default();
        let mut buf = BytesMut::new();
        let mut body = Vec::new();
        let mut rest = text;
        loop {
            match decoder.decode(&mut buf)? {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::End(trailers) => {
                    buf.extend_from_slice(rest);
                    return Ok((body, trailers.len(), buf.to_vec()));
                }
                Decoded::Need if rest.is_empty() => return Ok((body, usize::MAX, buf.to_vec())),
                Decoded::Need => {
                    let (now, later) = rest.split_at(step.min(rest.len()));
                    buf.extend_from_slice(now);
                    rest = later;
                }
            }
        }
    }

    #[test]
    fn decodes_the_same_however_it_arrives() {
        let ok = |body: &str, trailers: usize, rest: &str| {
            Ok((body.as_bytes().to_vec(), trailers, rest.as_bytes().to_vec()))
        };
        for (text, expected) in [
            ("5\r\nhello\r\n0\r\n\r\n", ok("hello", 0, "")),
            ("5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET", ok("hello0123456789", 0, "GET")),
            ("1\r\na\r\n0\r\nX: y\r\n\r\n", ok("a", 1, "")),
            ("0005\r\nhello\r\n0\r\n\r\n", ok("hello", 0, "")),
            ("5\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("5\r\nhello\n0\r\n\r\n", Err(ChunkError::End)),
            ("5\r\nhelloX0\r\n\r\n", Err(ChunkError::End)),
            ("0x5\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("+5\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("-5\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            (" 5\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("5 \r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("5 ;a\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("5;a\rb\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size)),
            ("FFFFFFFFFFFFFFFF\r\nhello", Err(ChunkError::Size)),
            ("10000000000000005\r\nhello", Err(ChunkError::Size)),
            ("0\r\nX : y\r\n\r\n", Err(ChunkError::Trailer)),
            ("0\r\nX: y\n\r\n", Err(ChunkError::Trailer)),
            ("0\r\n\n", Err(ChunkError::Trailer)),
            (&format!("5;{}", "a".repeat(300)), Err(ChunkError::Line)),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(decode(text.as_bytes(), step), expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let mut out = Vec::new();
        write_chunk(&mut out, b"hello");
        write_chunk(&mut out, b"");
        write_chunk(&mut out, &[b'a'; 300]);
        out.extend_from_slice(b"0\r\n\r\n");
        let (body, trailers, rest) = decode(&out, 64).expect("well-formed");
        assert_eq!((body.len(), trailers, rest.len()), (305, 0, 0));
    }
}
