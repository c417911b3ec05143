//! Numbers as people read them.

use std::time::Duration;

use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// A number of bytes in decimal units: `0 B`, `999 B`, `1.2 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A span of time to two units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A point in time to the second: `2026-11-27 12:00:00 UTC`.
pub fn moment(time: impl Into<OffsetDateTime>) -> String {
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let time = time.into().to_offset(UtcOffset::UTC);
    time.format(seconds).unwrap_or_else(|_| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_change_unit_where_three_digits_end() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_960, "10 kB"),
            (999_600, "1.0 MB"),
            (8_845_025_328, "8.8 GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "18447 PB");
    }

    #[test]
    fn durations_name_two_units() {
        let cases = [
            (0, "0.0 s"),
            (12, "12 s"),
            (200, "3 min 20 s"),
            (7_500, "2 h 5 min"),
            (356_400, "4 d 3 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
