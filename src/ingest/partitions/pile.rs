//! Records that wait for their part's turn, in memory and, where that must not hold them, on disk.
//! [`take_bytes`](crate::ingest::bytes::take_bytes) takes one from the front of others.

use super::N_PARTS;
use crate::ingest::bytes::put_number;
use habitus_engine::domain::bucket;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Records wait in pieces of so many bytes, since what grows in one piece is moved over and over.
const PIECE_BYTES: usize = 1 << 13;

/// A piece with less room than this is full. A longer record still fits: its piece grows.
const USUAL_BYTES: usize = 1 << 7;

/// So many records are put to their parts at once. The parts lie far apart, so that many are waited
/// for together.
const STAGED_RECORDS: usize = 1 << 8;

/// Most records are no longer, and are copied without a look at how long they are.
const SHORT_BYTES: usize = 1 << 5;

/// Records of one sort.
#[derive(Debug)]
pub(super) struct Pile {
    /// What its files are called.
    name: &'static str,
    /// The records that came last, end to end, which are not with their parts yet.
    staged: Vec<u8>,
    /// The part and the length of each of them.
    staged_of: Vec<(u8, usize)>,
    /// What is in memory of each part.
    parts: Vec<Pieces>,
    /// Number of records by part, in memory or not.
    pub counts: Vec<u64>,
    /// Bytes in memory.
    n_waiting: usize,
}

/// Records end to end, each behind its length; none is in two pieces.
#[derive(Debug, Clone, Default)]
struct Pieces {
    full: Vec<Vec<u8>>,
    newest: Vec<u8>,
}

impl Pieces {
    /// The piece that takes the next record.
    #[inline]
    fn newest(&mut self) -> &mut Vec<u8> {
        if self.newest.len() > PIECE_BYTES - USUAL_BYTES {
            let next = Vec::with_capacity(PIECE_BYTES);
            self.full.push(std::mem::replace(&mut self.newest, next));
        }
        &mut self.newest
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain(std::iter::once(&self.newest)).map(Vec::as_slice)
    }
}

/// Puts the length of the last record, which begins there, in place of a byte.
#[cold]
fn put_length(records: &mut Vec<u8>, start: usize, length: usize) {
    let mut bytes = Vec::new();
    put_number(&mut bytes, length as i64);
    records.splice(start..=start, bytes);
}

impl Pile {
    /// Nothing yet.
    pub fn new(name: &'static str) -> Pile {
        Pile {
            name,
            staged: Vec::new(),
            staged_of: Vec::with_capacity(STAGED_RECORDS),
            parts: vec![Pieces::default(); N_PARTS],
            counts: vec![0; N_PARTS],
            n_waiting: 0,
        }
    }

    /// Takes a record of a customer, which is what `put` appends.
    #[inline(always)]
    pub fn add(&mut self, customer: &str, put: impl FnOnce(&mut Vec<u8>)) {
        let records = &mut self.staged;
        let start = records.len();
        // Most lengths take a byte.
        records.push(0);
        put(records);
        match records.len() - start - 1 {
            short @ 0..64 => records[start] = (short << 1) as u8,
            long => put_length(records, start, long),
        }
        let length = records.len() - start;
        self.n_waiting += length;
        self.staged_of.push((bucket(customer), length));
        if self.staged_of.len() == STAGED_RECORDS {
            self.settle();
        }
    }

    /// Puts the records that came last to their parts. Before, nobody is to look into those.
    pub fn settle(&mut self) {
        // So that what is copied of the last record has an end.
        self.staged.extend_from_slice(&[0; SHORT_BYTES]);
        let mut rest = self.staged.as_slice();
        for &(part, length) in &self.staged_of {
            let part = usize::from(part);
            let records = self.parts[part].newest();
            let end = records.len() + length;
            match rest.first_chunk::<SHORT_BYTES>() {
                Some(short) if length <= SHORT_BYTES => records.extend_from_slice(short),
                _ => records.extend_from_slice(&rest[..length]),
            }
            records.truncate(end);
            self.counts[part] += 1;
            rest = &rest[length..];
        }
        self.staged.clear();
        self.staged_of.clear();
    }

    /// Takes all records of another, none of which may be on disk. Those of a part are in no order.
    pub fn join(&mut self, mut other: Pile) {
        other.settle();
        for (ours, theirs) in self.parts.iter_mut().zip(other.parts) {
            ours.full.extend(theirs.full);
            if !theirs.newest.is_empty() {
                ours.full.push(theirs.newest);
            }
        }
        self.counts.iter_mut().zip(other.counts).for_each(|(ours, theirs)| *ours += theirs);
        self.n_waiting += other.n_waiting;
    }

    /// Bytes in memory.
    pub fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    /// What is in memory of a part.
    pub fn in_memory(&self, part: usize) -> impl Iterator<Item = &[u8]> {
        self.parts[part].iter()
    }

    /// Puts everything on disk.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn flush(&mut self, directory: &Path) -> io::Result<()> {
        self.settle();
        let mut together = Vec::new();
        for part in 0..N_PARTS {
            together.clear();
            self.in_memory(part).for_each(|records| together.extend_from_slice(records));
            if !together.is_empty() {
                let path = self.path(part, directory);
                OpenOptions::new().create(true).append(true).open(path)?.write_all(&together)?;
                self.n_waiting -= together.len();
                self.parts[part] = Pieces::default();
            }
        }
        Ok(())
    }

    /// Makes sure that what is on disk stays there.
    ///
    /// # Errors
    /// Where the disk refuses it.
    pub fn sync(&self, directory: &Path) -> io::Result<()> {
        for part in (0..N_PARTS).filter(|&part| self.counts[part] > 0) {
            let path = self.path(part, directory);
            if path.exists() {
                File::open(path)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// What is on disk of a part.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn on_disk(&self, part: usize, directory: Option<&Path>) -> io::Result<Vec<u8>> {
        let mut stored = Vec::new();
        let path = directory.map(|directory| self.path(part, directory));
        if let Some(path) = path.filter(|path| path.exists()) {
            File::open(path)?.read_to_end(&mut stored)?;
        }
        Ok(stored)
    }

    /// Refuses a part that did not come back whole.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`].
    pub fn check(&self, part: usize, n: usize) -> io::Result<()> {
        if n as u64 == self.counts[part] {
            return Ok(());
        }
        let reason = format!("{n} {} of {} came back from disk", self.name, self.counts[part]);
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }

    fn path(&self, part: usize, directory: &Path) -> PathBuf {
        directory.join(format!("{}-{part:03}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::bytes::take_bytes;

    /// The records of all parts, each part's sorted.
    fn records(pile: &Pile, directory: Option<&Path>) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for part in 0..N_PARTS {
            let stored = pile.on_disk(part, directory).unwrap();
            let before = all.len();
            for mut rest in std::iter::once(stored.as_slice()).chain(pile.in_memory(part)) {
                while let Some(record) = take_bytes(&mut rest) {
                    assert_eq!(
                        usize::from(bucket(std::str::from_utf8(&record[..4]).unwrap())),
                        part
                    );
                    all.push(record.to_vec());
                }
                assert!(rest.is_empty());
            }
            all[before..].sort_unstable();
            pile.check(part, all.len() - before).unwrap();
            assert!(pile.check(part, all.len() - before + 1).is_err());
        }
        all
    }

    fn add(pile: &mut Pile, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let customer = format!("{:04}", number % 700);
            // Lengths on both sides of where their own length grows.
            let text = format!("{customer}{number:06}{}", "x".repeat(number * 7 % 9_000));
            pile.add(&customer, |bytes| bytes.extend_from_slice(text.as_bytes()));
        }
        pile.settle();
    }

    #[test]
    fn records_come_back_part_by_part_from_memory_and_from_disk() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let mut whole = Pile::new("rows");
        add(&mut whole, 0..3_000);
        assert!(whole.parts.iter().any(|pieces| pieces.full.len() > 5));
        let expected = records(&whole, None);
        assert_eq!(expected.len(), 3_000);

        let mut joined = Pile::new("rows");
        add(&mut joined, 0..900);
        joined.flush(directory).unwrap();
        assert_eq!(joined.n_waiting(), 0);
        add(&mut joined, 900..1_000);
        let mut fork = Pile::new("rows");
        add(&mut fork, 1_000..3_000);
        joined.join(fork);
        assert!(records(&joined, Some(directory)) == expected);
    }

    #[test]
    fn a_record_that_was_cut_is_none() {
        let mut pile = Pile::new("rows");
        add(&mut pile, 9..10);
        let part = usize::from(bucket("0009"));
        let bytes = pile.parts[part].newest.clone();
        for end in 0..bytes.len() {
            assert_eq!(take_bytes(&mut &bytes[..end]), None, "{end}");
        }
    }
}
