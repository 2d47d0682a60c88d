//! Just enough DER to read when a certificate ends (RFC 5280, section 4.1) and what a staple says.

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

/// A time in seconds since 1970: UTCTime or GeneralizedTime.
pub(super) fn time(bytes: &[u8]) -> Option<i64> {
    let (tag, text, _) = element(bytes)?;
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
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
    let field = |n: usize| digits(at + 2 * n..at + 2 * n + 2);
    let days = days_from_civil(year, field(0)?, field(1)?);
    Some(days * 86_400 + field(2)? * 3_600 + field(3)? * 60 + field(4)?)
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

/// Days since 1970-01-01 of a date in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March put the leap day last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (date, expected) in
            [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2026, 11, 21), 20_778), ((2050, 12, 31), 29_584)]
        {
            assert_eq!(days_from_civil(date.0, date.1, date.2), expected, "{date:?}");
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
