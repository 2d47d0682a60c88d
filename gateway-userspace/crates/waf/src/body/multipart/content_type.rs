//! The boundary, from the `Content-Type` header.

use super::{MAX_CONTENT_TYPE_BYTES, MultipartFlags, is_space};

const MEDIA_TYPE: &[u8] = b"multipart/form-data";

/// The boundary that a header value names, without quotes.
pub(super) fn boundary<'a>(header: &'a [u8], flags: &mut MultipartFlags) -> Result<&'a [u8], &'static str> {
    if header.len() > MAX_CONTENT_TYPE_BYTES {
        return Err("length");
    }
    let is_media_type =
        header.get(..MEDIA_TYPE.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(MEDIA_TYPE));
    if !is_media_type {
        return Err("not multipart/form-data");
    }
    if boundary_parameters(header) > 1 {
        return Err("several boundary parameters");
    }
    let Some(at) = memchr::memmem::find(header, b"boundary") else {
        return Err(if boundary_parameters(header) > 0 {
            "upper-case parameter name"
        } else {
            "no boundary"
        });
    };
    let mut semicolons = 0;
    for byte in header.get(MEDIA_TYPE.len()..at).unwrap_or_default() {
        match byte {
            b';' if semicolons == 0 => semicolons = 1,
            byte if is_space(*byte) => {}
            _ => return Err("malformed"),
        }
    }
    flags.missing_semicolon = semicolons == 0;
    let parameter = &header[at + b"boundary".len()..];
    let equals = memchr::memchr(b'=', parameter).ok_or("malformed")?;
    if !parameter[..equals].iter().all(|byte| is_space(*byte)) {
        return Err("parameter name");
    }
    let value = &parameter[equals + 1..];
    flags.boundary_whitespace = equals > 0 || value.first().is_some_and(|byte| is_space(*byte));
    let boundary = match value {
        [b'"', inner @ .., b'"'] => {
            flags.boundary_quoted = true;
            inner
        }
        [b'"', ..] | [.., b'"'] => return Err("quote"),
        plain => plain,
    };
    match boundary {
        [] => Err("empty"),
        [.., b' '] => Err("characters"),
        _ if boundary_parameters(boundary) > 0 => Err("content"),
        _ if !boundary.iter().all(|byte| is_boundary_byte(*byte)) => Err("characters"),
        _ => Ok(boundary),
    }
}

/// How often the word "boundary" has an equals sign somewhere behind it.
fn boundary_parameters(text: &[u8]) -> usize {
    let Some(last_equals) = memchr::memrchr(b'=', text) else {
        return 0;
    };
    let lower = text[..last_equals].to_ascii_lowercase();
    memchr::memmem::find_iter(&lower, b"boundary").count()
}

/// The characters of RFC 2046, section 5.1.1.
fn is_boundary_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b' ' | b'\'' | b'(' | b')' | b'+' | b'_' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?'
        )
}
