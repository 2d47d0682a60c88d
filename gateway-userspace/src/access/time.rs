//! Dates as logs and headers write them.

use time::{OffsetDateTime, PrimitiveDateTime};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment by its parts, UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millis: u64,
}

impl Parts {
    /// The parts of `unix_ms` milliseconds since 1970.
    pub(super) fn new(unix_ms: u64) -> Self {
        // What lies beyond the calendar's end, the year 9999, stands there.
        let moment = i64::try_from(unix_ms / 1000)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .unwrap_or(PrimitiveDateTime::MAX.assume_utc());
        Self {
            year: u64::try_from(moment.year()).unwrap_or_default(),
            month: u64::from(u8::from(moment.month())),
            day: u64::from(moment.day()),
            hour: u64::from(moment.hour()),
            minute: u64::from(moment.minute()),
            second: u64::from(moment.second()),
            millis: unix_ms % 1000,
        }
    }

    /// `2026-11-21T02:03:04.005Z`.
    pub(super) fn rfc3339(self, out: &mut Vec<u8>) {
        let Self { year, month, day, hour, minute, second, millis } = self;
        digits(out, year, 4);
        for (before, value, width) in [
            (b'-', month, 2),
            (b'-', day, 2),
            (b'T', hour, 2),
            (b':', minute, 2),
            (b':', second, 2),
            (b'.', millis, 3),
        ] {
            out.push(before);
            digits(out, value, width);
        }
        out.push(b'Z');
    }

    /// `21/Nov/2026:02:03:04 +0000`.
    pub(super) fn common(self, out: &mut Vec<u8>) {
        let Self { year, month, day, hour, minute, second, .. } = self;
        digits(out, day, 2);
        out.push(b'/');
        out.extend_from_slice(MONTHS[(month as usize + 11) % 12].as_bytes());
        for (before, value, width) in [(b'/', year, 4), (b':', hour, 2), (b':', minute, 2), (b':', second, 2)]
        {
            out.push(before);
            digits(out, value, width);
        }
        out.extend_from_slice(b" +0000");
    }
}

fn digits(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10u64.pow(place) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix_ms, rfc3339, common) in [
            (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z", "28/Feb/2000:23:59:59 +0000"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", "29/Feb/2000:00:00:00 +0000"),
            (1_795_228_384_005, "2026-11-21T02:33:04.005Z", "21/Nov/2026:02:33:04 +0000"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z", "01/Jan/2100:00:00:00 +0000"),
        ] {
            let mut out = Vec::new();
            Parts::new(unix_ms).rfc3339(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), rfc3339);
            out.clear();
            Parts::new(unix_ms).common(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), common);
        }
    }
}
