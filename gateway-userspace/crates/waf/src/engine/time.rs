//! Civil time from nanoseconds since 1970.

/// Date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    /// 0 is Sunday.
    pub weekday: i64,
}

/// Days-from-civil turned around (proleptic Gregorian calendar, eras of 400 years beginning in March).
pub(crate) fn civil(unix_nanos: u64, utc_offset_seconds: i32) -> Civil {
    let seconds = (unix_nanos / 1_000_000_000) as i64 + i64::from(utc_offset_seconds);
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        weekday: (days + 4).rem_euclid(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let rows = [
            (0, 0, [1970, 1, 1, 0, 0, 0, 4]),
            (951_782_400, 0, [2000, 2, 29, 0, 0, 0, 2]),
            (1_795_228_799, 0, [2026, 11, 21, 2, 39, 59, 6]),
            (1_795_228_799, 7200, [2026, 11, 21, 4, 39, 59, 6]),
            (4_107_542_399, 0, [2100, 2, 28, 23, 59, 59, 0]),
        ];
        for (seconds, offset, expected) in rows {
            let c = civil(seconds * 1_000_000_000, offset);
            let got = [c.year, c.month, c.day, c.hour, c.minute, c.second, c.weekday];
            assert_eq!(got, expected, "{seconds}");
        }
    }
}
