//! Lines that are durable and wait to be put into their customers' records.
//!
//! A commit of lines of many customers would write a page for each of them. Instead it writes its
//! lines to the `journal` and shows them to readers in a `memtable`; when enough wait of a range of
//! customers, one commit puts all of them, in their order, into a sorted `run` on the disk, and those of
//! neighbours who have enough there into their records, so that a page is read and written once for many
//! lines. `due` says which ranges that is at a commit. Which lines of
//! the journal wait is told by the ranges: those of commits since the range was last merged.
//!
//! This is the memtable and the write-ahead log of a log-structured merge tree (O'Neil, Cheng, Gawlick
//! and O'Neil 1996) over two levels, the run and the records, which are merged range by range.

mod due;
mod journal;
mod memtable;
pub mod run;

pub use due::{Due, Incoming, Room};
pub use journal::{Added, Change, Journal};
pub use memtable::Line;

use self::memtable::{Memtable, Standing};
use super::StoreError;
use super::guard::guarded;
use super::tables::{JOURNAL, RANGES};
use crate::ingest::bytes::{put_number, put_text, take_number, take_text};
use redb::{ReadTransaction, WriteTransaction};
use std::ops::{Bound, Deref};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Ranges there are at most, but for those in which lines wait.
const MOST_RANGES: usize = if cfg!(test) { 24 } else { 4096 };

/// A range of which more than so many steps wait is cut: it could not be merged at once.
const LARGE_STEPS: u64 = 3;

const WORD: usize = 4;

/// Lines of one customer, the first first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    first_sequence: Option<u64>,
    /// Whether there was a record when the first of them came, so that one without is damaged.
    pub has_record: bool,
}

impl Waiting {
    /// Of somebody whose lines are lost.
    fn lost() -> Waiting {
        let mut lost = Waiting { has_record: true, ..Waiting::default() };
        lost.push_line(&[]);
        lost
    }

    fn push(&mut self, sequence: u64, line: &[u8]) {
        self.push_line(line);
        self.first_sequence.get_or_insert(sequence);
    }

    fn push_line(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    /// These lines with later ones behind them.
    pub fn and(mut self, later: Waiting) -> Waiting {
        if self.is_empty() {
            return later;
        }
        later.iter().for_each(|line| self.push_line(line));
        self.has_record |= later.has_record;
        self.first_sequence = self.first_sequence.or(later.first_sequence);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Chunks of one line each. An empty one was damaged.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let start = |number: usize| number.checked_sub(1).map_or(0, |before| self.ends[before]);
        (0..self.ends.len()).map(move |number| &self.bytes[start(number)..self.ends[number]])
    }

    /// The store's sequence before the first line.
    pub fn first_sequence(&self) -> Option<u64> {
        self.first_sequence
    }
}

/// Customers from one id to before that of the next range.
#[derive(Debug, Clone, Default)]
struct Range {
    first: Box<str>,
    /// Lines of commits that began before this sequence are in the customers' records.
    merged: u64,
    /// What waits. Ranges of several moments share it for as long as they are the same.
    table: Arc<RwLock<Memtable>>,
}

impl Range {
    fn table(&self) -> RwLockReadGuard<'_, Memtable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All customers, range by range, and what waits of each.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// In order; the first begins with the empty id.
    all: Vec<Range>,
}

impl Default for Ranges {
    fn default() -> Ranges {
        Ranges { all: vec![Range::default()] }
    }
}

impl Ranges {
    /// What a store holds, and the journal it was read from.
    pub fn read(transaction: &ReadTransaction) -> Result<(Ranges, Journal), StoreError> {
        let table = transaction.open_table(RANGES).map_err(StoreError::of)?;
        let sealed = table.get(()).map_err(StoreError::of)?;
        let ranges = match sealed {
            None => Ranges::default(),
            Some(sealed) => Ranges::unsealed(sealed.value()).ok_or_else(|| {
                StoreError::damaged("its ranges of customers are not what was written")
            })?,
        };
        let table = transaction.open_table(JOURNAL).map_err(StoreError::of)?;
        // Half of the ranges each: the journal is what takes time when a store is opened.
        let read = |lane| guarded(|| Journal::read(&table, &ranges, Lane { lane, of: 2 }));
        let (journal, others) = rayon::join(|| read(0), || read(1));
        others?;
        let journal = journal?;
        Ok((ranges, journal))
    }

    /// Writes where the ranges begin and as of when they were merged.
    pub fn write(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        let mut table = transaction.open_table(RANGES).map_err(StoreError::of)?;
        table.insert((), self.sealed().as_slice()).map_err(StoreError::of)?;
        Ok(())
    }

    fn sealed(&self) -> Vec<u8> {
        let mut bytes = vec![0; WORD];
        for Range { first, merged, .. } in &self.all {
            put_text(&mut bytes, first);
            put_number(&mut bytes, *merged as i64);
        }
        let sum = crc32fast::hash(&bytes[WORD..]);
        bytes[..WORD].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn unsealed(bytes: &[u8]) -> Option<Ranges> {
        let (sum, mut rest) = bytes.split_first_chunk::<WORD>()?;
        if crc32fast::hash(rest) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut all: Vec<Range> = Vec::new();
        while !rest.is_empty() {
            let first = take_text(&mut rest)?.into();
            let merged = take_number(&mut rest)? as u64;
            all.push(Range { first, merged, table: Arc::default() });
        }
        let is_first = all.first().is_some_and(|range| range.first.is_empty());
        (is_first && all.is_sorted_by(|a, b| a.first < b.first)).then_some(Ranges { all })
    }

    /// The number of a customer's range.
    fn of(&self, customer: &str) -> usize {
        self.all.partition_point(|range| *range.first <= *customer).saturating_sub(1)
    }

    fn holds(&self, at: usize, customer: &str) -> bool {
        let begins = self.all.get(at).is_some_and(|range| *range.first <= *customer);
        begins && self.all.get(at + 1).is_none_or(|next| *customer < *next.first)
    }

    /// Shows readers the lines of a commit that is durable.
    pub fn show(&self, change: &Change) -> Result<(), StoreError> {
        for (key, record) in &change.records {
            let mut adding = Adding::new(self, key.0, Lane::ALL);
            journal::each_written_line(record, |customer, line, _, has_record| {
                adding.line(customer, line, has_record);
            })
            .ok_or_else(|| StoreError::damaged("a part of the journal"))?;
        }
        Ok(())
    }

    /// What waits of a customer, of commits that began before this sequence.
    pub fn lines(&self, customer: &str, before: u64) -> Waiting {
        match self.all.get(self.of(customer)) {
            Some(range) => range.table().lines(customer, before),
            None => Waiting::default(),
        }
    }

    /// How a customer of a range stands of whom something waits; `None` of others.
    pub fn standing(&self, at: usize, customer: &str) -> Option<Standing> {
        self.all.get(at)?.table().standing(customer)
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The first id of a range, and the first after it.
    pub fn bounds(&self, at: usize) -> (&str, Option<&str>) {
        let first = |at: usize| self.all.get(at).map(|range| &*range.first);
        (first(at).unwrap_or_default(), first(at + 1))
    }

    /// The same of the range that begins with this id, if there is one.
    pub fn bounds_from(&self, first: &str) -> Option<(&str, Option<&str>)> {
        let bounds = self.bounds(self.of(first));
        (bounds.0 == first).then_some(bounds)
    }

    /// What waits of a range; `None` where there is no such range.
    pub fn table(&self, at: usize) -> Option<impl Deref<Target = Memtable>> {
        self.all.get(at).map(Range::table)
    }

    /// What all that waits takes.
    pub fn bytes(&self) -> u64 {
        self.all.iter().map(|range| range.table().bytes()).sum()
    }

    /// How many lines wait, the newest commit's included.
    pub fn n_lines(&self) -> u64 {
        self.all.iter().map(|range| range.table().n_lines()).sum()
    }

    /// The customers from here on of whom something waited at a sequence, in order.
    pub fn customers(&self, start: Bound<&str>, before: u64) -> Customers<'_> {
        let at = match start {
            Bound::Included(id) | Bound::Excluded(id) => self.of(id),
            Bound::Unbounded => 0,
        };
        let start = start.map(str::to_owned);
        Customers { ranges: self, before, at, start, some: Vec::new().into_iter() }
    }

    /// The sequence at which the first commit began of which a line waits; `otherwise` where none does.
    pub fn oldest(&self, otherwise: u64) -> u64 {
        let oldest = self.all.iter().filter_map(|range| range.table().oldest());
        oldest.min().unwrap_or(otherwise)
    }

    /// The same without what waits of one customer.
    pub fn without(&self, customer: &str) -> Ranges {
        let mut ranges = self.clone();
        let at = ranges.of(customer);
        if let Some(range) = ranges.all.get_mut(at) {
            let rest = range.table().without(customer);
            range.table = Arc::new(RwLock::new(rest));
        }
        ranges
    }

    /// The same where each range of which too much waits to be merged at once is several, and the first
    /// ids of those that were cut; `None` where there is no such range.
    pub fn cut(&self, step: u64) -> Option<(Ranges, Vec<Box<str>>)> {
        if self.all.len() >= MOST_RANGES {
            return None;
        }
        let places = |(at, range): (usize, &Range)| {
            let table = range.table();
            let is_large = table.bytes() > LARGE_STEPS * step;
            let places = if is_large { table.places(table.bytes() / step) } else { Vec::new() };
            (!places.is_empty()).then_some((at, places))
        };
        let mut cuts = self.all.iter().enumerate().filter_map(places).peekable();
        cuts.peek()?;
        let (mut all, mut were_cut) = (Vec::new(), Vec::new());
        for (at, range) in self.all.iter().enumerate() {
            let Some((_, places)) = cuts.next_if(|(cut, _)| *cut == at) else {
                all.push(range.clone());
                continue;
            };
            were_cut.push(range.first.clone());
            let firsts = places.iter().map(|first| first.as_str().into());
            let firsts = std::iter::once(range.first.clone()).chain(firsts);
            let (merged, tables) = (range.merged, range.table().cut(&places));
            all.extend(firsts.zip(tables).map(|(first, table)| {
                let table = Arc::new(RwLock::new(table));
                Range { first, merged, table }
            }));
        }
        Some((Ranges { all }, were_cut))
    }

    /// Puts other ranges, of which nothing waits, in the place of some that were merged. `merged` has
    /// the numbers of those, in order, with where further ranges begin in each. Where there are too many,
    /// some of which nothing waits are joined, but for those that are `busy`, of which something is to
    /// wait in a moment.
    pub fn replaced(
        &self,
        merged: &[(usize, Vec<String>)],
        sequence: u64,
        is_busy: impl Fn(usize) -> bool,
    ) -> Ranges {
        let mut all = Vec::with_capacity(self.all.len() + merged.len());
        let mut joinable = Vec::with_capacity(all.capacity());
        let mut merged = merged.iter().peekable();
        for (number, range) in self.all.iter().enumerate() {
            let Some((_, further)) = merged.next_if(|(at, _)| *at == number) else {
                joinable.push(range.table().n_lines() == 0 && !is_busy(number));
                all.push(range.clone());
                continue;
            };
            let fresh = |first: Box<str>| Range { first, merged: sequence, table: Arc::default() };
            all.push(fresh(range.first.clone()));
            all.extend(further.iter().map(|first| fresh(first.as_str().into())));
            joinable.resize(all.len(), !is_busy(number));
        }
        Ranges { all: joined(all, joinable, sequence) }
    }

    /// The same ranges when all was merged that waited.
    pub fn emptied(&self, sequence: u64) -> Ranges {
        let all: Vec<_> = (0..self.len()).map(|at| (at, Vec::new())).collect();
        self.replaced(&all, sequence, |_| false)
    }
}

/// Ranges of which there are too many, with two and two neighbours joined of which nothing waits, until
/// there are few enough. It begins somewhere else each time, so that none swallows all.
fn joined(all: Vec<Range>, joinable: Vec<bool>, sequence: u64) -> Vec<Range> {
    let mut too_many = all.len().saturating_sub(MOST_RANGES);
    if too_many == 0 {
        return all;
    }
    let start = (sequence % all.len() as u64) as usize;
    let mut is_joined = vec![false; all.len()];
    for at in (start..all.len()).chain(0..start).filter(|&at| at > 0) {
        let is_free = |at: usize| joinable[at] && !is_joined[at];
        let next_is_joined = is_joined.get(at + 1).is_some_and(|&is_joined| is_joined);
        if too_many > 0 && is_free(at) && is_free(at - 1) && !next_is_joined {
            is_joined[at] = true;
            too_many -= 1;
        }
    }
    let mut kept: Vec<Range> = Vec::with_capacity(MOST_RANGES);
    for (range, is_joined) in all.into_iter().zip(is_joined) {
        match kept.last_mut() {
            Some(before) if is_joined => before.merged = sequence,
            _ => kept.push(range),
        }
    }
    kept
}

/// The ranges whose numbers leave `lane` when they are divided by `of`.
#[derive(Debug, Clone, Copy)]
struct Lane {
    lane: usize,
    of: usize,
}

impl Lane {
    const ALL: Lane = Lane { lane: 0, of: 1 };
}

/// Puts lines of one commit into their ranges, in the order of customers.
struct Adding<'r> {
    ranges: &'r Ranges,
    sequence: u64,
    lane: Lane,
    /// The range of the last line. What its records hold already does not wait, and other lanes have
    /// their own.
    open: Option<(usize, Option<RwLockWriteGuard<'r, Memtable>>)>,
    is_of_one: bool,
}

impl<'r> Adding<'r> {
    fn new(ranges: &'r Ranges, sequence: u64, lane: Lane) -> Adding<'r> {
        Adding { ranges, sequence, lane, open: None, is_of_one: true }
    }

    fn line(&mut self, customer: &str, line: &[u8], has_record: bool) {
        if !self.open.as_ref().is_some_and(|(at, _)| self.ranges.holds(*at, customer)) {
            self.is_of_one = self.open.is_none();
            self.open = None;
            let at = self.ranges.of(customer);
            let Some(range) = self.ranges.all.get(at) else { return };
            let waits = self.sequence >= range.merged && at % self.lane.of == self.lane.lane;
            let table = waits.then(|| range.table.write().unwrap_or_else(PoisonError::into_inner));
            self.open = Some((at, table));
        }
        if let Some((_, Some(table))) = &mut self.open {
            table.add(customer, self.sequence, line, has_record);
        }
    }

    /// The range that all lines were of.
    fn only_range(&self) -> Option<usize> {
        self.open.as_ref().filter(|_| self.is_of_one).map(|(at, _)| *at)
    }
}

/// Customers of whom something waits, in order, range by range.
pub struct Customers<'r> {
    ranges: &'r Ranges,
    before: u64,
    at: usize,
    start: Bound<String>,
    some: std::vec::IntoIter<String>,
}

impl Iterator for Customers<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(customer) = self.some.next() {
                return Some(customer);
            }
            let range = self.ranges.all.get(self.at)?;
            let table = range.table();
            let customers = table.customers(self.before);
            let n_before = match std::mem::replace(&mut self.start, Bound::Unbounded) {
                Bound::Included(id) => customers.partition_point(|customer| **customer < *id),
                Bound::Excluded(id) => customers.partition_point(|customer| **customer <= *id),
                Bound::Unbounded => 0,
            };
            let some: Vec<String> = customers[n_before..].iter().map(|&id| id.to_owned()).collect();
            self.some = some.into_iter();
            self.at += 1;
        }
    }
}
