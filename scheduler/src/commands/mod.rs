//! One command a file, and what their tables share.

pub mod bench;
pub mod control;
pub mod jobs;
pub mod logs;
pub mod postgres;
pub mod runs;
pub mod show;
pub mod submit;
pub mod sweeps;
pub mod worker;

use std::time::Duration;

use time::OffsetDateTime;

/// How long ago, as people say it.
fn ago(time: OffsetDateTime) -> String {
    let seconds = (OffsetDateTime::now_utc() - time).whole_seconds();
    terminal::duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))) + " ago"
}

/// `12/300` or nothing.
fn fraction(done: Option<i64>, total: Option<i64>) -> String {
    match (done, total) {
        (Some(done), Some(total)) => format!("{done}/{total}"),
        (Some(done), None) => done.to_string(),
        _ => String::new(),
    }
}

/// A metric with as many digits as tell something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.001..1000.0 => format!("{value:.4}"),
        1000.0..1e7 => format!("{value:.0}"),
        _ => format!("{value:.3e}"),
    }
}

/// A metric of many, for lists.
fn metric(values: &serde_json::Value, name: &str) -> String {
    values.get(name).and_then(serde_json::Value::as_f64).map(number).unwrap_or_default()
}

/// A point in time to the second.
fn moment(time: OffsetDateTime) -> String {
    let seconds =
        time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time.to_offset(time::UtcOffset::UTC).format(seconds).unwrap_or_else(|_| time.to_string())
}

/// A JSON object of numbers on one line; null is a number that JSON cannot write.
fn numbers(values: &serde_json::Value) -> String {
    let Some(values) = values.as_object() else { return String::new() };
    let texts = values.iter().map(|(name, value)| match value.as_f64() {
        Some(value) => format!("{name} {}", number(value)),
        None if value.is_null() => format!("{name} nan"),
        None => format!("{name} {value}"),
    });
    texts.collect::<Vec<_>>().join("  ")
}
