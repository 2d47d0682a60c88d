//! Just enough DER to read when a certificate ends (RFC 5280, section 4.1) and what a staple says.

use ::time::{Date, Month, Time, UtcDateTime};

/// `notAfter` of a certificate in seconds since 1970; `None` for what is not a certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, rest) = numbered(certificate)?;
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    time(rest)
}

/// The serial number of a certificate, as it is encoded.
pub(super) fn serial(certificate: &[u8]) -> Option<&[u8]> {
    numbered(certificate).map(|(serial, _)| serial)
}

/// The serial number, and what follows it: signature algorithm, issuer, validity.
fn numbered(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, certificate, _) = element(certificate)?;
    let (_, tbs, _) = element(certificate)?;
    // The version is optional.
    let tbs = match element(tbs)? {
        (0xa0, _, rest) => rest,
        _ => tbs,
    };
    let (tag, serial, rest) = element(tbs)?;
    (tag == 0x02).then_some((serial, rest))
}

/// A time in seconds since 1970: UTCTime or GeneralizedTime, both in UTC with seconds (RFC 5280, section 4.1.2.5).
pub(super) fn time(bytes: &[u8]) -> Option<i64> {
    let (tag, text, _) = element(bytes)?;
    let digits = |range: std::ops::Range<usize>| -> Option<u16> {
        std::str::from_utf8(text.get(range)?).ok()?.parse().ok()
    };
    let (year, at) = match tag {
        0x17 => {
            let year = digits(0..2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        0x18 => (digits(0..4)?, 4),
        _ => return None,
    };
    let field = |n: usize| digits(at + 2 * n..at + 2 * n + 2)?.try_into().ok();
    let month = Month::try_from(field(0)?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, field(1)?).ok()?;
    let time = Time::from_hms(field(2)?, field(3)?, field(4)?).ok()?;
    Some(UtcDateTime::new(date, time).unix_timestamp())
}

/// The first element: its tag, its content, and what follows it.
pub(super) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let n = usize::from(first & 0x7f);
        if n == 0 || n > 4 {
            return None;
        }
        let len = rest.get(..n)?.iter().fold(0usize, |len, b| (len << 8) | usize::from(*b));
        (len, rest.get(n..)?)
    };
    Some((tag, rest.get(..len)?, rest.get(len..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (tag, text, expected) in [
            (0x17, "700101000000Z", Some(0)),
            (0x17, "000229000000Z", Some(11_016 * 86_400)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x17, "500101000000Z", Some(-631_152_000)),
            (0x18, "20501231000000Z", Some(29_584 * 86_400)),
            (0x18, "20230229000000Z", None),
            (0x18, "20231301000000Z", None),
            (0x18, "20230101240000Z", None),
            (0x17, "2301", None),
            (0x04, "700101000000Z", None),
        ] {
            let der = [&[tag, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(time(&der), expected, "{text}");
        }
    }

    #[test]
    fn reads_the_end_of_a_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("params");
        let key = rcgen::KeyPair::generate().expect("key");
        for (year, expected) in [(2030, 1_893_456_000), (2060, 2_840_140_800)] {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).expect("certificate");
            assert_eq!(not_after(certificate.der()), Some(expected), "{year}");
        }
        assert_eq!(not_after(b"\x30\x03abc"), None);
    }
}
