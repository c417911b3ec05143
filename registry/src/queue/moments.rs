//! Moments as people write them on a command line: in local time (`TZ`, or the zone of the machine), unless they
//! name an offset.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ZonedDateTime};
use time::OffsetDateTime;

use super::amounts::span;

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

    fn read(text: &str, zone: &Zone) -> Result<Self, String> {
        if let Some(span) = span(text) {
            return span.map(Self::Ago);
        }
        let moment = date_and_time(text, zone)?.and_then(|moment| offset_date_time(&moment));
        moment.map(Self::At).ok_or_else(|| {
            "a span such as 90m, 2h, 3d, 1w, or a day such as 2026-11-20, in local time".into()
        })
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, &local)
    }
}

/// The zone of local time: that of `TZ`, or the machine's, or UTC where neither is said.
pub(crate) fn local() -> Result<TimeZone, String> {
    match TimeZone::try_system() {
        Ok(zone) => Ok(zone),
        Err(_) if std::env::var_os("TZ").is_none_or(|zone| zone.is_empty()) => Ok(TimeZone::UTC),
        Err(error) => {
            Err(format!("what local time is cannot be found: {error}; unset TZ, or correct it"))
        }
    }
}

/// The longest span before or after now that is taken, so that no clock runs over: a hundred years, and for what is
/// to come a year.
const YEAR: time::Duration = time::Duration::days(366);

/// A moment to come, as it is typed: which one it is, a clock says.
#[derive(Clone, Debug)]
pub(crate) enum ToCome {
    /// `+2h` from now.
    In(Duration),
    /// The next `18:00` of a zone.
    Next(Time, TimeZone),
    /// `2026-11-27T18:00`.
    At(OffsetDateTime),
}

impl ToCome {
    /// The zone is asked for only where the text says none.
    fn read(text: &str, zone: &Zone) -> Result<Self, String> {
        const FORMS: &str = "a moment such as 2026-11-27T18:00 or 18:00 (local time, or with an offset such as \
             +01:00 or Z behind it), or +2h from now";
        if let Some(span) = text.strip_prefix('+').and_then(span) {
            let near = span.ok().filter(|span| *span <= YEAR);
            return near.map(Self::In).ok_or_else(|| far(text));
        }
        if let Some((time, zone)) = time_and_zone(text, zone)? {
            return Ok(Self::Next(time, zone));
        }
        let moment = date_and_time(text, zone)?.and_then(|moment| offset_date_time(&moment));
        moment.map(Self::At).ok_or_else(|| FORMS.into())
    }

    /// The moment, where it is now so.
    ///
    /// # Errors
    /// Where it is past, or more than a year away.
    pub(crate) fn from(&self, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
        let moment = match self {
            Self::In(span) => {
                time::Duration::try_from(*span).ok().and_then(|it| now.checked_add(it))
            }
            Self::Next(time, zone) => next(*time, now, zone),
            Self::At(moment) => Some(*moment),
        };
        let shown = |moment| in_zone(moment, &local().unwrap_or(TimeZone::UTC));
        match moment {
            Some(moment) if moment < now => {
                Err(format!("{} is past (it is {} now)", shown(moment), shown(now)))
            }
            Some(moment) if moment - now <= YEAR => Ok(moment),
            Some(moment) => Err(far(&shown(moment))),
            None => Err("is beyond all calendars".into()),
        }
    }
}

impl FromStr for ToCome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, &local)
    }
}

fn far(text: &str) -> String {
    format!("{text} is more than a year away")
}

/// Where the zone of local time is found, or why not.
type Zone<'a> = dyn Fn() -> Result<TimeZone, String> + 'a;

/// The first time after now that the clocks of a zone show this.
fn next(time: Time, now: OffsetDateTime, zone: &TimeZone) -> Option<OffsetDateTime> {
    let today = zoned(now, zone)?.date();
    let at = |date: Date| {
        offset_date_time(&date.to_datetime(time).to_zoned_datetime(zone.clone()).ok()?)
    };
    match at(today) {
        Some(moment) if moment > now => Some(moment),
        _ => at(today.tomorrow().ok()?),
    }
}

/// `2026-11-27 18:00 CET (2026-11-27 17:00 UTC)`: a moment in a zone, and in UTC where that is another.
pub(crate) fn in_zone(moment: OffsetDateTime, zone: &TimeZone) -> String {
    let text = |zone: &TimeZone| {
        let zoned = zoned(moment, zone)?;
        let offset = zoned.offset();
        Some((zoned.strftime("%Y-%m-%d %H:%M %Z").to_string(), offset))
    };
    match (text(zone), text(&TimeZone::UTC)) {
        (Some((local, offset)), Some((utc, _))) if offset != Offset::UTC => {
            format!("{local} ({utc})")
        }
        (_, Some((utc, _))) => utc,
        (_, None) => moment.to_string(),
    }
}

fn zoned(moment: OffsetDateTime, zone: &TimeZone) -> Option<ZonedDateTime> {
    Some(Timestamp::from_second(moment.unix_timestamp()).ok()?.to_zoned_datetime(zone.clone()))
}

fn offset_date_time(moment: &ZonedDateTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(moment.timestamp().as_second()).ok()
}

/// `2026-11-20`, its first moment, or `2026-11-20T18:00`, with an offset behind it where it is not the zone's.
fn date_and_time(text: &str, zone: &Zone) -> Result<Option<ZonedDateTime>, String> {
    let (date, rest) = text.split_once(['T', ' ']).map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(date) = Date::strptime("%Y-%m-%d", date) else { return Ok(None) };
    let (time, zone) = match rest {
        None => (Time::midnight(), zone()?),
        Some(rest) => match time_and_zone(rest, zone)? {
            None => return Ok(None),
            Some(both) => both,
        },
    };
    Ok(date.to_datetime(time).to_zoned_datetime(zone).ok())
}

/// `18:00` or `18:00:30`, with `Z`, `+01:00` or nothing behind it.
fn time_and_zone(text: &str, zone: &Zone) -> Result<Option<(Time, TimeZone)>, String> {
    let (time, offset) = text.split_at(text.find(['Z', '+', '-']).unwrap_or(text.len()));
    let Some(time) = time_of(time) else { return Ok(None) };
    let zone = match offset {
        "" => zone()?,
        "Z" => TimeZone::UTC,
        offset => match offset_of(offset) {
            None => return Ok(None),
            Some(offset) => TimeZone::fixed(offset),
        },
    };
    Ok(Some((time, zone)))
}

/// `18:00` or `18:00:30`; seconds go up to 59, a leap second is refused.
fn time_of(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(two_digits);
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// `+01:00`, as far as there are such on Earth.
fn offset_of(text: &str) -> Option<Offset> {
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    if minutes > 59 || seconds > 14 * 3600 {
        return None;
    }
    Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).ok()
}

/// A number of two digits; an hour may have one.
fn two_digits(text: &str) -> Option<i8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// Berlin's rules, as `TZ` can say them without any files.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn since_takes_spans_days_and_moments() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        let cases = [
            ("30s", ago(30)),
            ("90m", ago(5400)),
            ("2h", ago(7200)),
            ("3d", ago(259_200)),
            ("1w", ago(604_800)),
            ("2026-11-20", Ok(Since::At(datetime!(2026-11-19 23:00 UTC)))),
            ("2026-07-20", Ok(Since::At(datetime!(2026-07-19 22:00 UTC)))),
            ("2026-11-20T18:30", Ok(Since::At(datetime!(2026-11-20 17:30 UTC)))),
            ("2026-11-20T18:30Z", Ok(Since::At(datetime!(2026-11-20 18:30 UTC)))),
            ("2026-11-20 18:30:05+02:00", Ok(Since::At(datetime!(2026-11-20 16:30:05 UTC)))),
        ];
        for (text, since) in cases {
            assert_eq!(Since::read(text, &|| Ok(berlin())), since, "{text}");
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

    fn moment_to_come(
        text: &str,
        now: OffsetDateTime,
        zone: &TimeZone,
    ) -> Result<OffsetDateTime, String> {
        ToCome::read(text, &|| Ok(zone.clone()))?.from(now)
    }

    #[test]
    fn a_zone_that_is_not_known_hurts_only_where_it_is_needed() {
        let now = datetime!(2026-11-24 16:00 UTC);
        let broken = || Err("TZ is broken".to_owned());
        for text in ["+2h", "18:00Z", "2026-11-27T18:00+01:00"] {
            assert!(ToCome::read(text, &broken).unwrap().from(now).is_ok(), "{text}");
        }
        for text in ["18:00", "2026-11-27T18:00"] {
            assert_eq!(ToCome::read(text, &broken).unwrap_err(), "TZ is broken", "{text}");
        }
        assert!(Since::read("3d", &broken).is_ok() && Since::read("2026-11-20", &broken).is_err());
    }

    #[test]
    fn moments_to_come_are_local_and_within_a_year_from_now() {
        let now = datetime!(2026-11-24 16:00 UTC);
        let cases = [
            ("+2h", datetime!(2026-11-24 18:00 UTC), datetime!(2026-11-24 18:00 UTC)),
            ("18:00", datetime!(2026-11-24 18:00 UTC), datetime!(2026-11-24 17:00 UTC)),
            ("17:00", datetime!(2026-11-24 17:00 UTC), datetime!(2026-11-25 16:00 UTC)),
            ("09:30", datetime!(2026-11-25 9:30 UTC), datetime!(2026-11-25 8:30 UTC)),
            ("16:30+01:00", datetime!(2026-11-25 15:30 UTC), datetime!(2026-11-25 15:30 UTC)),
            ("2026-11-27T18:00", datetime!(2026-11-27 18:00 UTC), datetime!(2026-11-27 17:00 UTC)),
            ("2027-07-01T18:00", datetime!(2027-07-01 18:00 UTC), datetime!(2027-07-01 16:00 UTC)),
            ("2026-11-27T18:00Z", datetime!(2026-11-27 18:00 UTC), datetime!(2026-11-27 18:00 UTC)),
            (
                "2026-11-27T18:00-05:00",
                datetime!(2026-11-27 23:00 UTC),
                datetime!(2026-11-27 23:00 UTC),
            ),
        ];
        for (text, utc, local) in cases {
            assert_eq!(moment_to_come(text, now, &TimeZone::UTC), Ok(utc), "{text}");
            assert_eq!(moment_to_come(text, now, &berlin()), Ok(local), "{text} in Berlin");
        }
        for (text, says) in [
            ("2026-11-24T16:59", "is past (it is 2026-11-24 16:00 UTC"),
            ("+99999999h", "more than a year"),
            ("+99999999999999999999999s", "more than a year"),
            ("18:00+25:00", "a moment such as"),
            ("18:00+01:60", "a moment such as"),
            ("18:60", "a moment such as"),
            ("18:00:60", "a moment such as"),
            ("18:00+é1:00", "a moment such as"),
            ("2028-01-01", "more than a year"),
            ("+999999w", "more than a year"),
            ("25:00", "a moment such as"),
            ("2h", "a moment such as"),
            ("soon", "a moment such as"),
        ] {
            let error = moment_to_come(text, now, &berlin()).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_moment_is_said_with_its_zone() {
        let moment = datetime!(2026-07-27 16:00 UTC);
        assert_eq!(in_zone(moment, &TimeZone::UTC), "2026-07-27 16:00 UTC");
        assert_eq!(in_zone(moment, &berlin()), "2026-07-27 18:00 CEST (2026-07-27 16:00 UTC)");
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_is_the_one_an_hour_later() {
        let now = datetime!(2027-03-27 20:00 UTC);
        let moment = moment_to_come("02:30", now, &berlin());
        assert_eq!(moment, Ok(datetime!(2027-03-28 1:30 UTC)));
    }
}
