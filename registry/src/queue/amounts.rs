//! Spans of time and amounts of memory as people write them on a command line.

use std::time::Duration;

/// The longest span that is taken: a hundred years, beyond which clocks run over.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A whole number of seconds, minutes, hours, days or weeks: `30s`, `90m`, `2h`, `3d`, `1w`; none where it is no
/// such text.
///
/// # Errors
/// Where it is longer than a hundred years.
pub(crate) fn span(text: &str) -> Option<Result<Duration, String>> {
    let (unit, seconds) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)]
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))?;
    let count = text.strip_suffix(unit).filter(|digits| !digits.is_empty())?;
    if !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = count.parse::<u64>().ok().and_then(|count| count.checked_mul(seconds));
    Some(limited(text, seconds))
}

/// So many seconds, where they were not too many to be counted.
fn limited(text: &str, seconds: Option<u64>) -> Result<Duration, String> {
    let span = seconds.map(Duration::from_secs).filter(|span| *span <= LONGEST);
    span.ok_or_else(|| format!("{text} is more than a hundred years"))
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
        .unwrap_or_else(|| Err("a time such as 3:55:00, 4h, 90m or 600s".into()))
}

fn slurm(text: &str) -> Option<Result<Duration, String>> {
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
    let mut seconds = Some(0_u64);
    for (number, factor) in days.into_iter().chain(clock.into_iter().zip(places.iter().copied())) {
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        seconds = seconds.zip(part).and_then(|(sum, part)| sum.checked_add(part));
    }
    Some(limited(text, seconds))
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
    use super::*;

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
        for text in ["99999999999999999999", "99999999h", "9999999999-00:00:00"] {
            assert!(walltime(text).unwrap_err().contains("hundred years"), "{text}");
        }
        for text in ["", "h", "-4h", "soon", "1:2:3:4", "4 h x"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
