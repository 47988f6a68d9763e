//! What a log said of one event, as bytes: about ten for a plain purchase.
//!
//! A line is a row as it came, before any rule has looked at it, so that the rules of every version
//! can be asked about it. It does not say whose it is. Lines stand behind one another in a chunk;
//! each may lean on those before it: a time is kept as the difference to the last one, and a field
//! may be `the same as last`. A chunk of one line leans on nothing.
//!
//! A line is flags that say which fields it has, its time, and the fields in the order of their
//! flags. Fields that hold nothing but blanks are left out, as are blanks around a text: no rule
//! tells them apart.

mod packed;
#[cfg(test)]
mod tests;
mod time;
mod value;

use self::value::Sort;
use crate::ingest::bytes::take_byte;
use habitus_engine::domain::{RawEvent, RawValue};
use std::ops::Range;
use thiserror::Error;

/// The fields besides the time, the likeliest first: seven flags fit into one byte.
const N_FIELDS: usize = 11;
const AMOUNT: usize = 0;
const KIND: usize = 1;
const QUANTITY: usize = 2;
const ITEM: usize = 3;
const ORDER_ID: usize = 4;
const EVENT_ID: usize = 5;
const CATEGORY: usize = 6;
const DISCOUNT: usize = 7;
const CURRENCY: usize = 8;
const RATING: usize = 9;
const CHANNEL: usize = 10;

/// How many flags the first byte holds, and what says that there is a second.
const FIRST_FLAGS: usize = 7;
const MORE_FLAGS: u8 = 0x80;

/// Stored lines that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored line that begins at byte {at} of its chunk is damaged")]
pub(crate) struct Damaged {
    pub at: usize,
}

/// What the next line of a chunk may lean on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    /// The last time, in milliseconds.
    before: i64,
    /// Where in the chunk each field was last spelled out.
    last: [Range<usize>; N_FIELDS],
}

impl Tail {
    /// Passes over a chunk to its end.
    pub(crate) fn of(chunk: &[u8]) -> Result<Tail, Damaged> {
        let mut tail = Tail::default();
        let mut rest = chunk;
        while !rest.is_empty() {
            let at = chunk.len() - rest.len();
            let passed = pass(&mut rest, &mut tail.before, |field, value, n_left| {
                if value != [value::SAME] {
                    let end = chunk.len() - n_left;
                    tail.last[field] = end - value.len()..end;
                }
            });
            passed.ok_or(Damaged { at })?;
        }
        Ok(tail)
    }
}

/// Appends a line to a chunk, of which `tail` is the tail. The customer is no part of it.
pub(crate) fn append(chunk: &mut Vec<u8>, tail: &mut Tail, raw: &RawEvent<'_>) {
    let mut fields = [(None, Sort::Word); N_FIELDS];
    for (field, value, sort) in [
        (AMOUNT, raw.amount, Sort::Number),
        (KIND, raw.kind, Sort::Kind),
        (QUANTITY, raw.quantity, Sort::Number),
        (ITEM, raw.item, Sort::Word),
        (ORDER_ID, raw.order_id, Sort::Id),
        (EVENT_ID, raw.event_id, Sort::Id),
        (CATEGORY, raw.category, Sort::Word),
        (DISCOUNT, raw.discount, Sort::Number),
        (CURRENCY, raw.currency, Sort::Word),
        (RATING, raw.rating, Sort::Number),
        (CHANNEL, raw.channel, Sort::Word),
    ] {
        fields[field] = (value.filter(|value| !value.is_blank()), sort);
    }
    let present = fields.iter().enumerate().filter(|(_, (value, _))| value.is_some());
    let flags = present.fold(0u16, |flags, (field, _)| flags | 1 << field);
    let (first, second) = (flags as u8 & !MORE_FLAGS, (flags >> FIRST_FLAGS) as u8);
    if second == 0 {
        chunk.push(first);
    } else {
        chunk.extend_from_slice(&[first | MORE_FLAGS, second]);
    }
    time::put(chunk, &mut tail.before, raw.time);
    for ((value, sort), last) in fields.into_iter().zip(&mut tail.last) {
        let Some(value) = value else { continue };
        let start = chunk.len();
        value::put(chunk, sort, value);
        if chunk.len() > start + 1 && chunk.get(last.clone()) == chunk.get(start..) {
            chunk.truncate(start);
            chunk.push(value::SAME);
        } else {
            *last = start..chunk.len();
        }
    }
}

/// Reads the lines of a chunk, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'b> {
    length: usize,
    rest: &'b [u8],
    plain_times: bool,
    before: i64,
    /// The last line, but for its time.
    raw: RawEvent<'b>,
    /// The last values of the fields that the last line lacks.
    last: [Option<RawValue<'b>>; N_FIELDS],
    order_id: PackedId<'b>,
    event_id: PackedId<'b>,
    /// Where a time is spelled whose text is asked for.
    scratch: [u8; time::LONGEST],
}

/// An id that is packed, in whose field of the line stands [`PackedId::HERE`].
#[derive(Debug, Clone)]
struct PackedId<'b> {
    packed: &'b [u8],
    spelled: [u8; packed::LONGEST],
}

impl<'b> PackedId<'b> {
    const NONE: PackedId<'b> = PackedId { packed: &[], spelled: [0; packed::LONGEST] };

    /// No value that is stored is a blank text.
    const HERE: Option<RawValue<'b>> = Some(RawValue::Text(""));

    /// The value of a field, of which this may be the packed one. `None` where it cannot be spelled.
    #[inline]
    fn value(&mut self, value: Option<RawValue<'b>>) -> Option<Option<RawValue<'_>>> {
        match value {
            PackedId::HERE => {
                let spelled = packed::unpack(self.packed, &mut self.spelled)?;
                Some(Some(RawValue::Text(spelled)))
            }
            other => Some(other),
        }
    }
}

impl<'b> Lines<'b> {
    /// The lines of a chunk. `plain_times` says that the rules have no time format: they read a
    /// time's number as they read its text, which then need not be spelled. What is going to be
    /// shown or stored again is read without.
    pub(crate) fn new(chunk: &'b [u8], plain_times: bool) -> Lines<'b> {
        Lines {
            length: chunk.len(),
            rest: chunk,
            plain_times,
            before: 0,
            raw: RawEvent::default(),
            last: [None; N_FIELDS],
            order_id: PackedId::NONE,
            event_id: PackedId::NONE,
            scratch: [0; time::LONGEST],
        }
    }

    /// The same, told whose they are.
    pub(crate) fn of(mut self, customer: &'b str) -> Lines<'b> {
        self.raw.customer = Some(RawValue::Text(customer));
        self
    }

    /// The next line, `None` after the last one. After a damaged line there are no more.
    #[inline]
    pub(crate) fn read(&mut self) -> Result<Option<RawEvent<'_>>, Damaged> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.length - self.rest.len();
        let Some(time) = self.take() else {
            self.rest = &[];
            return Err(Damaged { at });
        };
        let Lines { raw, order_id, event_id, scratch, .. } = self;
        let spelled = (
            time.value(self.plain_times, scratch),
            order_id.value(raw.order_id),
            event_id.value(raw.event_id),
        );
        let (Some(time), Some(order_id), Some(event_id)) = spelled else {
            self.rest = &[];
            return Err(Damaged { at });
        };
        Ok(Some(RawEvent { time, order_id, event_id, ..*raw }))
    }

    /// Takes a line from the front, and gives its time, yet to be spelled.
    ///
    /// A line mostly has the fields of the one before it, so that they are mended in their places.
    #[inline]
    fn take(&mut self) -> Option<time::Stored<'b>> {
        let flags = take_flags(&mut self.rest)?;
        let time = time::take(&mut self.rest, &mut self.before)?;
        let raw = &mut self.raw;
        let mut fields: [&mut Option<RawValue<'b>>; N_FIELDS] = [
            &mut raw.amount,
            &mut raw.kind,
            &mut raw.quantity,
            &mut raw.item,
            &mut raw.order_id,
            &mut raw.event_id,
            &mut raw.category,
            &mut raw.discount,
            &mut raw.currency,
            &mut raw.rating,
            &mut raw.channel,
        ];
        for (field, (value, last)) in fields.iter_mut().zip(&mut self.last).enumerate() {
            if flags >> field & 1 == 0 {
                if value.is_some() {
                    *last = value.take();
                }
                continue;
            }
            if let [value::SAME, rest @ ..] = self.rest {
                self.rest = rest;
                if value.is_none() {
                    **value = Some((*last)?);
                }
                continue;
            }
            let id = match field {
                ORDER_ID => Some(&mut self.order_id),
                EVENT_ID => Some(&mut self.event_id),
                _ => None,
            };
            if let Some(id) = id
                && let Some(packed) = value::take_packed(&mut self.rest)
            {
                // Until the next one it is the last one too.
                id.packed = packed;
                **value = PackedId::HERE;
            } else {
                value::take(&mut self.rest, value)?;
            }
        }
        Some(time)
    }
}

/// Shows the text of each event id in a chunk with the number of its line, without making the lines.
pub(crate) fn each_event_id(chunk: &[u8], mut see: impl FnMut(usize, &str)) -> Result<(), Damaged> {
    let (mut rest, mut before) = (chunk, 0);
    let mut spelled = [0; packed::LONGEST];
    let mut last: Option<&[u8]> = None;
    for line in 0.. {
        if rest.is_empty() {
            break;
        }
        let at = chunk.len() - rest.len();
        let mut id = None;
        let passed = pass(&mut rest, &mut before, |field, value, _| {
            if field == EVENT_ID {
                id = Some(value);
            }
        });
        let told = passed.and_then(|()| {
            let Some(id) = id else { return Some(()) };
            if id != [value::SAME] {
                last = Some(id);
            }
            let mut id = last?;
            match value::take_packed(&mut id) {
                Some(packed) => see(line, packed::unpack(packed, &mut spelled)?),
                None => {
                    let mut value = None;
                    value::take(&mut id, &mut value)?;
                    see(line, &value?.text_in(&mut itoa::Buffer::new()));
                }
            }
            Some(())
        });
        told.ok_or(Damaged { at })?;
    }
    Ok(())
}

/// Passes over a line at the front; `see` is shown each field, the bytes of its value, and how many
/// are left behind it.
#[inline]
fn pass<'b>(
    rest: &mut &'b [u8],
    before: &mut i64,
    mut see: impl FnMut(usize, &'b [u8], usize),
) -> Option<()> {
    let mut flags = take_flags(rest)?;
    time::take(rest, before)?;
    while flags != 0 {
        let field = flags.trailing_zeros() as usize;
        flags &= flags - 1;
        let value = *rest;
        value::skip(rest)?;
        see(field, value.get(..value.len() - rest.len())?, rest.len());
    }
    Some(())
}

fn take_flags(rest: &mut &[u8]) -> Option<u16> {
    let first = take_byte(rest)?;
    if first & MORE_FLAGS == 0 {
        return Some(u16::from(first));
    }
    let flags = u16::from(first & !MORE_FLAGS) | u16::from(take_byte(rest)?) << FIRST_FLAGS;
    (flags < 1 << N_FIELDS).then_some(flags)
}
