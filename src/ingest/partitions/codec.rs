//! An accepted row as bytes: about twenty for a plain order, instead of a hundred in memory.

use crate::ingest::bytes::{put_number, put_text, skip_text, take_number, take_text};
use habitus_engine::domain::{Day, Details, Event, EventKind, IdHash, Money, Text, Timestamp};

const MS_PER_DAY: i64 = 86_400_000;

/// Where the presence bits of the optional fields begin; below stand the kind (4 bits) and how many
/// days the local calendar is ahead of UTC's, plus one (2 bits).
const FIRST_FIELD: u16 = 6;

const ID_BYTES: usize = 16;

/// Appends one row. Rows are never merged orders, so they have no lines.
pub(super) fn put(bytes: &mut Vec<u8>, customer: &str, event: &Event) {
    put_text(bytes, customer);
    let details = event.details.as_deref();
    let numbers = [
        event.amount.map(|amount| amount.0),
        event.quantity,
        event.discount.map(|discount| discount.0),
        details.and_then(|details| details.rating),
    ];
    let channel = details.and_then(|details| details.channel.get());
    let texts = [event.item.get(), event.category.get(), channel];
    let ids = [event.order_id, event.event_id];
    let utc_day = event.at.0.div_euclid(MS_PER_DAY);
    let ahead = (i64::from(event.day.0) - utc_day).clamp(-1, 1) + 1;
    let has_texts = texts.iter().map(Option::is_some);
    let has_ids = ids.iter().map(Option::is_some);
    let flags = numbers
        .iter()
        .map(Option::is_some)
        .chain(has_texts)
        .chain(has_ids)
        .enumerate()
        .fold(event.kind as u16 | (ahead as u16) << 4, |flags, (field, present)| {
            flags | u16::from(present) << (FIRST_FIELD + field as u16)
        });
    bytes.extend_from_slice(&flags.to_le_bytes());
    put_number(bytes, event.at.0);
    numbers.into_iter().flatten().for_each(|number| put_number(bytes, number));
    texts.into_iter().flatten().for_each(|text| put_text(bytes, text));
    ids.into_iter().flatten().for_each(|id| bytes.extend_from_slice(&id.to_bytes()));
}

/// Takes the event of one row from the front; `None` at the end, or where the bytes are none that
/// [`put`] wrote. Whose it is [`pass`] has told.
pub(super) fn take(bytes: &mut &[u8]) -> Option<Event> {
    skip_text(bytes)?;
    let (flags, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    let flags = u16::from_le_bytes(*flags);
    let kind = *EventKind::ALL.get(usize::from(flags & 0xf))?;
    let at = take_number(bytes)?;
    let mut field = FIRST_FIELD;
    let mut has_next = || {
        field += 1;
        flags >> (field - 1) & 1 == 1
    };
    let mut numbers = [None; 4];
    for number in &mut numbers {
        if has_next() {
            *number = Some(take_number(bytes)?);
        }
    }
    let [amount, quantity, discount, rating] = numbers;
    let mut texts: [Text; 3] = Default::default();
    for text in &mut texts {
        if has_next() {
            *text = take_text(bytes)?.into();
        }
    }
    let mut ids = [None; 2];
    for id in &mut ids {
        if has_next() {
            let (id_bytes, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
            *bytes = rest;
            *id = Some(IdHash::from_bytes(*id_bytes));
        }
    }
    let [item, category, channel] = texts;
    let [order_id, event_id] = ids;
    let has_details = rating.is_some() || !channel.is_none();
    let details = || Box::new(Details { channel, rating, lines: Vec::new() });
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

/// Passes over one row at the front: whose it is and when it was. `None` as of [`take`].
pub(super) fn pass<'b>(bytes: &mut &'b [u8]) -> Option<(&'b str, i64)> {
    let customer = take_text(bytes)?;
    let (flags, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    let flags = u16::from_le_bytes(*flags) >> FIRST_FIELD;
    let at = take_number(bytes)?;
    for _ in 0..(flags & 0xf).count_ones() {
        take_number(bytes)?;
    }
    for _ in 0..(flags >> 4 & 0b111).count_ones() {
        skip_text(bytes)?;
    }
    *bytes = bytes.get((flags >> 7).count_ones() as usize * ID_BYTES..)?;
    Some((customer, at))
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

    #[test]
    fn rows_come_back_as_they_were() {
        let rich = Details {
            channel: "a channel of more than fifteen bytes".into(),
            rating: Some(4_500),
            ..Details::default()
        };
        let rows = [
            ("7", event(0, 0, None)),
            ("", Event { event_id: IdHash::of("é"), ..event(-1, -2, Some(rich)) }),
            ("a long id with blanks", event(86_400_000 - 1, 1, None)),
            ("7", event(i64::MAX / 2, 53_375_995, None)),
        ];
        let mut bytes = Vec::new();
        for (customer, event) in &rows {
            // The last is beyond the calendar that any zone knows, where days are exact all the same.
            let day = event.at.0.div_euclid(MS_PER_DAY);
            assert!((i64::from(event.day.0) - day).abs() <= 1 || event.at.0 > 1 << 60);
            put(&mut bytes, customer, event);
        }
        let (mut rest, mut passing) = (bytes.as_slice(), bytes.as_slice());
        for (customer, event) in rows.iter().take(3) {
            assert_eq!(pass(&mut passing), Some((*customer, event.at.0)));
            assert_eq!(take(&mut rest), Some(event.clone()));
            assert_eq!(rest.len(), passing.len());
        }
    }

    #[test]
    fn what_was_cut_is_no_row() {
        let mut bytes = Vec::new();
        put(&mut bytes, "customer", &event(5, 0, None));
        for end in 0..bytes.len() {
            assert_eq!(take(&mut &bytes[..end]), None, "{end}");
        }
    }
}
