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
        (ORDER_ID, raw.order_id, Sort::Word),
        (EVENT_ID, raw.event_id, Sort::Word),
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
    /// Where a time is spelled whose text is asked for.
    scratch: [u8; time::LONGEST],
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
        let taken = self.take();
        let time = taken.and_then(|time| time.value(self.plain_times, &mut self.scratch));
        let Some(time) = time else {
            self.rest = &[];
            return Err(Damaged { at });
        };
        Ok(Some(RawEvent { time, ..self.raw }))
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
            } else {
                value::take(&mut self.rest, value)?;
            }
        }
        Some(time)
    }
}

/// The event ids in a chunk, each with the number of its line, without making the lines.
#[derive(Debug, Clone)]
pub(crate) struct EventIds<'b> {
    length: usize,
    rest: &'b [u8],
    before: i64,
    line: usize,
    last: Option<RawValue<'b>>,
}

impl<'b> EventIds<'b> {
    pub(crate) fn new(chunk: &'b [u8]) -> EventIds<'b> {
        EventIds { length: chunk.len(), rest: chunk, before: 0, line: 0, last: None }
    }
}

impl<'b> Iterator for EventIds<'b> {
    type Item = Result<(usize, RawValue<'b>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let at = self.length - self.rest.len();
            let mut id = None;
            let passed = pass(&mut self.rest, &mut self.before, |field, value, _| {
                if field == EVENT_ID {
                    id = Some(value);
                }
            });
            self.line += 1;
            let line = self.line - 1;
            let id = passed.and_then(|()| match id {
                None => Some(None),
                Some([value::SAME]) => self.last.map(Some),
                Some(mut id) => {
                    value::take(&mut id, &mut self.last)?;
                    Some(self.last)
                }
            });
            match id {
                Some(None) => {}
                Some(Some(id)) => return Some(Ok((line, id))),
                None => {
                    self.rest = &[];
                    return Some(Err(Damaged { at }));
                }
            }
        }
        None
    }
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
