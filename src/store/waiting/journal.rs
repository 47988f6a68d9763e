//! The journal: what waits, as it was committed, so that it can be read again.
//!
//! A commit writes its lines in the order of customers, in parts. A part is a directory, which says
//! whose its lines are, and the lines behind it. A checksum vouches for the directory and one more for
//! each line, so that a line that is damaged is known to be that customer's.

use super::{Adding, Lane, Ranges};
use crate::ingest::bytes::{put_number, put_text, take_number, take_text};
use crate::store::StoreError;
use crate::store::tables::JOURNAL;
use habitus_engine::domain::hash;
use redb::{ReadableTable, Table, WriteTransaction};
use std::collections::BTreeMap;

/// Bytes after which a part is full: what redb puts into 64 KiB.
const MOST_BYTES: usize = 60_000;

/// A part of fewer bytes has lines of further ranges too. It costs a page to remove one, so that those of
/// a range are removed with it, and small ones in the order in which they came.
const FEW_BYTES: usize = 1_000;

/// Parts of several ranges that one commit removes, at most, or twice as many as it adds.
const REMOVED_AT_ONCE: usize = 1_000;

const WORD: usize = 4;

/// A part: the sequence at which its commit began, and its number within the commit.
pub type Key = (u64, u32);

/// Lines on their way into the journal, in the order of customers.
#[derive(Debug, Default)]
pub struct Added {
    parts: Vec<Part>,
    open: Part,
    n_lines: u64,
}

#[derive(Debug, Default)]
struct Part {
    directory: Vec<u8>,
    lines: Vec<u8>,
    customers: Vec<u32>,
    /// The number of the last line's range, and whether all are of it.
    range: usize,
    is_of_one: bool,
}

impl Added {
    /// Takes a line of a customer of a range, and whether the customer has a record beside what waits.
    /// An empty line stands for one that is damaged.
    pub fn push(&mut self, range: usize, customer: &str, line: &[u8], has_record: bool) {
        let is_other = self.open.range != range;
        if self.open.len() >= if is_other { FEW_BYTES } else { MOST_BYTES } {
            self.parts.push(std::mem::take(&mut self.open));
        }
        let open = &mut self.open;
        open.is_of_one = open.customers.is_empty() || open.is_of_one && !is_other;
        open.range = range;
        open.push(customer, line, has_record);
        self.n_lines += 1;
    }

    /// Takes a line that waits on though its range was merged, and may now be of another.
    pub fn push_again(&mut self, range: usize, customer: &str, line: &[u8], has_record: bool) {
        self.push(range, customer, line, has_record);
        self.open.is_of_one = false;
    }

    pub fn n_lines(&self) -> u64 {
        self.n_lines
    }
}

impl Part {
    fn push(&mut self, customer: &str, line: &[u8], has_record: bool) {
        let length = line.len() as i64;
        put_text(&mut self.directory, customer);
        put_number(&mut self.directory, if has_record { !length } else { length });
        self.directory.extend_from_slice(&crc32fast::hash(line).to_le_bytes());
        self.lines.extend_from_slice(line);
        self.customers.push(trace(customer));
    }

    fn len(&self) -> usize {
        self.directory.len() + self.lines.len()
    }

    fn record(&self, key: Key) -> Vec<u8> {
        let Part { directory, lines, .. } = self;
        let mut record = Vec::with_capacity(2 * WORD + directory.len() + lines.len());
        record.extend_from_slice(&checksum(key, directory).to_le_bytes());
        record.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        record.extend_from_slice(directory);
        record.extend_from_slice(lines);
        record
    }
}

/// Shows each line of a part with whose it is, and whether they had a record; a damaged line is empty.
/// `None` where nobody can tell whose lines they are.
pub fn each_line(key: Key, record: &[u8], mut see: impl FnMut(&str, &[u8], bool)) -> Option<()> {
    let (sum, directory, _) = split(record)?;
    if checksum(key, directory) != sum {
        return None;
    }
    each_written_line(record, |customer, line, sum, has_record| {
        let is_whole = crc32fast::hash(line) == sum;
        see(customer, if is_whole { line } else { &[] }, has_record);
    })
}

/// The checksum of a part's directory, the directory, and the lines.
fn split(record: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (sum, rest) = record.split_first_chunk::<WORD>()?;
    let (length, rest) = rest.split_first_chunk::<WORD>()?;
    let (directory, lines) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((u32::from_le_bytes(*sum), directory, lines))
}

/// Shows each line of a part that never left the memory, with its checksum.
pub fn each_written_line(record: &[u8], mut see: impl FnMut(&str, &[u8], u32, bool)) -> Option<()> {
    let (_, mut directory, mut lines) = split(record)?;
    while !directory.is_empty() {
        let customer = take_text(&mut directory)?;
        let length = take_number(&mut directory)?;
        let has_record = length < 0;
        let length = usize::try_from(if has_record { !length } else { length }).ok()?;
        let (sum, rest) = directory.split_first_chunk::<WORD>()?;
        directory = rest;
        let (line, rest) = lines.split_at_checked(length).unwrap_or_default();
        lines = rest;
        see(customer, line, u32::from_le_bytes(*sum), has_record);
    }
    Some(())
}

fn checksum((sequence, number): Key, directory: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(directory);
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.finalize()
}

/// Half of the hash of each customer of whom a part has a line.
type Traces = Box<[u32]>;

fn trace(customer: &str) -> u32 {
    hash(customer) as u32
}

/// What a writer knows of the parts that are there, so that they are removed when nothing of them waits,
/// and whoever is erased is found in them.
#[derive(Debug, Default)]
pub struct Journal {
    /// Those of one range, by its first id.
    own: BTreeMap<Box<str>, Vec<Noted>>,
    /// Those of several.
    shared: BTreeMap<Key, Noted>,
    shared_bytes: u64,
}

#[derive(Debug)]
struct Noted {
    key: Key,
    bytes: u64,
    traces: Traces,
}

impl Noted {
    /// What it takes in the journal, and in memory to know of it.
    fn held(&self) -> u64 {
        const BESIDE: u64 = 100;
        BESIDE + self.bytes + std::mem::size_of_val(&*self.traces) as u64
    }
}

impl Journal {
    /// Reads all parts into the ranges of a lane.
    pub(super) fn read(
        table: &impl ReadableTable<(u64, u32), &'static [u8]>,
        ranges: &Ranges,
        lane: Lane,
    ) -> Result<Journal, StoreError> {
        let mut journal = Journal::default();
        for entry in table.iter().map_err(StoreError::of)? {
            let (key, record) = entry.map_err(StoreError::of)?;
            let (key, record) = (key.value(), record.value());
            let (mut adding, mut traces) = (Adding::new(ranges, key.0, lane), Vec::new());
            let read = each_line(key, record, |customer, line, has_record| {
                traces.push(trace(customer));
                adding.line(customer, line, has_record);
            });
            read.ok_or_else(|| {
                StoreError::damaged(format!(
                    "part {} of the journal's lines of sequence {} is not what was written",
                    key.1, key.0
                ))
            })?;
            let bytes = record.len() as u64;
            // One of which nothing waits goes with those of several ranges, in the order in which they came.
            let is_own = |&at: &usize| record.len() >= FEW_BYTES && key.0 >= ranges.all[at].merged;
            let range = adding.only_range().filter(is_own);
            let range = range.map(|at| ranges.bounds(at).0.into());
            journal.take_in(range, Noted { key, bytes, traces: traces.into() });
        }
        Ok(journal)
    }

    /// What the parts take that are of several ranges.
    pub fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    /// The same of commits that began at this sequence or later.
    pub fn shared_bytes_from(&self, sequence: u64) -> u64 {
        let before = self.shared.range(..(sequence, 0)).map(|(_, part)| part.held());
        self.shared_bytes - before.sum::<u64>()
    }

    /// Writes the lines of a commit that began at this sequence and removes what waits no more: the parts
    /// of ranges that were merged, by their first ids, and some of those of several ranges of commits that
    /// began before `floor`. The change is to be taken over when it is durable.
    pub fn write(
        &self,
        transaction: &WriteTransaction,
        sequence: u64,
        added: Added,
        ranges: &Ranges,
        merged: Vec<Box<str>>,
        floor: u64,
    ) -> Result<Change, StoreError> {
        let mut table = transaction.open_table(JOURNAL).map_err(StoreError::of)?;
        let own = merged.iter().filter_map(|first| self.own.get(first)).flatten();
        let Added { mut parts, open, .. } = added;
        parts.extend((!open.customers.is_empty()).then_some(open));
        let most = REMOVED_AT_ONCE.max(2 * parts.len());
        let removed: Vec<Key> =
            self.shared.range(..(floor, 0)).map(|(key, _)| *key).take(most).collect();
        for key in own.map(|part| part.key).chain(removed.iter().copied()) {
            table.remove(key).map_err(StoreError::of)?;
        }
        let mut change = Change { merged, removed, ..Change::default() };
        for (part, number) in parts.into_iter().zip(0..) {
            let key = (sequence, number);
            let record = part.record(key);
            table.insert(key, record.as_slice()).map_err(StoreError::of)?;
            let is_own = part.is_of_one && record.len() >= FEW_BYTES;
            let range = is_own.then(|| ranges.bounds(part.range).0.into());
            let (bytes, traces) = (record.len() as u64, part.customers.into());
            change.added.push((range, Noted { key, bytes, traces }));
            change.records.push((key, record));
        }
        Ok(change)
    }

    /// Writes the parts anew in which there is something of a customer, without it.
    pub fn erase(&self, transaction: &WriteTransaction, customer: &str) -> Result<(), StoreError> {
        let wanted = trace(customer);
        let mut table: Option<Table<'_, (u64, u32), &[u8]>> = None;
        let parts = self.shared.values().chain(self.own.values().flatten());
        for Noted { key, .. } in parts.filter(|part| part.traces.contains(&wanted)) {
            let table = match &mut table {
                Some(table) => table,
                None => table.insert(transaction.open_table(JOURNAL).map_err(StoreError::of)?),
            };
            let record = table.get(key).map_err(StoreError::of)?;
            let record = record.map(|record| record.value().to_vec()).unwrap_or_default();
            let mut rest = Part::default();
            let read = each_line(*key, &record, |other, line, has_record| {
                if other != customer {
                    rest.push(other, line, has_record);
                }
            });
            read.ok_or_else(|| StoreError::damaged("a part of the journal"))?;
            // One without lines stays, so that it is known of wherever it was.
            let record = rest.record(*key);
            table.insert(key, record.as_slice()).map_err(StoreError::of)?;
        }
        Ok(())
    }

    /// Takes over what is durable now.
    pub fn take_over(&mut self, change: Change) {
        change.merged.iter().for_each(|first| drop(self.own.remove(first)));
        for part in change.removed.iter().filter_map(|key| self.shared.remove(key)) {
            self.shared_bytes -= part.held();
        }
        change.added.into_iter().for_each(|(range, part)| self.take_in(range, part));
    }

    /// Takes ranges of which several are made, by their first ids: their parts are of several now.
    pub fn cut(&mut self, ranges: &[Box<str>]) {
        for first in ranges {
            let parts = self.own.remove(first).unwrap_or_default();
            parts.into_iter().for_each(|part| self.take_in(None, part));
        }
    }

    fn take_in(&mut self, range: Option<Box<str>>, part: Noted) {
        match range {
            Some(first) => self.own.entry(first).or_default().push(part),
            None => {
                self.shared_bytes += part.held();
                self.shared.insert(part.key, part);
            }
        }
    }
}

/// What a commit makes of the journal.
#[derive(Debug, Default)]
pub struct Change {
    merged: Vec<Box<str>>,
    removed: Vec<Key>,
    added: Vec<(Option<Box<str>>, Noted)>,
    /// The new parts.
    pub records: Vec<(Key, Vec<u8>)>,
}

impl Change {
    /// What the new parts take.
    pub fn n_bytes(&self) -> usize {
        self.records.iter().map(|(_, record)| record.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(key: Key, record: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
        let mut lines = Vec::new();
        each_line(key, record, |customer, line, has_record| {
            assert_eq!(has_record, customer == "ann");
            lines.push((customer.to_owned(), line.to_vec()));
        })?;
        Some(lines)
    }

    #[test]
    fn lines_come_back_and_a_flipped_bit_is_one_customers_or_the_parts() {
        let mut added = Added::default();
        let given = [("ann", &b"one"[..]), ("ann", b""), ("bob", b"three"), ("", b"four")];
        given.iter().for_each(|(customer, line)| added.push(0, customer, line, *customer == "ann"));
        let key = (7, 0);
        let mut record = added.open.record(key);
        let whole = lines(key, &record).unwrap();
        assert!(whole.iter().map(|(id, line)| (id.as_str(), line.as_slice())).eq(given));
        assert_eq!(lines((8, 0), &record), None);
        assert_eq!(lines((7, 1), &record), None);
        let mut n_single = 0;
        for bit in 0..record.len() * 8 {
            record[bit / 8] ^= 1 << (bit % 8);
            if let Some(some) = lines(key, &record) {
                let differ = some.iter().zip(&whole).filter(|(some, whole)| some != whole);
                assert!(differ.clone().all(|(some, whole)| some.0 == whole.0));
                assert!(differ.clone().all(|(some, _)| some.1.is_empty()));
                assert_eq!((differ.count(), some.len()), (1, whole.len()));
                n_single += 1;
            }
            record[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(n_single, 8 * "onethreefour".len());
        for end in 0..record.len() {
            let some = lines(key, &record[..end]);
            assert!(some.is_none_or(|some| some[3].1.is_empty()));
        }
    }

    #[test]
    fn parts_are_cut_where_they_are_full_and_where_a_range_ends() {
        let mut added = Added::default();
        let mut push = |range: usize, n: usize, line: &[u8]| {
            (0..n).for_each(|number| added.push(range, &format!("{range} {number}"), line, false));
        };
        push(0, 20, &[7; 10_000]);
        push(1, 20, &[7; 100]);
        push(2, 1, &[7; 10]);
        push(3, 1, &[7; 10]);
        push(4, 1, &[7; 10]);
        push(5, 1, &[7; 10_000]);
        push(6, 1, &[7; 10]);
        let parts: Vec<_> = added
            .parts
            .iter()
            .chain([&added.open])
            .map(|part| (part.customers.len(), part.is_of_one))
            .collect();
        let full = [(6, true), (6, true), (6, true), (2, true)];
        assert_eq!(parts[..4], full);
        assert_eq!(parts[4..], [(20, true), (4, false), (1, true)]);
        assert!(added.parts.iter().all(|part| part.len() < 1 << 17));
    }
}
