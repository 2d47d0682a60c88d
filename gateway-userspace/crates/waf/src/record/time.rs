//! Times as logs write them.

use crate::engine::time::civil;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// `Sat Nov 21 02:39:59 2026`, as the JSON form has it.
pub(super) fn stamp(unix_nanos: u64, utc_offset_seconds: i32) -> String {
    let t = civil(unix_nanos, utc_offset_seconds);
    let (day, month) = (name(&DAYS, t.weekday), name(&MONTHS, t.month - 1));
    format!("{day} {month} {:02} {:02}:{:02}:{:02} {}", t.day, t.hour, t.minute, t.second, t.year)
}

/// `21/Nov/2026:02:39:59 +0000`, as the native form has it.
pub(super) fn native_stamp(unix_nanos: u64, utc_offset_seconds: i32) -> String {
    let t = civil(unix_nanos, utc_offset_seconds);
    let sign = if utc_offset_seconds < 0 { '-' } else { '+' };
    let offset = utc_offset_seconds.unsigned_abs() / 60;
    let month = name(&MONTHS, t.month - 1);
    let (hours, minutes) = (offset / 60, offset % 60);
    format!(
        "{:02}/{month}/{}:{:02}:{:02}:{:02} {sign}{hours:02}{minutes:02}",
        t.day, t.year, t.hour, t.minute, t.second
    )
}

fn name(names: &[&'static str], index: i64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("???")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let nanos = 1_795_228_799_000_000_000;
        assert_eq!(stamp(nanos, 0), "Sat Nov 21 02:39:59 2026");
        assert_eq!(native_stamp(nanos, 5400), "21/Nov/2026:04:09:59 +0130");
        assert_eq!(native_stamp(nanos, -3600), "21/Nov/2026:01:39:59 -0100");
    }
}
