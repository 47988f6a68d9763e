//! An event as bytes: about a dozen for a plain order, instead of a hundred in memory.

use crate::ingest::bytes::{put_number, put_text, take_byte, take_number, take_text};
use habitus_engine::domain::{Day, Event, EventKind, IdHash, Line, Money, Timestamp};

const MS_PER_DAY: i64 = 86_400_000;

/// Where the presence bits of the optional fields begin; below stand the kind (4 bits) and how many
/// days the local calendar is ahead of UTC's, plus one (2 bits).
const FIRST_FIELD: u16 = 6;

/// The bit of an order that was merged of several lines.
const HAS_LINES: u16 = 1 << 15;

const ID_BYTES: usize = 16;

/// All of an event but when it was, by reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fields<'e> {
    pub kind: EventKind,
    /// How many days the local calendar is ahead of UTC's.
    pub days_ahead: i8,
    /// Amount, quantity, discount and rating.
    pub numbers: [Option<i64>; 4],
    /// Item, category and channel.
    pub texts: [Option<&'e str>; 3],
    /// Of the order, and of the event.
    pub ids: [Option<IdHash>; 2],
    pub lines: &'e [Line],
}

impl<'e> Fields<'e> {
    pub fn of(event: &'e Event) -> Fields<'e> {
        let details = event.details.as_deref();
        Fields {
            kind: event.kind,
            days_ahead: days_ahead(event.at, event.day),
            numbers: [
                event.amount.map(|amount| amount.0),
                event.quantity,
                event.discount.map(|discount| discount.0),
                details.and_then(|details| details.rating),
            ],
            texts: [
                event.item.get(),
                event.category.get(),
                details.and_then(|details| details.channel.get()),
            ],
            ids: [event.order_id, event.event_id],
            lines: details.map_or(&[], |details| &details.lines),
        }
    }

    /// Says which fields there are, and what there is no field for.
    #[inline]
    pub fn flags(&self) -> u16 {
        let Fields { numbers, texts, ids, lines, .. } = self;
        let has_lines = if lines.is_empty() { 0 } else { HAS_LINES };
        let kind = self.kind as u16 | ((self.days_ahead + 1) as u16) << 4;
        let fields = present(numbers.iter().map(Option::is_some))
            | present(texts.iter().map(Option::is_some)) << numbers.len()
            | present(ids.iter().map(Option::is_some)) << (numbers.len() + texts.len());
        kind | fields << FIRST_FIELD | has_lines
    }

    /// Appends the flags and the fields.
    #[inline(always)]
    pub fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.flags().to_le_bytes());
        self.put_flagged(bytes);
    }

    /// Appends the fields that the flags tell of.
    #[inline(always)]
    pub fn put_flagged(&self, bytes: &mut Vec<u8>) {
        let Fields { numbers, texts, ids, lines, .. } = self;
        numbers.iter().flatten().for_each(|&number| put_number(bytes, number));
        texts.iter().flatten().for_each(|text| put_text(bytes, text));
        ids.iter().flatten().for_each(|id| bytes.extend_from_slice(&id.to_bytes()));
        if !lines.is_empty() {
            put_number(bytes, lines.len() as i64);
            lines.iter().for_each(|line| put_line(bytes, line));
        }
    }
}

/// How many days the local calendar, by which it is `day`, is ahead of UTC's.
#[inline]
pub(crate) fn days_ahead(at: Timestamp, day: Day) -> i8 {
    (i64::from(day.0) - at.0.div_euclid(MS_PER_DAY)).clamp(-1, 1) as i8
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

/// The bits of [`Present`].
fn present(fields: impl Iterator<Item = bool>) -> u16 {
    fields.enumerate().fold(0, |bits, (field, is_there)| bits | u16::from(is_there) << field)
}

/// Takes an event of this instant, of which [`Fields::put`] wrote the rest, from the front and appends it
/// to others; `None` at the end, or where the bytes are none of its. What is then appended is not to be
/// looked at.
#[inline]
pub(crate) fn take_fields(bytes: &mut &[u8], at: Timestamp, events: &mut Vec<Event>) -> Option<()> {
    let flags = take_flags(bytes)?;
    take_flagged(bytes, flags, at, events)?;
    Some(())
}

/// The same where the flags are known, and [`Fields::put_flagged`] wrote the rest.
#[inline]
pub(crate) fn take_flagged<'e>(
    bytes: &mut &[u8],
    flags: u16,
    at: Timestamp,
    events: &'e mut Vec<Event>,
) -> Option<&'e mut Event> {
    let kind = *EventKind::ALL.get(usize::from(flags & 0xf))?;
    let day = at.0.div_euclid(MS_PER_DAY) + i64::from(flags >> 4 & 3) - 1;
    // It is filled where it stands: moving an event costs as much as reading it.
    events.push(Event::bare(at, Day(day as i32), kind));
    let event = events.last_mut()?;
    let mut fields = Present(flags >> FIRST_FIELD);
    if fields.next() {
        event.amount = Some(Money(take_number(bytes)?));
    }
    if fields.next() {
        event.quantity = Some(take_number(bytes)?);
    }
    if fields.next() {
        event.discount = Some(Money(take_number(bytes)?));
    }
    if fields.next() {
        event.details.get_or_insert_default().rating = Some(take_number(bytes)?);
    }
    if fields.next() {
        event.item = take_text(bytes)?.into();
    }
    if fields.next() {
        event.category = take_text(bytes)?.into();
    }
    if fields.next() {
        event.details.get_or_insert_default().channel = take_text(bytes)?.into();
    }
    if fields.next() {
        event.order_id = Some(take_id(bytes)?);
    }
    if fields.next() {
        event.event_id = Some(take_id(bytes)?);
    }
    if fields.next() {
        event.details.get_or_insert_default().lines = take_lines(bytes)?;
    }
    Some(event)
}

fn take_id(bytes: &mut &[u8]) -> Option<IdHash> {
    let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
    *bytes = rest;
    Some(IdHash::from_bytes(*id))
}

fn take_lines(bytes: &mut &[u8]) -> Option<Vec<Line>> {
    let n = usize::try_from(take_number(bytes)?).ok()?;
    // A line takes a byte or more, so that nothing is reserved for what cannot be there.
    let mut lines = Vec::with_capacity(n.min(bytes.len()));
    for _ in 0..n {
        let mut fields = Present(u16::from(take_byte(bytes)?));
        let mut line = Line::default();
        if fields.next() {
            line.amount = Some(Money(take_number(bytes)?));
        }
        if fields.next() {
            line.quantity = Some(take_number(bytes)?);
        }
        if fields.next() {
            line.discount = Some(Money(take_number(bytes)?));
        }
        if fields.next() {
            line.item = take_text(bytes)?.into();
        }
        if fields.next() {
            line.category = take_text(bytes)?.into();
        }
        lines.push(line);
    }
    Some(lines)
}

fn take_flags(bytes: &mut &[u8]) -> Option<u16> {
    let (flags, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(u16::from_le_bytes(*flags))
}

/// A bit for each field that is there, the first lowest.
struct Present(u16);

impl Present {
    /// Whether the next field is there.
    #[inline]
    fn next(&mut self) -> bool {
        let is_there = self.0 & 1 == 1;
        self.0 >>= 1;
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::Details;

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
        for event in &rows {
            // The last is beyond the calendar that any zone knows, where days are exact all the same.
            let day = event.at.0.div_euclid(MS_PER_DAY);
            assert!((i64::from(event.day.0) - day).abs() <= 1 || event.at.0 > 1 << 60);
            let mut bytes = Vec::new();
            Fields::of(event).put(&mut bytes);
            let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
            take_fields(&mut rest, event.at, &mut events).unwrap();
            assert!(rest.is_empty());
            if event.at.0 < 1 << 60 {
                assert_eq!(events.first(), Some(event));
            }
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
        Fields::of(&merged()).put(&mut bytes);
        Fields { ids: [None; 2], ..Fields::of(&merged()) }.put(&mut bytes);
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        take_fields(&mut rest, merged().at, &mut events).unwrap();
        take_fields(&mut rest, merged().at, &mut events).unwrap();
        assert_eq!(events, [merged(), Event { order_id: None, ..merged() }]);
        assert!(rest.is_empty());
    }

    #[test]
    fn what_was_cut_is_no_event() {
        let mut bytes = Vec::new();
        Fields::of(&merged()).put(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(
                take_fields(&mut &bytes[..end], Timestamp(5), &mut Vec::new()),
                None,
                "{end}"
            );
        }
    }
}
