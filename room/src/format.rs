//! Times, numbers and sizes as people read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::macros::format_description;

/// How long ago, in the largest unit that says enough.
pub fn ago(then: OffsetDateTime) -> String {
    let seconds = (OffsetDateTime::now_utc() - then).whole_seconds();
    span(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))) + " ago"
}

/// `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 60 => format!("{minutes} min"),
        () if hours < 24 && minutes % 60 == 0 => format!("{hours} h"),
        () if hours < 24 => format!("{hours} h {} min", minutes % 60),
        () if hours % 24 == 0 => format!("{days} d"),
        () => format!("{days} d {} h", hours % 24),
    }
}

/// A moment by UTC, `2026-11-29 12:05:15`.
pub fn moment(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    time.format(format).unwrap_or_default()
}

/// A metric with as many digits as tell something; what is not finite is `lost`.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "lost".into(),
        0.0 => "0".into(),
        0.001..1000.0 => format!("{value:.4}"),
        1000.0..1e7 => format!("{value:.0}"),
        _ => format!("{value:.3e}"),
    }
}

/// A count with spaces between thousands.
pub fn count(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `3.2 GiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (value as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value} B"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_counts_and_sizes_read_well() {
        assert_eq!(span(Duration::from_secs(59)), "59 s");
        assert_eq!(span(Duration::from_secs(3 * 3600 + 20 * 60)), "3 h 20 min");
        assert_eq!(span(Duration::from_secs(86400)), "1 d");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(-12), "-12");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
        assert_eq!(number(f64::NAN), "lost");
    }
}
