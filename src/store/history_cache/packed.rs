//! A history in one piece of memory: some seven bytes a plain purchase.
//!
//! It says by what it was shaped, whose it is, what is told of the customer besides as the store keeps
//! it, since the names that it is read by may grow, and its events without the ids that only the shaping
//! needs. Events that have the same fields stand behind one another as a run; a time is told from the
//! one before it, in the largest unit that all times are whole numbers of.

use super::Shaping;
use crate::ingest::bytes::{put_number, put_text, take_byte, take_number, take_text};
use crate::ingest::codec::{self, Fields};
use crate::store::about::About;
use habitus_engine::domain::{CustomerId, Event, History, Timestamp};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// About what a history takes, of which most have a few dozen events.
pub(super) const USUAL_BYTES: usize = 256;

/// Milliseconds of a unit of time.
const TIME_UNITS: [i64; 5] = [1, 1_000, 60_000, 3_600_000, 86_400_000];

/// Thousandths of a unit of quantity.
const QUANTITY_UNITS: [i64; 2] = [1, 1_000];

/// Where in a byte the unit of quantities stands, above that of times.
const QUANTITY_SHIFT: u32 = 4;

pub(super) fn pack(
    history: &History,
    about: Option<&[u8]>,
    sequence: u64,
    shaping: &Shaping<'_>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.extend_from_slice(&shaping.tag.to_le_bytes());
    put_text(&mut bytes, history.customer().as_str());
    put_number(&mut bytes, sequence as i64);
    put_optional(&mut bytes, shaping.kept_from.map(|from| from.0));
    put_optional(&mut bytes, about.map(|about| about.len() as i64));
    bytes.extend_from_slice(about.unwrap_or_default());
    put_events(&mut bytes, history.events());
    bytes
}

/// What was packed, if it is of this customer, shaped so, and read since the last change before what
/// is asked for, which no change has followed either.
pub(super) fn unpack(
    mut bytes: &[u8],
    customer: &str,
    unchanged: RangeInclusive<u64>,
    shaping: &Shaping<'_>,
    names: &Arc<[String]>,
) -> Option<History> {
    let bytes = &mut bytes;
    let (tag, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    let is_same = u64::from_le_bytes(*tag) == shaping.tag && take_text(bytes)? == customer;
    let sequence = take_number(bytes)? as u64;
    let is_now = *unchanged.start() <= sequence.min(*unchanged.end());
    if !is_same || !is_now || take_optional(bytes)?.map(Timestamp) != shaping.kept_from {
        return None;
    }
    let about = match take_optional(bytes)? {
        None => None,
        Some(length) => {
            let (about, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *bytes = rest;
            Some(About::attributes(about, names)?)
        }
    };
    let events = take_events(bytes)?;
    Some(History::again(CustomerId::new(customer), events).with_attributes(about))
}

fn put_events(bytes: &mut Vec<u8>, events: &[Event]) {
    let times = || events.iter().map(|event| event.at.0);
    let quantities = || events.iter().filter_map(|event| event.quantity);
    let (time, time_unit) = largest(&TIME_UNITS, times);
    let (quantity, quantity_unit) = largest(&QUANTITY_UNITS, quantities);
    put_number(bytes, events.len() as i64);
    bytes.push(time | quantity << QUANTITY_SHIFT);
    let mut before = 0;
    for run in events.chunk_by(|one, next| fields_of(one).flags() == fields_of(next).flags()) {
        bytes.extend_from_slice(&run.first().map_or(0, |one| fields_of(one).flags()).to_le_bytes());
        put_number(bytes, run.len() as i64);
        for event in run {
            let at = event.at.0 / time_unit;
            put_number(bytes, at.wrapping_sub(before));
            before = at;
            let mut fields = fields_of(event);
            let [_, quantity, ..] = &mut fields.numbers;
            *quantity = quantity.map(|quantity| quantity / quantity_unit);
            fields.put_flagged(bytes);
        }
    }
}

fn take_events(bytes: &mut &[u8]) -> Option<Vec<Event>> {
    let n_events = usize::try_from(take_number(bytes)?).ok()?;
    let units = take_byte(bytes)?;
    let (time, quantity) = (units & ((1 << QUANTITY_SHIFT) - 1), units >> QUANTITY_SHIFT);
    let time_unit = *TIME_UNITS.get(usize::from(time))?;
    let quantity_unit = *QUANTITY_UNITS.get(usize::from(quantity))?;
    let mut events: Vec<Event> = Vec::with_capacity(n_events.min(bytes.len()));
    let mut before = 0i64;
    while events.len() < n_events {
        let (flags, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        let flags = u16::from_le_bytes(*flags);
        for _ in 0..take_number(bytes)? {
            before = before.wrapping_add(take_number(bytes)?);
            let at = Timestamp(before.wrapping_mul(time_unit));
            let event = codec::take_flagged(bytes, flags, at, &mut events)?;
            event.quantity = event.quantity.map(|quantity| quantity.wrapping_mul(quantity_unit));
        }
    }
    Some(events)
}

/// All that is kept of an event but when it was.
fn fields_of(event: &Event) -> Fields<'_> {
    Fields { ids: [None; 2], ..Fields::of(event) }
}

/// The last unit that all these numbers are whole numbers of, and its own number.
fn largest<N: Iterator<Item = i64>>(units: &[i64], numbers: impl Fn() -> N) -> (u8, i64) {
    let is_whole = |&(_, &unit): &(usize, &i64)| numbers().all(|number| number % unit == 0);
    let (index, &unit) = units.iter().enumerate().rev().find(is_whole).unwrap_or((0, &1));
    (index as u8, unit)
}

fn put_optional(bytes: &mut Vec<u8>, number: Option<i64>) {
    bytes.push(u8::from(number.is_some()));
    number.into_iter().for_each(|number| put_number(bytes, number));
}

fn take_optional(bytes: &mut &[u8]) -> Option<Option<i64>> {
    match take_byte(bytes)? {
        0 => Some(None),
        _ => take_number(bytes).map(Some),
    }
}
