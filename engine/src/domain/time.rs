//! Instants in UTC milliseconds, calendar days in a configured zone, and the as-of.

use jiff::civil;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

const MS_PER_DAY: i64 = 86_400_000;

/// The start of the year 2200.
const OUR_DAYS_END_MS: i64 = 7_258_118_400_000;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// A calendar day in the configured zone: days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i32);

impl Day {
    /// The day this many days later (earlier where negative).
    pub fn plus(self, days: i32) -> Day {
        Day(self.0.saturating_add(days))
    }

    /// A number for the calendar month, one more for each month; a multiple of 12 in each March.
    ///
    /// It is Howard Hinnant's `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>),
    /// whose years begin in March so that a leap day ends them.
    pub fn month(self) -> i64 {
        let shifted = i64::from(self.0) + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        (era * 400 + year_of_era) * 12 + (5 * day_of_year + 2) / 153
    }

    /// The first day of a calendar month, by the number that [`Day::month`] gives it (Hinnant's
    /// `days_from_civil`).
    pub fn first_of(month: i64) -> Day {
        let (year, month) = (month.div_euclid(12), month.rem_euclid(12));
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * month + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let day = era * 146_097 + day_of_era - 719_468;
        Day(i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX }))
    }

    /// How many days a calendar month has, by the same number.
    pub fn days_of(month: i64) -> i32 {
        const DAYS: [i32; 12] = [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28];
        // The February of a year that began in March is of the next one.
        let (year, month) = (month.div_euclid(12) + 1, month.rem_euclid(12) as usize);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        DAYS[month] + i32::from(month == 11 && is_leap)
    }

    /// The month of the year, January being 0.
    pub fn month_of_year(self) -> usize {
        (self.month() + 2).rem_euclid(12) as usize
    }

    /// Days from `earlier` to this one.
    pub fn since(self, earlier: Day) -> i32 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Day {
    /// `YYYY-MM-DD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match date_of(*self) {
            Some(date) => write!(f, "{date}"),
            None => write!(f, "day {}", self.0),
        }
    }
}

/// The instant at which a question is asked, in event time, and its calendar day. Nothing later may
/// matter to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsOf {
    pub at: Timestamp,
    pub day: Day,
}

/// A text read as an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedTime {
    pub at: Timestamp,
    /// The text held a date without a time of day.
    pub date_only: bool,
    /// The local time does not exist, or exists twice, on that day of the zone; the clock's
    /// ordinary reading (the later of a gap, the earlier of a fold) was taken.
    pub adjusted: bool,
}

/// Why a zone or a time was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TimeError {
    #[error("`{0}` is no time zone of the IANA database")]
    UnknownZone(String),
    #[error("`{0}` is no date or time that can be read")]
    Unreadable(String),
    #[error("`{0}` is no strptime format that gives a date")]
    BadFormat(String),
}

/// A time zone by its IANA name. The database is compiled in, so every machine agrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
    /// Where nothing has to be looked up.
    is_utc: bool,
}

impl Zone {
    /// The zone with this IANA name, such as `Europe/London` or `UTC`.
    ///
    /// # Errors
    /// [`TimeError::UnknownZone`].
    pub fn named(name: &str) -> Result<Zone, TimeError> {
        let zone = if name == "UTC" {
            TimeZone::UTC
        } else {
            jiff::tz::TimeZoneDatabase::bundled()
                .get(name)
                .map_err(|_| TimeError::UnknownZone(name.to_owned()))?
        };
        Ok(Zone { name: name.to_owned(), zone, is_utc: name == "UTC" })
    }

    /// Its name as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is UTC by that name, whose days need no zone to be told.
    #[inline]
    pub fn is_utc(&self) -> bool {
        self.is_utc
    }

    /// The calendar day on which an instant falls here.
    #[inline]
    pub fn day_of(&self, at: Timestamp) -> Day {
        let offset_ms = if self.is_utc { 0 } else { self.offset_ms(at) };
        let days = at.0.saturating_add(offset_ms).div_euclid(MS_PER_DAY);
        Day(days.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
    }

    fn offset_ms(&self, at: Timestamp) -> i64 {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(instant) => i64::from(self.zone.to_offset(instant).seconds()) * 1000,
            Err(_) => 0,
        }
    }

    /// The first instant of a day here.
    pub fn start_of(&self, day: Day) -> Timestamp {
        let instant = date_of(day).and_then(|date| date.to_zoned(self.zone.clone()).ok());
        match instant {
            Some(zoned) => Timestamp(zoned.timestamp().as_millisecond()),
            None => Timestamp(i64::from(day.0) * MS_PER_DAY),
        }
    }

    /// The as-of at the last millisecond of a day.
    pub fn end_of(&self, day: Day) -> AsOf {
        AsOf { at: Timestamp(self.start_of(day.plus(1)).0 - 1), day }
    }

    /// The last day that is over at an as-of: its own at the last millisecond, else the day before.
    pub fn last_over(&self, as_of: AsOf) -> Day {
        if as_of.at >= self.end_of(as_of.day).at { as_of.day } else { as_of.day.plus(-1) }
    }

    /// The as-of at an instant.
    pub fn as_of(&self, at: Timestamp) -> AsOf {
        AsOf { at, day: self.day_of(at) }
    }

    /// Reads an as-of: an instant, or a date that means the end of that day here.
    ///
    /// # Errors
    /// [`TimeError::Unreadable`].
    pub fn parse_as_of(&self, text: &str) -> Result<AsOf, TimeError> {
        let parsed = self.parse(text, None)?;
        let as_of = self.as_of(parsed.at);
        Ok(if parsed.date_only { self.end_of(as_of.day) } else { as_of })
    }

    /// Reads a time: RFC 3339, a local `YYYY-MM-DD[ HH:MM[:SS[.fff]]]` (with `T` or a space) taken
    /// in this zone, or what the strptime `format` says. A date means its first instant.
    ///
    /// # Errors
    /// [`TimeError::Unreadable`].
    pub fn parse(&self, text: &str, format: Option<&str>) -> Result<ParsedTime, TimeError> {
        let text = text.trim();
        let unreadable = || TimeError::Unreadable(text.to_owned());
        if let Some(format) = format {
            let parts = jiff::fmt::strtime::parse(format, text).map_err(|_| unreadable())?;
            if parts.offset().is_some() || parts.timestamp().is_some() {
                let instant = parts.to_timestamp().map_err(|_| unreadable())?;
                return Ok(exact(instant));
            }
            let date = parts.to_date().map_err(|_| unreadable())?;
            return match parts.to_time() {
                Ok(time) if parts.hour().is_some() => {
                    self.local(date.to_datetime(time), false).ok_or_else(unreadable)
                }
                _ => self
                    .local(date.to_datetime(civil::Time::midnight()), true)
                    .ok_or_else(unreadable),
            };
        }
        if let Some(date) = plain_date(text) {
            return self
                .local(date.to_datetime(civil::Time::midnight()), true)
                .ok_or_else(unreadable);
        }
        // Without a time of day it is no instant, and a bracketed zone would be another than this.
        if !text.contains(':') || text.contains('[') {
            return Err(unreadable());
        }
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(exact(instant));
        }
        let local = text.parse::<civil::DateTime>().map_err(|_| unreadable())?;
        self.local(local, false).ok_or_else(unreadable)
    }

    /// The instant `ms` milliseconds after 1970 began; `None` beyond the calendar.
    #[inline]
    pub fn of_instant(&self, ms: i64) -> Option<ParsedTime> {
        // Most instants are of our days, which need no calendar.
        if (0..OUR_DAYS_END_MS).contains(&ms) {
            return Some(ParsedTime { at: Timestamp(ms), date_only: false, adjusted: false });
        }
        jiff::Timestamp::from_millisecond(ms).ok().map(exact)
    }

    /// The instant at which the clocks here show `ms` milliseconds since 1970; `None` beyond the
    /// calendar.
    #[inline]
    pub fn of_local(&self, ms: i64) -> Option<ParsedTime> {
        if self.is_utc {
            return self.of_instant(ms);
        }
        let face = jiff::Timestamp::from_millisecond(ms).ok()?;
        self.local(TimeZone::UTC.to_datetime(face), false)
    }

    /// The first instant of a day here; `None` beyond the calendar.
    pub fn of_date(&self, day: Day) -> Option<ParsedTime> {
        self.local(date_of(day)?.to_datetime(civil::Time::midnight()), true)
    }

    /// Refuses a format by which no time could ever be read.
    ///
    /// # Errors
    /// [`TimeError::BadFormat`].
    pub fn check_format(&self, format: &str) -> Result<(), TimeError> {
        let bad = || TimeError::BadFormat(format.to_owned());
        let sample = civil::datetime(2001, 2, 13, 14, 15, 16, 0);
        let sample = self.zone.to_ambiguous_zoned(sample).compatible().map_err(|_| bad())?;
        let text = jiff::fmt::strtime::format(format, &sample).map_err(|_| bad())?;
        self.parse(&text, Some(format)).map(|_| ()).map_err(|_| bad())
    }

    fn local(&self, local: civil::DateTime, date_only: bool) -> Option<ParsedTime> {
        let ambiguous = self.zone.to_ambiguous_zoned(local);
        let adjusted = !date_only && ambiguous.is_ambiguous();
        let zoned = ambiguous.compatible().ok()?;
        Some(ParsedTime { at: Timestamp(zoned.timestamp().as_millisecond()), date_only, adjusted })
    }
}

impl TryFrom<String> for Zone {
    type Error = TimeError;

    fn try_from(name: String) -> Result<Zone, TimeError> {
        Zone::named(&name)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name
    }
}

fn exact(instant: jiff::Timestamp) -> ParsedTime {
    ParsedTime { at: Timestamp(instant.as_millisecond()), date_only: false, adjusted: false }
}

/// The commonest form, read without a general parser because every row of a log passes here.
fn plain_date(text: &str) -> Option<civil::Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |part: &[u8]| {
        part.iter().try_fold(0i16, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + i16::from(byte - b'0'))
        })
    };
    let (year, month, day) = (number(&bytes[..4])?, number(&bytes[5..7])?, number(&bytes[8..])?);
    civil::Date::new(year, month as i8, day as i8).ok()
}

fn date_of(day: Day) -> Option<civil::Date> {
    let epoch = civil::Date::constant(1970, 1, 1);
    epoch.checked_add(jiff::Span::new().try_days(day.0).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_the_day_before_is_of_another() {
        for month in -30_000..30_000 {
            let first = Day::first_of(month);
            assert_eq!((first.month(), first.plus(-1).month()), (month, month - 1));
            assert_eq!(first.plus(Day::days_of(month)), Day::first_of(month + 1));
        }
    }

    fn day(text: &str) -> Day {
        let utc = Zone::named("UTC").unwrap();
        utc.day_of(utc.parse(text, None).unwrap().at)
    }

    #[test]
    fn a_month_begins_with_its_first_day() {
        // Four hundred years to either side of 1970 hold every kind of year.
        for day in -150_000..150_000 {
            let begins = Day(day).to_string().ends_with("-01");
            let step = Day(day).month() - Day(day - 1).month();
            assert_eq!(step, i64::from(begins), "{}", Day(day));
        }
        for day in [i32::MIN, i32::MAX] {
            assert_eq!(Day(day).month().signum(), i64::from(day).signum());
        }
        // 1970-01-01, 1969-12-31 and 1972-02-29.
        assert_eq!([0, -1, 789].map(|day| Day(day).month_of_year()), [0, 11, 1]);
    }

    #[test]
    fn a_date_is_a_day_of_the_zone_and_an_as_of_its_end() {
        let kiritimati = Zone::named("Pacific/Kiritimati").unwrap();
        let as_of = kiritimati.parse_as_of("1997-09-30").unwrap();
        assert_eq!(as_of.day, day("1997-09-30"));
        assert_eq!(as_of.at.to_string(), "1997-09-30T09:59:59.999Z");
        assert_eq!(kiritimati.day_of(Timestamp(as_of.at.0 + 1)), day("1997-10-01"));
    }

    #[test]
    fn days_across_a_clock_change_are_whole() {
        let london = Zone::named("Europe/London").unwrap();
        let spring = day("2011-03-27");
        let length = london.start_of(spring.plus(1)).0 - london.start_of(spring).0;
        assert_eq!(length, 23 * 3_600_000);
        assert_eq!(london.end_of(spring).day, spring);
        assert!(london.parse("2011-03-27 01:30", None).unwrap().adjusted);
        assert!(!london.parse("2011-03-27 03:30", None).unwrap().adjusted);
    }

    #[test]
    fn instants_local_times_and_formats_are_read() {
        let utc = Zone::named("UTC").unwrap();
        for (text, format) in [
            ("2011-12-09T12:50:00Z", None),
            ("2011-12-09T13:50:00+01:00", None),
            ("2011-12-09 12:50", None),
            ("2011-12-09T12:50:00.000", None),
            ("12/9/2011 12:50", Some("%m/%d/%Y %H:%M")),
        ] {
            let parsed = utc.parse(text, format).unwrap();
            assert_eq!(parsed.at.to_string(), "2011-12-09T12:50:00Z", "{text}");
        }
        assert!(utc.parse("9.12.2011", Some("%d.%m.%Y")).unwrap().date_only);
    }

    #[test]
    fn formats_that_can_never_give_a_time_are_refused() {
        let utc = Zone::named("UTC").unwrap();
        for good in ["%d.%m.%Y", "%m/%d/%Y %H:%M", "%s", "%Y-%m-%dT%H:%M:%S%z"] {
            assert_eq!(utc.check_format(good), Ok(()), "{good}");
        }
        for bad in ["%Q", "nonsense", "%H:%M", ""] {
            assert!(utc.check_format(bad).is_err(), "{bad}");
        }
        assert_eq!(utc.parse("1323434999", Some("%s")).unwrap().at.0, 1_323_434_999_000);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let utc = Zone::named("UTC").unwrap();
        for text in [
            "",
            "yesterday",
            "1997-13-01",
            "1997-02-29",
            "97-01-01",
            "1997-1-1",
            "1997-01-01junk",
            "19970101",
            "1997W402",
            "1997-01-01T10:00[America/New_York]",
        ] {
            assert!(utc.parse(text, None).is_err(), "{text}");
        }
        assert!(Zone::named("Mars/Olympus").is_err());
    }
}
