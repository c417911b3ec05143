//! Spans of time, moments and amounts of memory as people write them on a command line. Moments are
//! UTC unless they name an offset: what local time is cannot be asked safely where threads run.

use std::str::FromStr;
use std::time::Duration;

use time::macros::format_description;
use time::{Date, OffsetDateTime, Time, UtcOffset};

/// From when on: a span before now, by the clock of the database, or a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// From this moment on.
    At(OffsetDateTime),
}

impl Since {
    /// The seconds ago and the moment, at most one of them.
    pub(crate) fn parts(since: Option<Self>) -> (Option<f64>, Option<OffsetDateTime>) {
        match since {
            None => (None, None),
            Some(Self::Ago(span)) => (Some(span.as_secs_f64()), None),
            Some(Self::At(moment)) => (None, Some(moment)),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        span(text).map(Self::Ago).or_else(|| date_and_time(text).map(Self::At)).ok_or_else(|| {
            "a span such as 90m, 2h, 3d, 1w, or a day such as 2026-11-20 (UTC)".into()
        })
    }
}

/// A whole number of seconds, minutes, hours, days or weeks: `30s`, `90m`, `2h`, `3d`, `1w`.
fn span(text: &str) -> Option<Duration> {
    let (unit, seconds) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)]
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))?;
    let count = text.strip_suffix(unit).filter(|digits| digits.len() <= 6)?;
    let count: u64 =
        count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().ok())??;
    Some(Duration::from_secs(count * seconds))
}

/// How long a worker may work: a span with a unit, or as Slurm writes it (`MINUTES`,
/// `MINUTES:SECONDS`, `HOURS:MINUTES:SECONDS`, `DAYS-HOURS`, `DAYS-HOURS:MINUTES`,
/// `DAYS-HOURS:MINUTES:SECONDS`).
///
/// # Errors
/// For any other text.
pub fn walltime(text: &str) -> Result<Duration, String> {
    span(text)
        .or_else(|| slurm(text))
        .ok_or_else(|| "a time such as 3:55:00, 4h, 90m or 600s".into())
}

fn slurm(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some((days, 86_400)), clock),
        None => (None, text),
    };
    let clock: Vec<&str> = clock.split(':').collect();
    let places: &[u64] = match (days.is_some(), clock.len()) {
        (true, 1..=3) | (false, 3) => &[3600, 60, 1],
        (false, 1 | 2) => &[60, 1],
        _ => return None,
    };
    let mut seconds: u64 = 0;
    for (number, factor) in days.into_iter().chain(clock.into_iter().zip(places.iter().copied())) {
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
    }
    Some(Duration::from_secs(seconds))
}

/// `2026-11-20`, its first moment, or `2026-11-20T18:00`, with an offset behind it where that is
/// not UTC.
fn date_and_time(text: &str) -> Option<OffsetDateTime> {
    let (date, rest) = text.split_once(['T', ' ']).map_or((text, None), |(a, b)| (a, Some(b)));
    let date = Date::parse(date, format_description!("[year]-[month]-[day]")).ok()?;
    let (time, offset) = match rest {
        None => (Time::MIDNIGHT, UtcOffset::UTC),
        Some(rest) => time_and_offset(rest)?,
    };
    Some(date.with_time(time).assume_offset(offset))
}

/// `18:00` or `18:00:30`, with `Z`, `+01:00` or nothing behind it.
fn time_and_offset(text: &str) -> Option<(Time, UtcOffset)> {
    let end = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let format = format_description!("[hour]:[minute][optional [:[second]]]");
    let time = Time::parse(&text[..end], format).ok()?;
    let offset = match &text[end..] {
        "" | "Z" => UtcOffset::UTC,
        offset => {
            let format = format_description!("[offset_hour sign:mandatory]:[offset_minute]");
            UtcOffset::parse(offset, format).ok()?
        }
    };
    Some((time, offset))
}

/// A moment to come: `+2h` from now, the next `18:00`, or `2026-11-27T18:00`.
pub(crate) fn moment_to_come(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
    const FORMS: &str = "a moment such as 2026-11-27T18:00 or 18:00 (UTC, or with an offset such as \
                         +01:00 behind it), or +2h from now";
    let far = || format!("{text} is more than a year away");
    let moment = if let Some(span) = text.strip_prefix('+').and_then(span) {
        let span = time::Duration::try_from(span).map_err(|_| far())?;
        now.checked_add(span).ok_or_else(far)?
    } else if let Some((time, offset)) = time_and_offset(text) {
        let today = now.to_offset(offset).replace_time(time);
        if today > now { today } else { today + time::Duration::DAY }
    } else {
        date_and_time(text).ok_or(FORMS)?
    };
    if moment < now {
        return Err(format!("{text} is past (it is {} now, in UTC)", minute(now)));
    }
    if moment - now > time::Duration::days(366) {
        return Err(far());
    }
    Ok(moment)
}

fn minute(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    time.to_offset(UtcOffset::UTC).format(format).unwrap_or_default()
}

/// An amount of memory in bytes: `24GiB`, `80 GB`, `512MiB`; a number alone is bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1000),
        ("B", 1),
    ];
    let (number, factor) = UNITS
        .into_iter()
        .find_map(|(unit, factor)| {
            let at = text.len().checked_sub(unit.len())?;
            let end = text.get(at..)?;
            end.eq_ignore_ascii_case(unit).then(|| (text[..at].trim_end(), factor))
        })
        .unwrap_or((text, 1));
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    match number.parse::<f64>() {
        Ok(value) if number.bytes().all(plain) && value * (factor as f64) < 9e18 => {
            Ok((value * factor as f64).round() as i64)
        }
        _ => {
            Err("an amount such as 24GiB, with the unit B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn since_takes_spans_days_and_moments() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        let cases = [
            ("30s", ago(30)),
            ("90m", ago(5400)),
            ("2h", ago(7200)),
            ("3d", ago(259_200)),
            ("1w", ago(604_800)),
            ("2026-11-20", Ok(Since::At(datetime!(2026-11-20 0:00 UTC)))),
            ("2026-11-20T18:30", Ok(Since::At(datetime!(2026-11-20 18:30 UTC)))),
            ("2026-11-20 18:30:05+01:00", Ok(Since::At(datetime!(2026-11-20 18:30:05 +1)))),
        ];
        for (text, since) in cases {
            assert_eq!(text.parse::<Since>(), since, "{text}");
        }
        for text in [
            "",
            "h",
            "2",
            "-2h",
            "2.5h",
            "+2h",
            "2y",
            "9999999d",
            "2026-13-01",
            "20.11.2026",
            "día",
        ] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }

    #[test]
    fn moments_to_come_are_within_a_year_from_now() {
        let now = datetime!(2026-11-24 16:00 UTC);
        let cases = [
            ("+2h", datetime!(2026-11-24 18:00 UTC)),
            ("18:00", datetime!(2026-11-24 18:00 UTC)),
            ("09:30", datetime!(2026-11-25 9:30 UTC)),
            ("16:30+01:00", datetime!(2026-11-25 15:30 UTC)),
            ("2026-11-27T18:00", datetime!(2026-11-27 18:00 UTC)),
            ("2026-11-27T18:00Z", datetime!(2026-11-27 18:00 UTC)),
            ("2026-11-27T18:00-05:00", datetime!(2026-11-27 23:00 UTC)),
        ];
        for (text, moment) in cases {
            assert_eq!(moment_to_come(text, now), Ok(moment), "{text}");
        }
        for (text, says) in [
            ("2026-11-24T15:59", "is past (it is 2026-11-24T16:00 now"),
            ("2028-01-01", "more than a year"),
            ("+999999w", "more than a year"),
            ("25:00", "a moment such as"),
            ("2h", "a moment such as"),
            ("soon", "a moment such as"),
        ] {
            let error = moment_to_come(text, now).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn memory_has_decimal_and_binary_units() {
        let cases = [
            ("0", 0),
            ("1024", 1024),
            ("1.5kB", 1500),
            ("24GiB", 24 << 30),
            ("24gib", 24 << 30),
            ("80 GB", 80_000_000_000),
            ("512MiB", 512 << 20),
            ("2KiB", 2048),
        ];
        for (text, count) in cases {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        for text in
            ["", "GiB", "-1GiB", "1e3", "nan", "24G", "24 gigs", "1..5GB", "99999999TiB", "é"]
        {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wall_times_are_read_as_slurm_writes_them_or_with_a_unit() {
        let seconds = |text| walltime(text).map(|span| span.as_secs()).ok();
        for (text, expected) in [
            ("3:55:00", 14_100),
            ("1-00:00:00", 86_400),
            ("2-12", 216_000),
            ("2-12:30", 217_800),
            ("10:30", 630),
            ("45", 2_700),
            ("4h", 14_400),
            ("90m", 5_400),
            ("600s", 600),
            ("2d", 172_800),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "h", "-4h", "soon", "1:2:3:4", "99999999999999999999", "4 h x"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
