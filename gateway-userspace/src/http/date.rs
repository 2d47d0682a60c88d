//! The `Date` field, made once a second for each thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static LINE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Appends `date: ...` with its line end.
pub(super) fn write(out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    LINE.with_borrow_mut(|(second, line)| {
        if *second != now {
            *second = now;
            *line = format!("date: {}\r\n", imf_fixdate(now));
        }
        out.extend_from_slice(line.as_bytes());
    });
}

/// The field's value.
pub(super) fn value() -> http::HeaderValue {
    let mut line = Vec::with_capacity(40);
    write(&mut line);
    let value = line.get("date: ".len()..line.len().saturating_sub(2)).unwrap_or_default();
    http::HeaderValue::from_bytes(value).unwrap_or(http::HeaderValue::from_static(""))
}

/// IMF-fixdate (RFC 9110, section 5.6.7) of seconds since 1970.
fn imf_fixdate(seconds: u64) -> httpdate::HttpDate {
    (UNIX_EPOCH + Duration::from_secs(seconds)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_228_384, "Sat, 21 Nov 2026 02:33:04 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds).to_string(), expected);
        }
    }
}
