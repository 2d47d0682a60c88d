//! JA4: a fingerprint of the TLS client, from its ClientHello (FoxIO's JA4 specification, the TLS
//! client method, which is BSD-licensed; TLS records and handshake: RFC 8446 section 4.1.2).
//!
//! Pure: bytes in, fingerprint out; linear in the message, at most [`MAX_HELLO_BYTES`].

use aws_lc_rs::digest;

/// Longest ClientHello that is looked at, in bytes; of a longer one there is no fingerprint.
pub const MAX_HELLO_BYTES: usize = 16 << 10;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    /// A whole ClientHello: its fingerprint, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    Fingerprint(String),
    /// The beginning of a ClientHello: more bytes are needed.
    More,
    /// No ClientHello, or one too long or malformed.
    Other,
}

const EXT_SERVER_NAME: u16 = 0x0000;
const EXT_SIGNATURE_ALGORITHMS: u16 = 0x000d;
const EXT_ALPN: u16 = 0x0010;
const EXT_SUPPORTED_VERSIONS: u16 = 0x002b;

/// Extensions that come and go with session resumption and padding: without them the fingerprint of
/// one client stays the same over its connections.
const UNSTABLE: [u16; 4] = [0x0015, 0x0023, 0x0029, 0x002a];

/// The fingerprint of the ClientHello that a connection over TCP begins with. With `stable`, the
/// extensions that shift on resumption (padding, tickets, pre-shared keys, early data) are left out.
pub fn ja4(stream: &[u8], stable: bool) -> Peek {
    let mut message = Vec::new();
    let mut records = Reader(stream);
    let whole = loop {
        match needed(&message) {
            Some(length) if length > MAX_HELLO_BYTES => return Peek::Other,
            Some(length) if message.len() >= length => break length,
            _ => {}
        }
        if records.0.is_empty() {
            return Peek::More;
        }
        // Record: type 22, version 3.x, length, fragment.
        match records.0 {
            [22, 3, ..] | [22] => {}
            _ => return Peek::Other,
        }
        let mut record = Reader(records.0);
        let Some(fragment) = record.take(3).and_then(|_| record.length_prefixed_16()) else {
            return Peek::More;
        };
        if fragment.is_empty() {
            return Peek::Other;
        }
        message.extend_from_slice(fragment);
        if message.first() != Some(&1) {
            return Peek::Other;
        }
        records = record;
    };
    read(&message, whole, stable, 't')
}

/// The fingerprint of the ClientHello that a QUIC connection begins with, from the data of its CRYPTO frames: as
/// [`ja4`], without records and marked with `q`.
pub fn ja4_quic(message: &[u8], stable: bool) -> Peek {
    match (message.first(), needed(message)) {
        (Some(&first), _) if first != 1 => Peek::Other,
        (_, Some(length)) if length > MAX_HELLO_BYTES => Peek::Other,
        (_, Some(length)) if message.len() >= length => read(message, length, stable, 'q'),
        _ => Peek::More,
    }
}

fn read(message: &[u8], whole: usize, stable: bool, transport: char) -> Peek {
    match message.get(4..whole).and_then(|body| Hello::parse(body, stable)) {
        Some(hello) => Peek::Fingerprint(hello.fingerprint(transport)),
        None => Peek::Other,
    }
}

/// Length of the handshake message with its four bytes of head, once these are there.
fn needed(message: &[u8]) -> Option<usize> {
    match *message {
        [_, a, b, c, ..] => Some(4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))),
        _ => None,
    }
}

#[derive(Default)]
struct Hello {
    version: u16,
    server_name: bool,
    ciphers: Vec<u16>,
    extension_count: usize,
    extensions: Vec<u16>,
    signature_algorithms: Vec<u16>,
    alpn: Vec<u8>,
}

impl Hello {
    fn parse(body: &[u8], stable: bool) -> Option<Self> {
        let mut reader = Reader(body);
        let mut hello = Self { version: reader.u16()?, ..Self::default() };
        reader.take(32)?;
        reader.length_prefixed_8()?;
        hello.ciphers = numbers(reader.length_prefixed_16()?);
        reader.length_prefixed_8()?;
        if reader.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = Reader(reader.length_prefixed_16()?);
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let data = extensions.length_prefixed_16()?;
            if is_grease(kind) || (stable && UNSTABLE.contains(&kind)) {
                continue;
            }
            hello.extension_count += 1;
            match kind {
                EXT_SERVER_NAME => hello.server_name = true,
                EXT_ALPN => {
                    hello.alpn = Reader(Reader(data).length_prefixed_16()?)
                        .length_prefixed_8()
                        .unwrap_or_default()
                        .to_vec();
                }
                _ => hello.extensions.push(kind),
            }
            match kind {
                EXT_SIGNATURE_ALGORITHMS => {
                    hello.signature_algorithms = numbers(Reader(data).length_prefixed_16()?);
                }
                EXT_SUPPORTED_VERSIONS => {
                    let versions = numbers(Reader(data).length_prefixed_8()?);
                    hello.version = versions.into_iter().max().unwrap_or(hello.version);
                }
                _ => {}
            }
        }
        Some(hello)
    }

    fn fingerprint(mut self, transport: char) -> String {
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let name = if self.server_name { 'd' } else { 'i' };
        let [first, last] = alpn_ends(&self.alpn);
        self.ciphers.sort_unstable();
        self.extensions.sort_unstable();
        let mut listed = hex_list(&self.extensions);
        if !self.signature_algorithms.is_empty() {
            listed.push('_');
            listed.push_str(&hex_list(&self.signature_algorithms));
        }
        format!(
            "{transport}{version}{name}{:02}{:02}{first}{last}_{}_{}",
            self.ciphers.len().min(99),
            self.extension_count.min(99),
            if self.ciphers.is_empty() { "0".repeat(12) } else { hash12(&hex_list(&self.ciphers)) },
            if self.extensions.is_empty() { "0".repeat(12) } else { hash12(&listed) },
        )
    }
}

/// First and last character of the first ALPN value; of its hexadecimal form where one of them is
/// not alphanumeric; `00` where there is none.
fn alpn_ends(alpn: &[u8]) -> [char; 2] {
    let (Some(&first), Some(&last)) = (alpn.first(), alpn.last()) else { return ['0', '0'] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [first as char, last as char];
    }
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    [digit(first >> 4), digit(last & 15)]
}

/// Values reserved so that peers learn to ignore what they don't know (RFC 8701): 0x0a0a, 0x1a1a, ...
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// The big-endian 16-bit numbers of `bytes` without GREASE; an odd last byte is ignored.
fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_be_bytes(*b)).filter(|n| !is_grease(*n)).collect()
}

fn hex_list(values: &[u16]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(values.len() * 5);
    for (i, value) in values.iter().enumerate() {
        let _ = write!(out, "{}{value:04x}", if i == 0 { "" } else { "," });
    }
    out
}

fn hash12(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(12);
    for byte in digest::digest(&digest::SHA256, text.as_bytes()).as_ref().iter().take(6) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Reads from the front; `None` where the bytes don't suffice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn u16(&mut self) -> Option<u16> {
        match self.take(2)? {
            [a, b] => Some(u16::from_be_bytes([*a, *b])),
            _ => None,
        }
    }

    fn length_prefixed_8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length)
    }

    fn length_prefixed_16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello in records of at most `fragment` bytes.
    fn hello(version: u16, ciphers: &[u16], extensions: &[(u16, &[u8])], fragment: usize) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(0);
        let list: Vec<u8> = ciphers.iter().flat_map(|c| c.to_be_bytes()).collect();
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        body.extend([1, 0]);
        let mut all = Vec::new();
        for (kind, data) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((data.len() as u16).to_be_bytes());
            all.extend(*data);
        }
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let mut stream = Vec::new();
        for piece in message.chunks(fragment) {
            stream.extend([22, 3, 1]);
            stream.extend((piece.len() as u16).to_be_bytes());
            stream.extend(piece);
        }
        stream
    }

    /// The browser that the specification takes as its example.
    fn browser(fragment: usize) -> Vec<u8> {
        let ciphers = [
            0x2a2a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
            0x009c, 0x009d, 0x002f, 0x0035,
        ];
        let signatures = [0, 16, 4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1];
        let extensions: [(u16, &[u8]); 17] = [
            (0x3a3a, &[]),
            (0x001b, &[]),
            (0x0000, &[]),
            (0x0033, &[]),
            (0x0010, &[0, 12, 2, b'h', b'2', 8, b'h', b't', b't', b'p', b'/', b'1', b'.', b'1']),
            (0x4469, &[]),
            (0x0017, &[]),
            (0x002d, &[]),
            (0x000d, &signatures),
            (0x0005, &[]),
            (0x0023, &[]),
            (0x0012, &[]),
            (0x002b, &[6, 0x4a, 0x4a, 3, 4, 3, 3]),
            (0xff01, &[]),
            (0x000b, &[]),
            (0x000a, &[]),
            (0x0015, &[]),
        ];
        hello(0x0303, &ciphers, &extensions, fragment)
    }

    #[test]
    fn the_specification_s_example() {
        let expected = Peek::Fingerprint("t13d1516h2_8daaf6152771_e5627efa2ab1".to_owned());
        assert_eq!(ja4(&browser(usize::MAX), false), expected);
        assert_eq!(ja4(&browser(50), false), expected, "over several records");
    }

    #[test]
    fn every_cut_needs_more() {
        let stream = browser(100);
        for cut in 0..stream.len() {
            assert_eq!(ja4(&stream[..cut], false), Peek::More, "{cut}");
        }
        let message = &browser(usize::MAX)[5..];
        for cut in 0..message.len() {
            assert_eq!(ja4_quic(&message[..cut], false), Peek::More, "{cut}");
        }
    }

    #[test]
    fn over_quic_there_are_no_records() {
        let stream = browser(usize::MAX);
        let expected = Peek::Fingerprint("q13d1516h2_8daaf6152771_e5627efa2ab1".to_owned());
        assert_eq!(ja4_quic(&stream[5..], false), expected);
        assert_eq!(ja4_quic(&[&stream[5..], b"more"].concat(), false), expected);
        for other in [&stream[..], &[2, 0, 0, 0], &[1, 1, 0, 0]] {
            assert_eq!(ja4_quic(other, false), Peek::Other);
        }
    }

    #[test]
    fn edges() {
        let check = |stream: &[u8], expected: &str| {
            let got = match ja4(stream, false) {
                Peek::Fingerprint(f) => f,
                other => format!("{other:?}"),
            };
            assert!(got.starts_with(expected), "{got} {expected}");
        };
        check(b"GET / HTTP/1.1\r\n", "Other");
        check(&[22, 3, 1, 0, 0], "Other");
        check(&[22, 3, 1, 0, 4, 2, 0, 0, 0], "Other");
        check(&[22, 3, 1, 0, 4, 1, 1, 0, 0], "Other");
        check(&hello(0x0303, &[], &[], 4096), "t12i000000_000000000000_000000000000");
        check(&hello(0x0301, &[0x002f], &[(0x0010, &[0, 3, 2, 0xab, 0xcd])], 4096), "t10i0101ad_");
        check(&hello(0x0303, &[0x002f], &[(0x0010, &[9])], 4096), "Other");
    }

    #[test]
    fn the_stable_form_does_not_shift_on_resumption() {
        let with = hello(0x0303, &[0x1301], &[(0x000a, &[]), (0x0029, &[1]), (0x0023, &[])], 4096);
        let without = hello(0x0303, &[0x1301], &[(0x000a, &[])], 4096);
        assert_eq!(ja4(&with, true), ja4(&without, true));
        assert_ne!(ja4(&with, false), ja4(&without, false));
    }

    #[test]
    fn any_change_of_a_byte_is_survived() {
        let stream = browser(100);
        for at in 0..stream.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = stream.clone();
                changed[at] ^= flip;
                let _ = ja4(&changed, false);
            }
        }
    }
}
