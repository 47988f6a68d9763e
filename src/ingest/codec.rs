//! An event as bytes: about a dozen for a plain order, instead of a hundred in memory.

use crate::ingest::bytes::{put_number, put_text, skip_text, take_byte, take_number, take_text};
use habitus_engine::domain::{
    Day, Details, Event, EventKind, IdHash, Line, Money, Text, Timestamp,
};

const MS_PER_DAY: i64 = 86_400_000;

/// Where the presence bits of the optional fields begin; below stand the kind (4 bits) and how many
/// days the local calendar is ahead of UTC's, plus one (2 bits).
const FIRST_FIELD: u16 = 6;

/// The bit of an order that was merged of several lines.
const HAS_LINES: u16 = 1 << 15;

const ID_BYTES: usize = 16;

/// Whether the ids of an event's order and of itself are put with it. Nothing but the history step
/// asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    Kept,
    LeftOut,
}

/// Appends an event.
pub(crate) fn put(bytes: &mut Vec<u8>, event: &Event, ids: Ids) {
    let details = event.details.as_deref();
    let numbers = [
        event.amount.map(|amount| amount.0),
        event.quantity,
        event.discount.map(|discount| discount.0),
        details.and_then(|details| details.rating),
    ];
    let channel = details.and_then(|details| details.channel.get());
    let texts = [event.item.get(), event.category.get(), channel];
    let ids = match ids {
        Ids::Kept => [event.order_id, event.event_id],
        Ids::LeftOut => [None; 2],
    };
    let lines = details.map_or(&[][..], |details| &details.lines);
    let utc_day = event.at.0.div_euclid(MS_PER_DAY);
    let ahead = (i64::from(event.day.0) - utc_day).clamp(-1, 1) + 1;
    let kind = event.kind as u16 | (ahead as u16) << 4;
    let has_lines = if lines.is_empty() { 0 } else { HAS_LINES };
    let fields = present(numbers.iter().map(Option::is_some))
        | present(texts.iter().map(Option::is_some)) << numbers.len()
        | present(ids.iter().map(Option::is_some)) << (numbers.len() + texts.len());
    bytes.extend_from_slice(&(kind | fields << FIRST_FIELD | has_lines).to_le_bytes());
    put_number(bytes, event.at.0);
    numbers.into_iter().flatten().for_each(|number| put_number(bytes, number));
    texts.into_iter().flatten().for_each(|text| put_text(bytes, text));
    ids.into_iter().flatten().for_each(|id| bytes.extend_from_slice(&id.to_bytes()));
    if !lines.is_empty() {
        put_number(bytes, lines.len() as i64);
        lines.iter().for_each(|line| put_line(bytes, line));
    }
}

fn put_line(bytes: &mut Vec<u8>, line: &Line) {
    let (amount, discount) = (line.amount.map(|m| m.0), line.discount.map(|m| m.0));
    let numbers = [amount, line.quantity, discount];
    let texts = [line.item.get(), line.category.get()];
    let fields = present(numbers.iter().map(Option::is_some))
        | present(texts.iter().map(Option::is_some)) << numbers.len();
    bytes.push(fields as u8);
    numbers.into_iter().flatten().for_each(|number| put_number(bytes, number));
    texts.into_iter().flatten().for_each(|text| put_text(bytes, text));
}

/// A bit for each field that is there, the first lowest.
fn present(fields: impl Iterator<Item = bool>) -> u16 {
    fields.enumerate().fold(0, |bits, (field, is_there)| bits | u16::from(is_there) << field)
}

/// Takes an event that [`put`] wrote from the front; `None` at the end, or where the bytes are none
/// of its.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<Event> {
    let flags = take_flags(bytes)?;
    let kind = *EventKind::ALL.get(usize::from(flags & 0xf))?;
    let at = take_number(bytes)?;
    let mut fields = Fields { bytes, present: (flags & !HAS_LINES) >> FIRST_FIELD };
    let [amount, quantity, discount, rating] = fields.numbers()?;
    let [item, category, channel] = fields.texts()?;
    let mut ids = [None; 2];
    for id in &mut ids {
        if fields.has_next() {
            let (id_bytes, rest) = fields.bytes.split_first_chunk::<ID_BYTES>()?;
            *fields.bytes = rest;
            *id = Some(IdHash::from_bytes(*id_bytes));
        }
    }
    let [order_id, event_id] = ids;
    let lines = if flags & HAS_LINES == 0 { Vec::new() } else { take_lines(bytes)? };
    let has_details = rating.is_some() || !channel.is_none() || !lines.is_empty();
    let details = || Box::new(Details { channel, rating, lines });
    let day = at.div_euclid(MS_PER_DAY) + i64::from(flags >> 4 & 3) - 1;
    let event = Event {
        at: Timestamp(at),
        day: Day(day as i32),
        kind,
        amount: amount.map(Money),
        quantity,
        discount: discount.map(Money),
        item,
        category,
        order_id,
        event_id,
        details: has_details.then(details),
    };
    Some(event)
}

fn take_lines(bytes: &mut &[u8]) -> Option<Vec<Line>> {
    let n = usize::try_from(take_number(bytes)?).ok()?;
    // A line takes a byte or more, so that nothing is reserved for what cannot be there.
    let mut lines = Vec::with_capacity(n.min(bytes.len()));
    for _ in 0..n {
        let mut fields = Fields { present: u16::from(take_byte(bytes)?), bytes };
        let [amount, quantity, discount] = fields.numbers()?;
        let [item, category] = fields.texts()?;
        let (amount, discount) = (amount.map(Money), discount.map(Money));
        lines.push(Line { amount, quantity, discount, item, category });
    }
    Some(lines)
}

fn take_flags(bytes: &mut &[u8]) -> Option<u16> {
    let (flags, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(u16::from_le_bytes(*flags))
}

/// Fields at the front of the bytes, those whose bits are set.
struct Fields<'a, 'b> {
    bytes: &'a mut &'b [u8],
    present: u16,
}

impl Fields<'_, '_> {
    #[inline]
    fn has_next(&mut self) -> bool {
        let has_next = self.present & 1 == 1;
        self.present >>= 1;
        has_next
    }

    #[inline]
    fn numbers<const N: usize>(&mut self) -> Option<[Option<i64>; N]> {
        let mut numbers = [None; N];
        for number in &mut numbers {
            if self.has_next() {
                *number = Some(take_number(self.bytes)?);
            }
        }
        Some(numbers)
    }

    #[inline]
    fn texts<const N: usize>(&mut self) -> Option<[Text; N]> {
        let mut texts = [const { Text::NONE }; N];
        for text in &mut texts {
            if self.has_next() {
                *text = take_text(self.bytes)?.into();
            }
        }
        Some(texts)
    }
}

/// Passes over a row at the front, which is an event that is no merged order, and tells when it was.
/// `None` as of [`take`].
pub(crate) fn pass(bytes: &mut &[u8]) -> Option<i64> {
    let flags = take_flags(bytes)? >> FIRST_FIELD;
    let at = take_number(bytes)?;
    for _ in 0..(flags & 0xf).count_ones() {
        take_number(bytes)?;
    }
    for _ in 0..(flags >> 4 & 0b111).count_ones() {
        skip_text(bytes)?;
    }
    *bytes = bytes.get((flags >> 7).count_ones() as usize * ID_BYTES..)?;
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, day: i32, details: Option<Details>) -> Event {
        Event {
            amount: Some(Money(-(1 << 53))),
            discount: Some(Money(0)),
            category: "tea".into(),
            details: details.map(Box::new),
            ..Event::bare(Timestamp(at), Day(day), EventKind::Referral)
        }
    }

    fn rich() -> Details {
        Details {
            channel: "a channel of more than fifteen bytes".into(),
            rating: Some(4_500),
            ..Details::default()
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let rows = [
            event(0, 0, None),
            Event { event_id: IdHash::of("é"), ..event(-1, -2, Some(rich())) },
            event(86_400_000 - 1, 1, None),
            event(i64::MAX / 2, 53_375_995, None),
        ];
        let mut bytes = Vec::new();
        for event in &rows {
            // The last is beyond the calendar that any zone knows, where days are exact all the same.
            let day = event.at.0.div_euclid(MS_PER_DAY);
            assert!((i64::from(event.day.0) - day).abs() <= 1 || event.at.0 > 1 << 60);
            put(&mut bytes, event, Ids::Kept);
        }
        let (mut rest, mut passing) = (bytes.as_slice(), bytes.as_slice());
        for event in rows.iter().take(3) {
            assert_eq!(pass(&mut passing), Some(event.at.0));
            assert_eq!(take(&mut rest), Some(event.clone()));
            assert_eq!(rest.len(), passing.len());
        }
    }

    fn merged() -> Event {
        let line = Line { quantity: Some(-3_000), item: "cup".into(), ..Line::default() };
        let lines = vec![Line::default(), line, Line { amount: Some(Money(5)), ..Line::default() }];
        let order_id = IdHash::of("17");
        Event { order_id, ..event(5, 0, Some(Details { lines, ..rich() })) }
    }

    #[test]
    fn merged_orders_come_back_and_ids_may_be_left_out() {
        let mut bytes = Vec::new();
        put(&mut bytes, &merged(), Ids::Kept);
        put(&mut bytes, &merged(), Ids::LeftOut);
        let mut rest = bytes.as_slice();
        assert_eq!(take(&mut rest), Some(merged()));
        assert_eq!(take(&mut rest), Some(Event { order_id: None, ..merged() }));
        assert!(rest.is_empty());
    }

    #[test]
    fn what_was_cut_is_no_event() {
        let mut bytes = Vec::new();
        put(&mut bytes, &merged(), Ids::Kept);
        for end in 0..bytes.len() {
            assert_eq!(take(&mut &bytes[..end]), None, "{end}");
        }
    }
}
