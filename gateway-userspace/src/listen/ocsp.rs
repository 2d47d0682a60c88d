//! OCSP responses from files (RFC 6960), checked for form before they are stapled.
//!
//! The signature is the client's to check: a wrong staple harms nobody but us, and then the file is at fault.

use std::path::Path;

use super::der::{self, element};

/// Largest response that is read, in bytes; clients take no more than 64 KiB of handshake message.
pub const MAX_BYTES: u64 = 32 << 10;

/// What a response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Staple {
    /// When the authority will know more, in seconds since 1970; none: at any time.
    pub(super) next_update: Option<i64>,
}

/// Reads a DER response for the certificate with this serial number.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(file: &Path, certificate: &[u8]) -> Result<(Vec<u8>, Staple), String> {
    let size = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("it has {size} bytes; a response has at most {MAX_BYTES}"));
    }
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    let serial = der::serial(certificate).ok_or("its certificate has no serial number")?;
    let staple = parse(&bytes, serial)?;
    Ok((bytes, staple))
}

const SEQUENCE: u8 = 0x30;
const ENUMERATED: u8 = 0x0a;
const OCTETS: u8 = 0x04;
/// id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

fn parse(bytes: &[u8], serial: &[u8]) -> Result<Staple, String> {
    let form = || "it is not a DER OCSP response (`openssl ocsp -respout` writes one)".to_owned();
    let of = |tag: u8, bytes| expect(tag, bytes).ok_or_else(form);
    let (response, rest) = of(SEQUENCE, bytes)?;
    if !rest.is_empty() {
        return Err(form());
    }
    let (status, response) = of(ENUMERATED, response)?;
    if status != [0] {
        return Err(format!("the authority gave no answer (status {})", status.first().unwrap_or(&0)));
    }
    let (response, _) = of(0xa0, response)?;
    let (response, _) = of(SEQUENCE, response)?;
    let (kind, response) = of(0x06, response)?;
    if kind != BASIC {
        return Err("it is no basic OCSP response".to_owned());
    }
    let (response, _) = of(OCTETS, response)?;
    let (response, _) = of(SEQUENCE, response)?;
    let (data, _) = of(SEQUENCE, response)?;
    // The version is optional; then who answers (by name or by key), when, and the answers.
    let data = expect(0xa0, data).map_or(data, |(_, rest)| rest);
    let (tag, _, data) = element(data).ok_or_else(form)?;
    if !matches!(tag, 0xa1 | 0xa2) {
        return Err(form());
    }
    let (_, data) = of(0x18, data)?;
    let (mut answers, _) = of(SEQUENCE, data)?;
    while !answers.is_empty() {
        let (answer, rest) = of(SEQUENCE, answers)?;
        answers = rest;
        let (id, answer) = of(SEQUENCE, answer)?;
        let (_, id) = of(SEQUENCE, id)?;
        let (_, id) = of(OCTETS, id)?;
        let (_, id) = of(OCTETS, id)?;
        let (number, _) = of(0x02, id)?;
        if number != serial {
            continue;
        }
        let (status, _, answer) = element(answer).ok_or_else(form)?;
        match status {
            0x80 => {}
            0xa1 => return Err("it says that the certificate is revoked".to_owned()),
            _ => return Err("it says that the certificate is not known".to_owned()),
        }
        let (_, answer) = of(0x18, answer)?;
        let next_update = match expect(0xa0, answer) {
            None => None,
            Some((time, _)) => Some(der::time(time).ok_or_else(form)?),
        };
        return Ok(Staple { next_update });
    }
    Err("it is about another certificate".to_owned())
}

/// The content of the first element, which must have this tag, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag];
        match u8::try_from(content.len()) {
            Ok(len) if len < 0x80 => out.push(len),
            _ => out.extend([0x82, (content.len() >> 8) as u8, content.len() as u8]),
        }
        out.extend(content);
        out
    }

    fn response(status: u8, serial: &[u8], cert_status: &[u8], next: Option<&[u8]>) -> Vec<u8> {
        let id =
            tlv(SEQUENCE, &[&tlv(SEQUENCE, &[]), &tlv(4, &[b"n"]), &tlv(4, &[b"k"]), &tlv(2, &[serial])]);
        let next = next.map(|n| tlv(0xa0, &[&tlv(0x18, &[n])])).unwrap_or_default();
        let single = tlv(SEQUENCE, &[&id, cert_status, &tlv(0x18, &[b"20260101000000Z"]), &next]);
        let data = tlv(
            SEQUENCE,
            &[
                &tlv(0xa2, &[&tlv(4, &[b"key"])]),
                &tlv(0x18, &[b"20260101000000Z"]),
                &tlv(SEQUENCE, &[&single]),
            ],
        );
        let basic = tlv(SEQUENCE, &[&data, &tlv(SEQUENCE, &[]), &tlv(3, &[b"\0sig"])]);
        let bytes = tlv(SEQUENCE, &[&tlv(6, &[BASIC]), &tlv(4, &[&basic])]);
        tlv(SEQUENCE, &[&tlv(0x0a, &[&[status]]), &tlv(0xa0, &[&bytes])])
    }

    #[test]
    fn forms() {
        let good: &[u8] = &[0x80, 0];
        let revoked = tlv(0xa1, &[&tlv(0x18, &[b"20260101000000Z"])]);
        let next: Option<&[u8]> = Some(b"20260108000000Z");
        for (bytes, expected) in [
            (response(0, &[1, 2], good, next), Ok(Some(1_767_830_400))),
            (response(0, &[1, 2], good, None), Ok(None)),
            (response(6, &[1, 2], good, next), Err("status 6")),
            (response(0, &[1, 3], good, next), Err("another certificate")),
            (response(0, &[1, 2], &revoked, next), Err("revoked")),
            (response(0, &[1, 2], &[0x82, 0], next), Err("not known")),
            (response(0, &[1, 2], good, Some(b"soon")), Err("not a DER")),
            (b"-----BEGIN OCSP".to_vec(), Err("not a DER")),
            (Vec::new(), Err("not a DER")),
        ] {
            match (parse(&bytes, &[1, 2]), expected) {
                (Ok(staple), Ok(next_update)) => assert_eq!(staple, Staple { next_update }),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error} has no {part}"),
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        }
        let whole = response(0, &[1, 2], good, next);
        for n in 0..whole.len() {
            assert!(parse(&whole[..n], &[1, 2]).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let file = std::env::temp_dir().join(format!("gateway-ocsp-{}", std::process::id()));
        std::fs::write(&file, vec![0; MAX_BYTES as usize + 1]).expect("written");
        let error = read(&file, &[]).expect_err("refused");
        let _ = std::fs::remove_file(&file);
        assert!(error.contains("it has 32769 bytes"), "{error}");
    }
}
