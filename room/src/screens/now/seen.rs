//! When a reader looked last at what failed: a cookie with the second.

use axum::http::{HeaderMap, header};
use time::OffsetDateTime;

const COOKIE: &str = "palette_seen";

/// What is shown of the time before a reader first says that they have seen it.
const WEEK: time::Duration = time::Duration::days(7);

/// A year.
const KEPT: u32 = 366 * 24 * 60 * 60;

/// The moment after which failures are news; a week ago where nobody said.
pub fn of(headers: &HeaderMap) -> OffsetDateTime {
    let all = headers.get_all(header::COOKIE);
    let pairs = all.iter().filter_map(|one| one.to_str().ok()).flat_map(|one| one.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    let seconds = values.find_map(|value| value.parse().ok());
    seconds
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or_else(|| OffsetDateTime::now_utc() - WEEK)
}

/// The cookie that says that all until now was seen.
pub fn cookie(now: OffsetDateTime) -> String {
    let seconds = now.unix_timestamp();
    format!("{COOKIE}={seconds}; Path=/; HttpOnly; SameSite=Strict; Max-Age={KEPT}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_was_seen_is_read_back_and_nonsense_is_a_week() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let mut headers = HeaderMap::new();
        let set = cookie(now);
        let pair = format!("a=b; {}", set.split(';').next().unwrap());
        headers.insert(header::COOKIE, HeaderValue::try_from(pair).unwrap());
        assert_eq!(of(&headers), now);
        for wrong in ["palette_seen=", "palette_seen=99999999999999999999", "palette_seen=x"] {
            headers.insert(header::COOKIE, HeaderValue::from_static(wrong));
            let age = OffsetDateTime::now_utc() - of(&headers);
            assert!((age - WEEK).abs() < time::Duration::hours(1), "{wrong}");
        }
    }
}
