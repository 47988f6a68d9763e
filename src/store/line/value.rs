//! The value of one field of a stored line: a tag, and what it announces.

use super::packed;
use crate::ingest::bytes::{put_number, put_text, skip_text, take_byte, take_number, take_text};
use habitus_engine::domain::{EventKind, RawValue};

/// As the field was in the last line that had it.
pub(super) const SAME: u8 = 0;
const TEXT: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const INSTANT: u8 = 4;
const LOCAL: u8 = 5;
const DATE: u8 = 6;
/// The canonical name of a kind, which the tag's rest counts.
const KIND: u8 = 0x10;
/// A decimal, whose digits the tag's rest counts.
const DECIMAL: u8 = 0x20;
const MAX_DIGITS: u8 = 9;
const LAST_DECIMAL: u8 = DECIMAL + MAX_DIGITS;
/// A packed text, whose bytes the tag's rest counts.
const PACKED: u8 = 0x40;
const LAST_PACKED: u8 = PACKED + packed::MOST_BYTES as u8;
/// A short text, whose bytes the tag's rest counts.
const SHORT: u8 = 0x80;
const MAX_SHORT: usize = 0x7f;

/// What a field mostly holds, which tells how its texts are best kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Number,
    /// A text that is looked at as one. Only one of digits alone is kept as a number, because it
    /// is spelled again without memory of its own.
    Word,
    /// A word that no other line may have, so that it is kept in few bytes though it then has to be spelled.
    Id,
    Kind,
}

/// Appends the value of a field. Blanks around a text are nothing to anybody and are left out.
pub(super) fn put(bytes: &mut Vec<u8>, sort: Sort, value: RawValue<'_>) {
    match value {
        RawValue::Text(text) => put_as_text(bytes, sort, text.trim()),
        RawValue::Integer(number) => tagged(bytes, INTEGER, number),
        RawValue::Float(number) => match short(number) {
            Some((units, digits)) => tagged(bytes, DECIMAL + digits, units),
            None => {
                bytes.push(FLOAT);
                bytes.extend_from_slice(&number.to_bits().to_le_bytes());
            }
        },
        RawValue::Instant(ms) => tagged(bytes, INSTANT, ms),
        RawValue::Local(ms) => tagged(bytes, LOCAL, ms),
        RawValue::Date(days) => tagged(bytes, DATE, i64::from(days)),
        RawValue::Decimal { units, digits } if digits <= MAX_DIGITS => {
            tagged(bytes, DECIMAL + digits, units);
        }
        RawValue::Decimal { .. } => put_as_text(bytes, sort, &value.text()),
    }
}

fn put_as_text(bytes: &mut Vec<u8>, sort: Sort, text: &str) {
    let kind = EventKind::ALL.into_iter().position(|kind| kind.name() == text);
    if let Some(kind) = kind.filter(|_| sort == Sort::Kind) {
        return bytes.push(KIND + kind as u8);
    }
    match RawValue::decimal(text) {
        Some(RawValue::Decimal { units, digits }) if digits == 0 || sort == Sort::Number => {
            tagged(bytes, DECIMAL + digits, units);
        }
        _ if sort == Sort::Id && put_packed(bytes, text) => {}
        _ if text.len() <= MAX_SHORT => {
            bytes.push(SHORT + text.len() as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        _ => {
            bytes.push(TEXT);
            put_text(bytes, text);
        }
    }
}

/// Appends a text that takes fewer bytes when it is packed.
fn put_packed(bytes: &mut Vec<u8>, text: &str) -> bool {
    let tag = bytes.len();
    bytes.push(PACKED);
    if !packed::pack(bytes, text) {
        bytes.truncate(tag);
        return false;
    }
    bytes[tag] += (bytes.len() - tag - 1) as u8;
    true
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, number: i64) {
    bytes.push(tag);
    put_number(bytes, number);
}

/// The decimal that a float is printed as, where all rules see the same in both: the sign of a
/// number is told to six digits, and larger decimals are out of range.
fn short(number: f64) -> Option<(i64, u8)> {
    const BOUND: f64 = 9e9;
    // So many figures survive the way through a float, so that no other decimal is as short.
    const MAX_UNITS: f64 = 1e15;
    let is_minus_zero = number == 0.0 && number.is_sign_negative();
    if is_minus_zero || number.is_nan() || number.abs() >= BOUND {
        return None;
    }
    [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6].into_iter().zip(0..).find_map(|(unit, digits)| {
        let units = (number * unit).round_ties_even();
        (units.abs() < MAX_UNITS && units / unit == number).then_some((units as i64, digits))
    })
}

/// Takes a value from the front and puts it where it is wanted. One that is [`SAME`] is for the
/// caller to know.
///
/// It is made in its place because handing it on would take longer than reading it.
#[inline]
pub(super) fn take<'b>(bytes: &mut &'b [u8], into: &mut Option<RawValue<'b>>) -> Option<()> {
    let tag = take_byte(bytes)?;
    match tag {
        SHORT.. => {
            let (text, rest) = bytes.split_at_checked(usize::from(tag - SHORT))?;
            *bytes = rest;
            *into = Some(RawValue::Text(std::str::from_utf8(text).ok()?));
        }
        DECIMAL..=LAST_DECIMAL => {
            let units = take_number(bytes)?;
            *into = Some(RawValue::Decimal { units, digits: tag - DECIMAL });
        }
        KIND..DECIMAL => {
            let kind = EventKind::ALL.get(usize::from(tag - KIND))?;
            *into = Some(RawValue::Text(kind.name()));
        }
        TEXT => *into = Some(RawValue::Text(take_text(bytes)?)),
        INTEGER => *into = Some(RawValue::Integer(take_number(bytes)?)),
        FLOAT => {
            let (word, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            *into = Some(RawValue::Float(f64::from_bits(u64::from_le_bytes(*word))));
        }
        INSTANT => *into = Some(RawValue::Instant(take_number(bytes)?)),
        LOCAL => *into = Some(RawValue::Local(take_number(bytes)?)),
        DATE => *into = Some(RawValue::Date(i32::try_from(take_number(bytes)?).ok()?)),
        _ => return None,
    }
    Some(())
}

/// Takes a packed text from the front, if there is one: it is to be spelled by whoever asks for it.
#[inline]
pub(super) fn take_packed<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (&tag @ PACKED..=LAST_PACKED, rest) = bytes.split_first()? else { return None };
    let (packed, rest) = rest.split_at_checked(usize::from(tag - PACKED))?;
    *bytes = rest;
    Some(packed)
}

/// Passes over a value at the front without making it.
#[inline]
pub(super) fn skip(bytes: &mut &[u8]) -> Option<()> {
    match take_byte(bytes)? {
        tag @ SHORT.. => *bytes = bytes.get(usize::from(tag - SHORT)..)?,
        tag @ PACKED..=LAST_PACKED => *bytes = bytes.get(usize::from(tag - PACKED)..)?,
        DECIMAL..=LAST_DECIMAL | INTEGER | INSTANT | LOCAL | DATE => {
            take_number(bytes)?;
        }
        KIND..DECIMAL | SAME => {}
        TEXT => skip_text(bytes)?,
        FLOAT => *bytes = bytes.get(8..)?,
        _ => return None,
    }
    Some(())
}
