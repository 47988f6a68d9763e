//! A row as a record: whose it is, when it was, and the rest of the event; and the rows of a part
//! customer by customer.

use super::same_hash::SameHash;
use crate::ingest::bytes::{put_text, take_bytes};
use crate::ingest::codec::{self, Fields};
use habitus_engine::domain::{Event, Timestamp};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The time of a row, which is as long for each, since rows are sorted by it before anything else of
/// them is read.
const AT_BYTES: usize = 8;

/// The length of a row among those of its customer.
const LENGTH_BYTES: usize = 4;

/// Appends a row.
#[inline(always)]
pub(super) fn put(bytes: &mut Vec<u8>, customer: &str, at: Timestamp, fields: &Fields<'_>) {
    put_text(bytes, customer);
    bytes.extend_from_slice(&at.0.to_le_bytes());
    fields.put(bytes);
}

/// Whose row a record is, and the rest of it; `None` where the record is no row.
fn customer_of<'b>(record: &mut &'b [u8]) -> Option<&'b [u8]> {
    let customer = take_bytes(record)?;
    (record.len() > AT_BYTES).then_some(customer)
}

/// How many records there are, if all of them are rows; none otherwise.
pub(super) fn n_whole(mut records: &[u8]) -> usize {
    let mut n = 0;
    while let Some(mut record) = take_bytes(&mut records) {
        let customer = customer_of(&mut record).and_then(|id| std::str::from_utf8(id).ok());
        if customer.and(put_event(record, &mut Vec::new())).is_none() {
            return 0;
        }
        n += 1;
    }
    if records.is_empty() { n } else { 0 }
}

/// Appends the event of a row without its customer.
fn put_event(row: &[u8], events: &mut Vec<Event>) -> Option<()> {
    let (at, mut fields) = row.split_first_chunk::<AT_BYTES>()?;
    codec::take_fields(&mut fields, Timestamp(i64::from_le_bytes(*at)), events)?;
    fields.is_empty().then_some(())
}

/// The rows of a part by customer. It serves one part after the other, so that its memory need not
/// be found again.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    /// Rows without their customers, those of a customer side by side, each behind its length.
    rows: Vec<u8>,
    /// Whose each row is, in the order in which they came.
    of_row: Vec<u32>,
    /// When each row of one customer was, and where it stands; see [`time_and_place`].
    times: Vec<i128>,
}

impl Grouping {
    /// Groups rows, and tells whose they are and where those of each stand, in the order of ids.
    /// `None` where a record is no row.
    pub fn of<'b>(&mut self, pieces: &[&'b [u8]]) -> Option<Vec<(&'b str, Range<usize>)>> {
        let mut known: HashMap<Id<'_>, u32, SameHash> = HashMap::default();
        let mut customers: Vec<(&str, Range<usize>)> = Vec::new();
        self.of_row.clear();
        // They are measured before they are placed, so that none is moved twice.
        for &(mut records) in pieces {
            while let Some(mut record) = take_bytes(&mut records) {
                let customer = customer_of(&mut record)?;
                let index = match known.get(&Id(customer)) {
                    Some(&index) => index,
                    None => {
                        let index = u32::try_from(customers.len()).ok()?;
                        customers.push((std::str::from_utf8(customer).ok()?, 0..0));
                        known.insert(Id(customer), index);
                        index
                    }
                };
                customers[index as usize].1.end += LENGTH_BYTES + record.len();
                self.of_row.push(index);
            }
        }
        let mut n_bytes = 0;
        for (_, range) in &mut customers {
            let begin = n_bytes;
            n_bytes += range.end;
            *range = begin..begin;
        }
        self.rows.clear();
        self.rows.resize(n_bytes, 0);
        let mut of_row = self.of_row.iter();
        for &(mut records) in pieces {
            while let Some(mut record) = take_bytes(&mut records) {
                customer_of(&mut record)?;
                let end = &mut customers[*of_row.next()? as usize].1.end;
                let length = u32::try_from(record.len()).ok()?.to_le_bytes();
                for piece in [&length, record] {
                    self.rows[*end..*end + piece.len()].copy_from_slice(piece);
                    *end += piece.len();
                }
            }
        }
        customers.sort_unstable_by_key(|(customer, _)| *customer);
        Some(customers)
    }

    /// How many rows were grouped.
    pub fn n_rows(&self) -> usize {
        self.of_row.len()
    }

    /// The events of a customer whose rows stand there, by time; `None` where a row is damaged.
    pub fn events(&mut self, range: Range<usize>) -> Option<Vec<Event>> {
        self.times.clear();
        let mut start = range.start;
        while start < range.end {
            let row = self.row(start)?;
            let (at, length) = (i64::from_le_bytes(*row.first_chunk()?), row.len());
            self.times.push(time_and_place(at, start));
            start += LENGTH_BYTES + length;
        }
        self.times.sort_unstable();
        let mut events = Vec::with_capacity(self.times.len());
        for &time in &self.times {
            put_event(self.row(time as u64 as usize)?, &mut events)?;
        }
        Some(events)
    }

    fn row(&self, start: usize) -> Option<&[u8]> {
        let (length, rest) = self.rows.get(start..)?.split_first_chunk::<LENGTH_BYTES>()?;
        rest.get(..u32::from_le_bytes(*length) as usize)
    }
}

/// An instant and a place in one number, the instant first, because numbers are sorted faster than
/// pairs.
#[inline]
fn time_and_place(at: i64, place: usize) -> i128 {
    i128::from(at) << 64 | place as i128
}

/// The bytes of an id, as a key.
#[derive(Debug, Clone, Copy, Eq)]
struct Id<'b>(&'b [u8]);

impl PartialEq for Id<'_> {
    /// Most ids are so short that their ends, which may overlap, are all of them.
    #[inline]
    fn eq(&self, other: &Id<'_>) -> bool {
        fn same_ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
            a.first_chunk::<N>() == b.first_chunk() && a.last_chunk::<N>() == b.last_chunk()
        }
        let (a, b) = (self.0, other.0);
        a.len() == b.len()
            && match a.len() {
                4..=8 => same_ends::<4>(a, b),
                9..=16 => same_ends::<8>(a, b),
                _ => a == b,
            }
    }
}

impl Hash for Id<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pile::Pile;
    use super::*;
    use habitus_engine::domain::{Day, EventKind, Money, bucket};

    fn event(at: i64, amount: i64) -> Event {
        let day = Day(at.div_euclid(86_400_000) as i32);
        Event {
            amount: Some(Money(amount)),
            ..Event::bare(Timestamp(at), day, EventKind::Purchase)
        }
    }

    /// The records of a pile, all of one part.
    fn pile(rows: &[(&str, Event)]) -> Pile {
        let mut pile = Pile::new("rows");
        rows.iter().for_each(|(customer, event)| {
            pile.add("one part", |bytes| put(bytes, customer, event.at, &Fields::of(event)));
        });
        pile.settle();
        pile
    }

    fn in_memory(pile: &Pile) -> Vec<&[u8]> {
        pile.in_memory(usize::from(bucket("one part"))).collect()
    }

    #[test]
    fn rows_are_by_customer_and_time() {
        let ids = ["b", "a", "", "abcdefgh", "abcdefghi", "abcdefg", "\0", "é"];
        let mut rows = Vec::new();
        for number in 0..100 {
            let customer = ids[number * 7 % ids.len()];
            rows.push((customer, event((number as i64 * 37 % 50) * 1_000 - 5, number as i64)));
        }
        let mut grouping = Grouping::default();
        // What was grouped before leaves nothing behind.
        for rows in [&rows[..], &rows[..30]] {
            let pile = self::pile(rows);
            let customers = grouping.of(&in_memory(&pile)).unwrap();
            assert_eq!(grouping.n_rows(), rows.len());
            let mut expected: Vec<&str> = ids.to_vec();
            expected.sort_unstable();
            let found: Vec<&str> = customers.iter().map(|(customer, _)| *customer).collect();
            assert_eq!(found, expected);
            for (customer, range) in customers {
                let found = grouping.events(range).unwrap();
                let own = rows.iter().filter(|(of, _)| *of == customer);
                let mut own: Vec<Event> = own.map(|(_, event)| event.clone()).collect();
                own.sort_by_key(|event| event.at);
                assert_eq!(found, own);
            }
        }
    }

    #[test]
    fn a_damaged_row_is_found() {
        let pile = pile(&[("a", event(5, 5)), ("é", event(6, 6))]);
        let whole = in_memory(&pile).concat();
        assert_eq!(n_whole(&whole), 2);
        assert_eq!(n_whole(&whole[..whole.len() - 1]), 0);
        let no_text: Vec<u8> =
            whole.iter().map(|&byte| if byte == 0xc3 { 0xff } else { byte }).collect();
        assert_eq!(n_whole(&no_text), 0);
        assert!(Grouping::default().of(&[&no_text]).is_none());
    }
}
