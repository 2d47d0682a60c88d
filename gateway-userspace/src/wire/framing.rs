//! How long a message's body is (RFC 9112, section 6).

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; responses only.
    Close,
}

/// Why the framing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Content-Length beside Transfer-Encoding: two lengths.
    #[error("both Content-Length and Transfer-Encoding are given")]
    Both,
    /// More than one Content-Length, or one that is not a plain number.
    #[error("the Content-Length is malformed")]
    Length,
    /// A Transfer-Encoding other than a single `chunked`.
    #[error("the Transfer-Encoding is not supported")]
    Encoding,
    /// Transfer-Encoding in HTTP/1.0.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    OldEncoding,
}

impl Framing {
    /// The framing of a request.
    ///
    /// # Errors
    /// For whatever two readers could take for two lengths.
    pub fn of_request(version: Version, headers: &HeaderMap) -> Result<Self, FramingError> {
        Ok(declared(version, headers)?.unwrap_or(Self::None))
    }

    /// The framing of the response to a request with `method`.
    ///
    /// # Errors
    /// As [`Framing::of_request`].
    pub fn of_response(
        method: &Method,
        status: StatusCode,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, FramingError> {
        let declared = declared(version, headers)?;
        if *method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Ok(Self::None);
        }
        Ok(declared.unwrap_or(Self::Close))
    }
}

fn declared(version: Version, headers: &HeaderMap) -> Result<Option<Framing>, FramingError> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(FramingError::Both),
        (None, Some(length)) => {
            let length = number(length).ok_or(FramingError::Length)?;
            if lengths.next().is_some() {
                Err(FramingError::Length)
            } else {
                Ok(Some(Framing::Length(length)))
            }
        }
        (Some(_), None) if version == Version::HTTP_10 => Err(FramingError::OldEncoding),
        (Some(encoding), None) => {
            if encodings.next().is_none() && encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                Ok(Some(Framing::Chunked))
            } else {
                Err(FramingError::Encoding)
            }
        }
    }
}

/// One to nineteen digits.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    if !matches!(digits.len(), 1..=19) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n: u64, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (version, fields, expected) in [
            (Version::HTTP_11, &[][..], Ok(Framing::None)),
            (Version::HTTP_11, &[("content-length", "5")], Ok(Framing::Length(5))),
            (Version::HTTP_11, &[("content-length", "05")], Ok(Framing::Length(5))),
            (Version::HTTP_11, &[("content-length", "+5")], Err(FramingError::Length)),
            (Version::HTTP_11, &[("content-length", "5, 5")], Err(FramingError::Length)),
            (Version::HTTP_11, &[("content-length", "")], Err(FramingError::Length)),
            (Version::HTTP_11, &[("content-length", "0x5")], Err(FramingError::Length)),
            (Version::HTTP_11, &[("content-length", "99999999999999999999")], Err(FramingError::Length)),
            (
                Version::HTTP_11,
                &[("content-length", "5"), ("content-length", "5")],
                Err(FramingError::Length),
            ),
            (Version::HTTP_11, &[("transfer-encoding", "chunked")], Ok(Framing::Chunked)),
            (Version::HTTP_11, &[("transfer-encoding", "Chunked")], Ok(Framing::Chunked)),
            (Version::HTTP_11, &[("transfer-encoding", "gzip, chunked")], Err(FramingError::Encoding)),
            (Version::HTTP_11, &[("transfer-encoding", "chunked, chunked")], Err(FramingError::Encoding)),
            (Version::HTTP_11, &[("transfer-encoding", "identity")], Err(FramingError::Encoding)),
            (Version::HTTP_11, &[("transfer-encoding", "")], Err(FramingError::Encoding)),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(FramingError::Encoding),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "chunked"), ("content-length", "5")],
                Err(FramingError::Both),
            ),
            (Version::HTTP_10, &[("transfer-encoding", "chunked")], Err(FramingError::OldEncoding)),
            (Version::HTTP_10, &[("content-length", "5")], Ok(Framing::Length(5))),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(Framing::of_request(version, &headers), expected, "{version:?} {fields:?}");
        }
    }

    #[test]
    fn responses() {
        let check = |method: Method, status: u16, length: Option<&'static str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(length) = length {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            let status = StatusCode::from_u16(status).expect("status");
            assert_eq!(Framing::of_response(&method, status, Version::HTTP_11, &headers), expected);
        };
        check(Method::GET, 200, Some("5"), Ok(Framing::Length(5)));
        check(Method::GET, 200, None, Ok(Framing::Close));
        check(Method::HEAD, 200, Some("5"), Ok(Framing::None));
        check(Method::GET, 304, Some("5"), Ok(Framing::None));
        check(Method::GET, 204, None, Ok(Framing::None));
    }
}
