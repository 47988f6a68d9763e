//! Times of stored lines: a number and the form in which the log had it.
//!
//! Most logs spell times in one of a few forms. Such a text is stored as a number and read without
//! a parser. Only where rules have a format of their own is it spelled again, since then the text
//! itself is what they look at.

use super::value;
use crate::ingest::bytes::{put_number, take_byte, take_number};
use habitus_engine::domain::RawValue;

const MS_PER_SECOND: i64 = 1_000;
const MS_PER_MINUTE: i64 = 60_000;
const MS_PER_DAY: i64 = 86_400_000;

/// The days of the years 1 to 9998, in which every zone is sure to know every time.
const FIRST_DAY: i64 = -719_162;
const END_DAY: i64 = 2_932_532;

/// How long the longest spelling is.
pub(super) const LONGEST: usize = 24;

/// What follows the time's tag: nothing, or a value like that of any other field.
const NONE: u8 = 0;
const VALUE: u8 = 1;

/// Where the unit and the sign of a difference stand in the tag, above the form.
const UNIT_SHIFT: u8 = 4;
const SINCE_LAST: u8 = 1 << 6;
const FORM_MASK: u8 = 0xf;

/// Milliseconds, seconds, minutes and days.
const UNITS: [i64; 4] = [1, MS_PER_SECOND, MS_PER_MINUTE, MS_PER_DAY];

/// How a time was given. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    Instant = 2,
    Local = 3,
    Date = 4,
    /// `2011-12-09T12:50:00Z`
    TextInstant = 5,
    /// `2011-12-09T12:50:00.000Z`
    TextInstantMillis = 6,
    /// `2011-12-09 12:50:00`
    TextSeconds = 7,
    /// `2011-12-09 12:50`
    TextMinutes = 8,
    /// `2011-12-09T12:50:00`
    TextSecondsT = 9,
    /// `2011-12-09T12:50`
    TextMinutesT = 10,
    /// `2011-12-09`
    TextDate = 11,
}

impl Form {
    const ALL: [Form; 10] = [
        Form::Instant,
        Form::Local,
        Form::Date,
        Form::TextInstant,
        Form::TextInstantMillis,
        Form::TextSeconds,
        Form::TextMinutes,
        Form::TextSecondsT,
        Form::TextMinutesT,
        Form::TextDate,
    ];

    fn is_text(self) -> bool {
        self as u8 >= Form::TextInstant as u8
    }
}

/// A stored time, its texts not yet spelled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stored<'b> {
    None,
    Value(RawValue<'b>),
    At(Form, i64),
}

/// Appends the time of a line; `before` is that of the last line that had one, or 0.
pub(super) fn put(bytes: &mut Vec<u8>, before: &mut i64, time: Option<RawValue<'_>>) {
    let Some(time) = time.filter(|time| !time.is_blank()) else { return bytes.push(NONE) };
    let (form, ms) = match time {
        RawValue::Instant(ms) => (Form::Instant, ms),
        RawValue::Local(ms) => (Form::Local, ms),
        RawValue::Date(days) => (Form::Date, i64::from(days) * MS_PER_DAY),
        other => match canonical(other) {
            Some(found) => found,
            None => {
                bytes.push(VALUE);
                return value::put(bytes, value::Sort::Number, other);
            }
        },
    };
    let unit = (1..UNITS.len()).rev().find(|&unit| ms % UNITS[unit] == 0).unwrap_or_default();
    let count = ms / UNITS[unit];
    let since = count.wrapping_sub(count_of(*before, unit as u8));
    let zigzag = |number: i64| ((number << 1) ^ (number >> 63)) as u64;
    let tag = form as u8 | (unit as u8) << UNIT_SHIFT;
    if zigzag(since) < zigzag(count) {
        bytes.push(tag | SINCE_LAST);
        put_number(bytes, since);
    } else {
        bytes.push(tag);
        put_number(bytes, count);
    }
    *before = ms;
}

/// Takes the time of a line from the front.
#[inline]
pub(super) fn take<'b>(bytes: &mut &'b [u8], before: &mut i64) -> Option<Stored<'b>> {
    let tag = take_byte(bytes)?;
    match tag {
        NONE => return Some(Stored::None),
        VALUE => {
            let mut value = None;
            value::take(bytes, &mut value)?;
            return value.map(Stored::Value);
        }
        _ => {}
    }
    if tag >= SINCE_LAST << 1 {
        return None;
    }
    let form = *Form::ALL.get(usize::from(tag & FORM_MASK).checked_sub(2)?)?;
    let unit = tag >> UNIT_SHIFT & 3;
    let mut count = take_number(bytes)?;
    if tag & SINCE_LAST != 0 {
        count = count.wrapping_add(count_of(*before, unit));
    }
    let ms = count.checked_mul(UNITS[usize::from(unit)])?;
    *before = ms;
    Some(Stored::At(form, ms))
}

impl<'b> Stored<'b> {
    /// The value of a stored time. A text is spelled into `scratch` unless times are `plain`, which
    /// they are to rules without a format of their own: those read the number as they do the text.
    /// `None` where no log can have had such a time.
    #[inline]
    pub(super) fn value<'s>(
        self,
        plain: bool,
        scratch: &'s mut [u8; LONGEST],
    ) -> Option<Option<RawValue<'s>>>
    where
        'b: 's,
    {
        let (form, ms) = match self {
            Stored::None => return Some(None),
            Stored::Value(value) => return Some(Some(value)),
            Stored::At(form, ms) => (form, ms),
        };
        if form.is_text() {
            if !(FIRST_DAY * MS_PER_DAY..END_DAY * MS_PER_DAY).contains(&ms) {
                return None;
            }
            if !plain {
                let length = spell(form, ms, scratch);
                let text = std::str::from_utf8(&scratch[..length]).ok()?;
                return Some(Some(RawValue::Text(text)));
            }
        }
        Some(Some(match form {
            Form::Instant | Form::TextInstant | Form::TextInstantMillis => RawValue::Instant(ms),
            Form::Date | Form::TextDate => {
                RawValue::Date(i32::try_from(ms.div_euclid(MS_PER_DAY)).ok()?)
            }
            _ => RawValue::Local(ms),
        }))
    }
}

/// How many whole units lie before a time, by divisors that are known beforehand.
fn count_of(ms: i64, unit: u8) -> i64 {
    match unit {
        0 => ms,
        1 => ms.div_euclid(MS_PER_SECOND),
        2 => ms.div_euclid(MS_PER_MINUTE),
        _ => ms.div_euclid(MS_PER_DAY),
    }
}

/// The form of a text that spells a time in just that way, and its milliseconds since 1970 on
/// whatever clock it means.
fn canonical(time: RawValue<'_>) -> Option<(Form, i64)> {
    let RawValue::Text(text) = time else { return None };
    let text = text.trim().as_bytes();
    let (date, rest) = text.split_at_checked(10)?;
    let day = day(date)?;
    let Some((separator, clock)) = rest.split_first() else {
        return Some((Form::TextDate, day * MS_PER_DAY));
    };
    let (form, clock, millis) = match (*separator, clock.len()) {
        (b' ', 5) => (Form::TextMinutes, clock, 0),
        (b'T', 5) => (Form::TextMinutesT, clock, 0),
        (b' ', 8) => (Form::TextSeconds, clock, 0),
        (b'T', 8) => (Form::TextSecondsT, clock, 0),
        (b'T', 9) if clock[8] == b'Z' => (Form::TextInstant, &clock[..8], 0),
        (b'T', 13) if clock[8] == b'.' && clock[12] == b'Z' => {
            (Form::TextInstantMillis, &clock[..8], number(&clock[9..12])?)
        }
        _ => return None,
    };
    let (hour, minute) = (number(&clock[..2])?, number(&clock[3..5])?);
    let second = if clock.len() == 8 { number(&clock[6..])? } else { 0 };
    let is_apart = clock[2] == b':' && (clock.len() == 5 || clock[5] == b':');
    if !is_apart || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (hour * 60 + minute) * 60 + second;
    Some((form, day * MS_PER_DAY + seconds * MS_PER_SECOND + millis))
}

/// A number of digits and nothing else.
fn number(figures: &[u8]) -> Option<i64> {
    figures.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Days since 1970 of a `YYYY-MM-DD` that is in the calendar.
fn day(date: &[u8]) -> Option<i64> {
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let date = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..])?);
    let (year, month, day) = date;
    if !(1..=12).contains(&month) {
        return None;
    }
    // Howard Hinnant's `days_from_civil`, whose years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // A day that its month lacks is another one on the way back.
    ((FIRST_DAY..END_DAY).contains(&days) && civil(days) == date).then_some(days)
}

/// The year, month and day of days since 1970: Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Writes a text form and says how long it is.
fn spell(form: Form, ms: i64, into: &mut [u8; LONGEST]) -> usize {
    let (days, of_day) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
    let (year, month, day) = civil(days);
    let mut digits = |range: std::ops::Range<usize>, mut number: i64| {
        for byte in into[range].iter_mut().rev() {
            *byte = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    digits(0..4, year);
    digits(5..7, month);
    digits(8..10, day);
    digits(11..13, of_day / 3_600_000);
    digits(14..16, of_day / MS_PER_MINUTE % 60);
    digits(17..19, of_day / MS_PER_SECOND % 60);
    digits(20..23, of_day % MS_PER_SECOND);
    let with_t = !matches!(form, Form::TextSeconds | Form::TextMinutes);
    let marks = [
        (4, b'-'),
        (7, b'-'),
        (10, if with_t { b'T' } else { b' ' }),
        (13, b':'),
        (16, b':'),
        (19, if form == Form::TextInstant { b'Z' } else { b'.' }),
        (23, b'Z'),
    ];
    for (place, mark) in marks {
        into[place] = mark;
    }
    match form {
        Form::TextDate => 10,
        Form::TextMinutes | Form::TextMinutesT => 16,
        Form::TextSeconds | Form::TextSecondsT => 19,
        Form::TextInstant => 20,
        _ => LONGEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::{
        Currency, Draws, EventRules, ParsedTime, RawEvent, Rejection, Seed, Zone,
    };

    fn in_zone(zone: &str) -> EventRules {
        let currency = Currency { code: "USD".into(), digits: 2 };
        EventRules::plain(Zone::named(zone).unwrap(), currency)
    }

    fn read(rules: &EventRules, time: Option<RawValue<'_>>) -> Result<ParsedTime, Rejection> {
        rules.time(&RawEvent { time, ..RawEvent::default() })
    }

    fn stored(text: &str) -> (Vec<u8>, i64) {
        let (mut bytes, mut before) = (Vec::new(), 1_300_000_000_123);
        put(&mut bytes, &mut before, Some(RawValue::Text(text)));
        (bytes, before)
    }

    fn taken(bytes: &[u8]) -> Stored<'_> {
        let mut rest = bytes;
        let stored = take(&mut rest, &mut 1_300_000_000_123).unwrap();
        assert!(rest.is_empty());
        stored
    }

    /// A moment in every form that has a number.
    fn spellings(ms: i64) -> Vec<String> {
        let forms = Form::ALL.into_iter().filter(|form| form.is_text());
        let spelled = forms.map(|form| {
            let mut scratch = [0; LONGEST];
            let length = spell(form, ms, &mut scratch);
            String::from_utf8(scratch[..length].to_vec()).unwrap()
        });
        spelled.collect()
    }

    /// Says that a text is stored as a number and means the same to rules as the text does.
    fn assert_same(rule_sets: &[EventRules], text: &str) {
        let (bytes, _) = stored(text);
        let mut scratch = [0; LONGEST];
        let typed = taken(&bytes).value(true, &mut scratch).unwrap().unwrap();
        assert!(!matches!(typed, RawValue::Text(_)), "{text}");
        for rules in rule_sets {
            let zone = rules.zone.name();
            let expected = read(rules, Some(RawValue::Text(text)));
            assert_eq!(read(rules, Some(typed)), expected, "{text} in {zone}");
        }
        let again = taken(&bytes).value(false, &mut scratch).unwrap().unwrap();
        assert_eq!(again, RawValue::Text(text));
    }

    #[test]
    fn a_number_means_what_its_text_means() {
        let zones = ["UTC", "Europe/London", "Asia/Tokyo", "America/New_York"].map(in_zone);
        let mut draws = Draws::new(Seed(3));
        for _ in 0..3_000 {
            let ms = (draws.unit() * 6_311_000_000_000.0) as i64 - 2_208_988_800_000;
            spellings(ms).iter().for_each(|text| assert_same(&zones, text));
        }
        assert_eq!((civil(FIRST_DAY), civil(END_DAY - 1)), ((1, 1, 1), (9998, 12, 31)));
        // Before standard time, before the calendar of our days, and where it ends.
        for ms in [FIRST_DAY * MS_PER_DAY, -62_000_000_000_000, END_DAY * MS_PER_DAY - 1] {
            spellings(ms).iter().for_each(|text| assert_same(&zones, text));
        }
    }

    #[test]
    fn clocks_that_are_put_forward_or_back_are_told_alike() {
        let zones = ["UTC", "Europe/London", "America/New_York"].map(in_zone);
        let london = &zones[1];
        let mut n_adjusted = 0;
        // The days around the changes of 2011 in London, and of New York a fortnight before.
        for day in ["2011-03-13", "2011-03-27", "2011-10-30", "2011-11-06"] {
            for minute in (0..24 * 60).step_by(7) {
                let clock = format!("{:02}:{:02}", minute / 60, minute % 60);
                for text in [
                    format!("{day} {clock}"),
                    format!("{day}T{clock}:59"),
                    format!("{day}T{clock}:00Z"),
                    day.to_owned(),
                ] {
                    assert_same(&zones, &text);
                    let time = read(london, Some(RawValue::Text(&text))).unwrap();
                    n_adjusted += usize::from(time.adjusted);
                }
            }
        }
        assert!(n_adjusted > 20, "{n_adjusted}");
    }

    #[test]
    fn what_is_spelled_otherwise_stays_a_text() {
        for text in [
            "2011-02-29",
            "2011-13-01",
            "2011-00-10",
            "2011-04-31",
            "2011-04-00",
            "0000-01-01",
            "9999-12-31",
            "2011-12-09 24:00",
            "2011-12-09 12:60",
            "2011-12-09 12:50:60",
            "2011-12-09T12:50:60Z",
            "2011-12-09T12:50Z",
            "2011-12-09 12:50:00Z",
            "2011-12-09t12:50:00z",
            "2011-12-09T12:50:00.25Z",
            "2011-12-09T12:50:00.250",
            "2011-12-09T12:50:00+00:00",
            "2011-12-09_12:50",
            "2011-12-09 12.50",
            "2011-12-09 +1:50",
            "2011/12/09",
            "20111209",
            "someday",
            "aaaaaaaaaé-",
        ] {
            let (bytes, before) = stored(text);
            let mut scratch = [0; LONGEST];
            let found = taken(&bytes).value(true, &mut scratch).unwrap().unwrap();
            assert_eq!(found.text(), text);
            assert_eq!(before, 1_300_000_000_123, "{text}");
            assert!(!matches!(
                found,
                RawValue::Instant(_) | RawValue::Local(_) | RawValue::Date(_)
            ));
        }
    }

    #[test]
    fn typed_times_come_back_at_any_distance() {
        let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        let whole = extremes.map(|ms| ms / MS_PER_DAY * MS_PER_DAY);
        let all: Vec<i64> = extremes.into_iter().chain(whole).collect();
        for &first in &all {
            for &ms in &all {
                for time in [RawValue::Instant(ms), RawValue::Local(ms), RawValue::Date(ms as i32)]
                {
                    let (mut bytes, mut before) = (Vec::new(), first);
                    put(&mut bytes, &mut before, Some(time));
                    let mut last = first;
                    let found = take(&mut bytes.as_slice(), &mut last).unwrap();
                    assert_eq!(found.value(false, &mut [0; LONGEST]), Some(Some(time)));
                    assert_eq!(last, before);
                }
            }
        }
    }
}
