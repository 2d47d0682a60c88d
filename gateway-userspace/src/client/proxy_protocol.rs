//! The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): parsing only, no I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a version 2 header begins with.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a version 2 header before its addresses: signature, version and command, family, length.
pub const V2_FIXED: usize = 16;
/// Longest version 1 line, with its CRLF.
pub const V1_MAX: usize = 107;
/// Longest version 2 payload (addresses and TLVs) that is read; longer ones are refused.
pub const V2_MAX_PAYLOAD: usize = 4096;

/// What a PROXY header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The connection was relayed from `source` to `destination`.
    Relayed {
        /// The client, as the proxy saw it.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// The proxy speaks for itself (a health check), or doesn't know: its own address counts.
    Local,
}

/// Why bytes are not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Neither `PROXY ` nor the version 2 signature.
    #[error("the connection doesn't begin with a PROXY protocol header")]
    NotProxy,
    /// A version 1 line that the protocol doesn't allow.
    #[error("the PROXY version 1 line is malformed")]
    Line,
    /// A version 2 header that the protocol doesn't allow.
    #[error("the PROXY version 2 header is malformed")]
    Binary,
    /// Longer than allowed.
    #[error("the PROXY header is too long")]
    TooLong,
}

/// Reads a version 1 line, from `PROXY` to its CRLF.
///
/// # Errors
/// [`ProxyHeaderError::Line`] for anything else than one well-formed line.
pub fn parse_v1(line: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let text = line.strip_suffix(b"\r\n").ok_or(ProxyHeaderError::Line)?;
    let text = std::str::from_utf8(text).map_err(|_| ProxyHeaderError::Line)?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return Err(ProxyHeaderError::Line);
    }
    let family = words.next().ok_or(ProxyHeaderError::Line)?;
    if family == "UNKNOWN" {
        return Ok(ProxyHeader::Local);
    }
    let mut address = || words.next().and_then(|w| w.parse::<IpAddr>().ok()).ok_or(ProxyHeaderError::Line);
    let (source, destination) = (address()?, address()?);
    let mut port = || {
        let digits = words.next().filter(|w| w.bytes().all(|b| b.is_ascii_digit()) && w.len() <= 5);
        digits.and_then(|w| w.parse::<u16>().ok()).ok_or(ProxyHeaderError::Line)
    };
    let (source_port, destination_port) = (port()?, port()?);
    let v4 = match family {
        "TCP4" => true,
        "TCP6" => false,
        _ => return Err(ProxyHeaderError::Line),
    };
    if words.next().is_some() || source.is_ipv4() != v4 || destination.is_ipv4() != v4 {
        return Err(ProxyHeaderError::Line);
    }
    Ok(ProxyHeader::Relayed {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Length of what follows a version 2 header's fixed part.
///
/// # Errors
/// [`ProxyHeaderError::NotProxy`] without the signature, [`ProxyHeaderError::TooLong`] past [`V2_MAX_PAYLOAD`].
pub fn v2_payload_len(fixed: &[u8; V2_FIXED]) -> Result<usize, ProxyHeaderError> {
    if !fixed.starts_with(&V2_SIGNATURE) {
        return Err(ProxyHeaderError::NotProxy);
    }
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > V2_MAX_PAYLOAD { Err(ProxyHeaderError::TooLong) } else { Ok(len) }
}

/// Reads a version 2 header: its fixed part and all of its payload. TLVs are passed over.
///
/// # Errors
/// [`ProxyHeaderError::Binary`] for an unknown version, command or family, or a short payload.
pub fn parse_v2(fixed: &[u8; V2_FIXED], payload: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    match fixed[12] {
        0x20 => return Ok(ProxyHeader::Local),
        0x21 => {}
        _ => return Err(ProxyHeaderError::Binary),
    }
    let port = |at: usize| -> Result<u16, ProxyHeaderError> {
        let bytes = payload.get(at..at + 2).and_then(|b| b.try_into().ok());
        bytes.map(u16::from_be_bytes).ok_or(ProxyHeaderError::Binary)
    };
    let v4 = |at: usize| -> Result<IpAddr, ProxyHeaderError> {
        let bytes: Option<[u8; 4]> = payload.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(|b| Ipv4Addr::from(b).into()).ok_or(ProxyHeaderError::Binary)
    };
    let v6 = |at: usize| -> Result<IpAddr, ProxyHeaderError> {
        let bytes: Option<[u8; 16]> = payload.get(at..at + 16).and_then(|b| b.try_into().ok());
        bytes.map(|b| Ipv6Addr::from(b).into()).ok_or(ProxyHeaderError::Binary)
    };
    match fixed[13] {
        0x11 => Ok(ProxyHeader::Relayed {
            source: SocketAddr::new(v4(0)?, port(8)?),
            destination: SocketAddr::new(v4(4)?, port(10)?),
        }),
        0x21 => Ok(ProxyHeader::Relayed {
            source: SocketAddr::new(v6(0)?, port(32)?),
            destination: SocketAddr::new(v6(16)?, port(34)?),
        }),
        // Unspecified transport: the receiver uses the socket's own address.
        0x00 => Ok(ProxyHeader::Local),
        _ => Err(ProxyHeaderError::Binary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1() {
        let relayed = |source: &str, destination: &str| {
            Ok(ProxyHeader::Relayed {
                source: source.parse().expect("address"),
                destination: destination.parse().expect("address"),
            })
        };
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", relayed("192.0.2.1:5000", "192.0.2.2:80")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", relayed("[2001:db8::1]:1", "[2001:db8::2]:2")),
            ("PROXY UNKNOWN\r\n", Ok(ProxyHeader::Local)),
            ("PROXY UNKNOWN ffff:: ffff:: 1 1\r\n", Ok(ProxyHeader::Local)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\n", Err(ProxyHeaderError::Line)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", Err(ProxyHeaderError::Line)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 1\r\n", Err(ProxyHeaderError::Line)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 +500 80\r\n", Err(ProxyHeaderError::Line)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 99999 80\r\n", Err(ProxyHeaderError::Line)),
            ("PROXY TCP6 192.0.2.1 192.0.2.2 5000 80\r\n", Err(ProxyHeaderError::Line)),
            ("PROXY  TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", Err(ProxyHeaderError::Line)),
            ("GET / HTTP/1.1\r\n", Err(ProxyHeaderError::Line)),
        ] {
            assert_eq!(parse_v1(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn version_2() {
        let check =
            |command: u8, family: u8, payload: &[u8], expected: Result<ProxyHeader, ProxyHeaderError>| {
                let mut fixed = [0; V2_FIXED];
                fixed[..12].copy_from_slice(&V2_SIGNATURE);
                fixed[12] = command;
                fixed[13] = family;
                assert_eq!(parse_v2(&fixed, payload), expected, "{command:#x} {family:#x} {payload:?}");
            };
        let relayed = ProxyHeader::Relayed {
            source: "192.0.2.1:258".parse().expect("address"),
            destination: "192.0.2.2:80".parse().expect("address"),
        };
        check(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 0, 80], Ok(relayed));
        check(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 0, 80, 4, 0, 1, 9], Ok(relayed));
        check(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 0], Err(ProxyHeaderError::Binary));
        check(0x20, 0x00, &[], Ok(ProxyHeader::Local));
        check(0x21, 0x00, &[], Ok(ProxyHeader::Local));
        check(0x11, 0x11, &[0; 12], Err(ProxyHeaderError::Binary));
        check(0x21, 0x31, &[0; 216], Err(ProxyHeaderError::Binary));
    }
}
