//! All customers in the order of their ids: those who have records, and those of whom lines only wait.

use super::head::{Head, chunk_lines};
use super::line::Lines;
use super::waiting::run::{Blocks, Walk};
use super::waiting::{Customers, Ranges, Waiting};
use super::{StoreError, damaged_record, id_of};
use habitus_engine::domain::RawEvent;
use redb::{AccessGuard, ReadableTable};
use std::iter::Peekable;
use std::ops::Bound;

type Heads<'t> = redb::Range<'t, &'static [u8], &'static [u8]>;

/// Customers at one sequence, one after the other.
pub(super) struct Everybody<'t> {
    heads: Peekable<Heads<'t>>,
    sorted: Walk<'t>,
    waiting: Peekable<Customers<'t>>,
    ranges: &'t Ranges,
    sequence: u64,
}

/// One of them.
pub(super) struct Somebody<'t> {
    pub id: String,
    record: Option<AccessGuard<'t, &'static [u8]>>,
    waiting: Waiting,
}

impl<'t> Everybody<'t> {
    /// The customers from here on.
    pub fn from(
        start: Bound<&str>,
        heads: &'t impl ReadableTable<&'static [u8], &'static [u8]>,
        run: &'t impl Blocks,
        ranges: &'t Ranges,
        sequence: u64,
    ) -> Result<Everybody<'t>, StoreError> {
        let range = (start.map(str::as_bytes), Bound::Unbounded);
        let heads = heads.range::<&[u8]>(range).map_err(StoreError::of)?;
        let sorted = Walk::from(start, run)?;
        let waiting = ranges.customers(start, sequence).peekable();
        Ok(Everybody { heads: heads.peekable(), sorted, waiting, ranges, sequence })
    }

    fn take(&mut self) -> Result<Option<Somebody<'t>>, StoreError> {
        let sorted = self.sorted.peek()?;
        let waits = self.waiting.peek().map(String::as_str);
        let first = match (sorted, waits) {
            (Some(sorted), Some(waits)) => Some(sorted.min(waits)),
            (one, other) => one.or(other),
        };
        let record = self.heads.next_if(|kept| match (kept, first) {
            (Ok((kept, _)), Some(first)) => kept.value() <= first.as_bytes(),
            _ => true,
        });
        let (id, record) = match (record, first) {
            (Some(kept), _) => {
                let (key, record) = kept.map_err(StoreError::of)?;
                (id_of(key.value())?.to_owned(), Some(record))
            }
            (None, Some(first)) => (first.to_owned(), None),
            (None, None) => return Ok(None),
        };
        let sorted = self.sorted.lines(&id)?;
        let waiting = match self.waiting.next_if_eq(&id) {
            Some(_) => sorted.and(self.ranges.lines(&id, self.sequence)),
            None => sorted,
        };
        Ok(Some(Somebody { id, record, waiting }))
    }
}

impl<'t> Iterator for Everybody<'t> {
    type Item = Result<Somebody<'t>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

impl Somebody<'_> {
    /// The record under the customer's id; `None` where lines only wait.
    pub fn record(&self) -> Option<&[u8]> {
        self.record.as_ref().map(AccessGuard::value)
    }

    pub fn held(&self) -> Result<Held<'_>, StoreError> {
        Held::of(&self.id, self.record(), &self.waiting)
    }
}

/// All that is held of one customer.
#[derive(Debug)]
pub(super) struct Held<'r> {
    pub customer: &'r str,
    pub head: Head<'r>,
    waiting: &'r Waiting,
}

impl<'r> Held<'r> {
    /// Of a customer's record, where there is one, and of what waits.
    pub fn of(
        customer: &'r str,
        record: Option<&'r [u8]>,
        waiting: &'r Waiting,
    ) -> Result<Held<'r>, StoreError> {
        let head = match record {
            Some(record) => Head::take(customer, record).ok_or_else(|| damaged_record(customer))?,
            None if waiting.has_record => return Err(damaged_record(customer)),
            None => Head::new(waiting.first_sequence().unwrap_or_default()),
        };
        Ok(Held { customer, head, waiting })
    }

    /// Shows each chunk of lines, the earliest first. Those that wait are chunks of one.
    pub fn each_chunk<E: From<StoreError>>(
        &self,
        more: &impl ReadableTable<(&'static [u8], u32), &'static [u8]>,
        mut see: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = || damaged_record(self.customer);
        see(self.head.lines)?;
        for number in 0..self.head.n_more {
            let record = more.get((self.customer.as_bytes(), number)).map_err(StoreError::of)?;
            let record = record.ok_or_else(damaged)?;
            see(chunk_lines(self.customer, number, record.value()).ok_or_else(damaged)?)?;
        }
        for line in self.waiting.iter() {
            if line.is_empty() {
                return Err(damaged().into());
            }
            see(line)?;
        }
        Ok(())
    }

    /// Shows each line; `plain_times` as of [`Lines::new`].
    pub fn each_line<E: From<StoreError>>(
        &self,
        more: &impl ReadableTable<(&'static [u8], u32), &'static [u8]>,
        plain_times: bool,
        mut see: impl FnMut(&RawEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = |_| damaged_record(self.customer);
        self.each_chunk(more, |chunk| {
            let mut lines = Lines::new(chunk, plain_times).of(self.customer);
            while let Some(raw) = lines.read().map_err(damaged)? {
                see(&raw)?;
            }
            Ok(())
        })
    }
}
