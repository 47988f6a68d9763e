//! The sorted run: lines that wait on the disk, in the order of their customers, until a page of records
//! has enough of them.
//!
//! What has no room in a memtable goes here first, unless it is dense already: a block holds the lines
//! of some hundred customers, so that many times as many wait as there is memory for, and a record is
//! written anew for several lines instead of one. Only lines of customers who have a record are here;
//! who is new is put into the records at once.
//!
//! A block is a directory, which says whose its lines are, the lines, and the directory once more,
//! since without it nobody could tell. A checksum vouches for each directory, and one more for the lines
//! of each customer.

use super::Waiting;
use crate::ingest::bytes::{put_number, put_text, take_number, take_text};
use crate::store::StoreError;
use redb::{ReadableTable, Table};
use std::iter::Peekable;
use std::ops::Bound;

/// A block has no more bytes, unless it is of one customer: with its key it shall fit into two pages of
/// 4 KiB.
const BLOCK_BYTES: usize = 8_000;

const WORD: usize = 4;

/// The tables in which blocks lie, by the ids of their last customer and of their first: a look for a
/// customer finds the block in which they would be.
pub trait Blocks: ReadableTable<(&'static [u8], &'static [u8]), &'static [u8]> {}

impl<T: ReadableTable<(&'static [u8], &'static [u8]), &'static [u8]>> Blocks for T {}

/// The table that is written.
pub type BlockTable<'t> = Table<'t, (&'static [u8], &'static [u8]), &'static [u8]>;

/// The last customer of a block and the first one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Span {
    last: Vec<u8>,
    first: Vec<u8>,
}

impl Span {
    fn of((last, first): (&[u8], &[u8])) -> Span {
        Span { last: last.to_vec(), first: first.to_vec() }
    }

    fn key(&self) -> (&[u8], &[u8]) {
        (&self.last, &self.first)
    }

    fn holds(&self, customer: &str) -> bool {
        (self.first.as_slice()..=self.last.as_slice()).contains(&customer.as_bytes())
    }
}

/// Where blocks begin that may hold a customer or later ones.
fn from(customer: &str) -> std::ops::RangeFrom<(&[u8], &[u8])> {
    (customer.as_bytes(), &[][..])..
}

/// What a block holds of one customer.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'b> {
    pub customer: &'b str,
    pub n_lines: u64,
    lengths: &'b [u8],
    lines: &'b [u8],
    sum: u32,
}

impl<'b> Entry<'b> {
    /// The lines, the first first. Where one of them is damaged all are empty.
    pub fn lines(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let is_whole = crc32fast::hash(self.lines) == self.sum;
        let (mut lengths, mut lines) = (self.lengths, if is_whole { self.lines } else { &[] });
        (0..self.n_lines).map(move |_| {
            let length = take_number(&mut lengths).unwrap_or_default();
            let (line, rest) = lines.split_at_checked(length as usize).unwrap_or_default();
            lines = rest;
            line
        })
    }

    /// What the lines take.
    pub fn n_bytes(&self) -> usize {
        self.lines.len()
    }

    fn waiting(&self) -> Waiting {
        let mut waiting = Waiting { has_record: true, ..Waiting::default() };
        self.lines().for_each(|line| waiting.push_line(line));
        waiting
    }
}

/// What a block holds, customer by customer in their order.
#[derive(Debug, Clone)]
struct Entries<'b> {
    directory: &'b [u8],
    lines: &'b [u8],
}

impl<'b> Entries<'b> {
    /// Of the block under this key; `None` where nobody can tell whose its lines are.
    fn of(key: (&[u8], &[u8]), block: &'b [u8]) -> Option<Entries<'b>> {
        let word = |word: &[u8; WORD]| u32::from_le_bytes(*word);
        let vouched = |directory: &[u8], sum| checksum(key, directory) == sum;
        let in_front = || {
            let (sum, rest) = block.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (directory, rest) = rest.split_at_checked(word(length) as usize)?;
            let n_lines = rest.len().checked_sub(directory.len() + 2 * WORD)?;
            vouched(directory, word(sum)).then_some((directory, &rest[..n_lines]))
        };
        let behind = || {
            let (rest, length) = block.split_last_chunk()?;
            let (rest, sum) = rest.split_last_chunk()?;
            let (rest, directory) =
                rest.split_at_checked(rest.len().checked_sub(word(length) as usize)?)?;
            let lines = rest.get(directory.len() + 2 * WORD..)?;
            vouched(directory, word(sum)).then_some((directory, lines))
        };
        let (directory, lines) = in_front().or_else(behind)?;
        Some(Entries { directory, lines })
    }

    fn take(&mut self) -> Option<Entry<'b>> {
        let customer = take_text(&mut self.directory)?;
        let n_lines = take_number(&mut self.directory)? as u64;
        let lengths = self.directory;
        let mut n_bytes = 0usize;
        for _ in 0..n_lines {
            n_bytes = n_bytes.checked_add(take_number(&mut self.directory)? as usize)?;
        }
        let lengths = &lengths[..lengths.len() - self.directory.len()];
        let (sum, rest) = self.directory.split_first_chunk()?;
        self.directory = rest;
        let (lines, rest) = self.lines.split_at_checked(n_bytes).unwrap_or_default();
        self.lines = rest;
        Some(Entry { customer, n_lines, lengths, lines, sum: u32::from_le_bytes(*sum) })
    }
}

impl<'b> Iterator for Entries<'b> {
    type Item = Entry<'b>;

    fn next(&mut self) -> Option<Entry<'b>> {
        self.take()
    }
}

fn checksum((last, first): (&[u8], &[u8]), directory: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(directory);
    hasher.update(last);
    hasher.update(first);
    hasher.finalize()
}

/// The lines of one customer.
pub fn lines(blocks: &impl Blocks, customer: &str) -> Result<Waiting, StoreError> {
    let mut blocks = blocks.range(from(customer)).map_err(StoreError::of)?;
    let Some(block) = blocks.next() else { return Ok(Waiting::default()) };
    let (key, block) = block.map_err(StoreError::of)?;
    if customer.as_bytes() < key.value().1 {
        return Ok(Waiting::default());
    }
    let entries = Entries::of(key.value(), block.value());
    let Some(mut entries) = entries else { return Ok(Waiting::lost()) };
    let found = entries.find(|entry| entry.customer >= customer);
    let found = found.filter(|entry| entry.customer == customer);
    Ok(found.map(|entry| entry.waiting()).unwrap_or_default())
}

/// All lines from a customer on, for whoever walks over all customers in their order.
pub struct Walk<'t> {
    blocks: redb::Range<'t, (&'static [u8], &'static [u8]), &'static [u8]>,
    some: Peekable<std::vec::IntoIter<(String, Waiting)>>,
    /// A block of which nobody knows whose its lines are.
    lost: Option<Span>,
}

impl<'t> Walk<'t> {
    /// From here on.
    pub fn from(start: Bound<&str>, blocks: &'t impl Blocks) -> Result<Walk<'t>, StoreError> {
        let first = match start {
            Bound::Included(id) | Bound::Excluded(id) => id,
            Bound::Unbounded => "",
        };
        let blocks = blocks.range(from(first)).map_err(StoreError::of)?;
        let mut walk = Walk { blocks, some: Vec::new().into_iter().peekable(), lost: None };
        let is_before = |id: &str| match start {
            Bound::Included(start) => id < start,
            Bound::Excluded(start) => id <= start,
            Bound::Unbounded => false,
        };
        while walk.peek()?.is_some_and(is_before) {
            walk.some.next();
        }
        Ok(walk)
    }

    /// The next customer of whom there are lines.
    pub fn peek(&mut self) -> Result<Option<&str>, StoreError> {
        while self.some.peek().is_none() && self.lost.is_none() {
            let Some(block) = self.blocks.next() else { return Ok(None) };
            let (key, block) = block.map_err(StoreError::of)?;
            let entry = |entry: Entry<'_>| (entry.customer.to_owned(), entry.waiting());
            match Entries::of(key.value(), block.value()) {
                Some(entries) => {
                    let some: Vec<_> = entries.map(entry).collect();
                    self.some = some.into_iter().peekable();
                }
                None => self.lost = Some(Span::of(key.value())),
            }
        }
        Ok(self.some.peek().map(|(customer, _)| customer.as_str()))
    }

    /// The lines of a customer who is none after the next one.
    pub fn lines(&mut self, customer: &str) -> Result<Waiting, StoreError> {
        while let Some(lost) = &self.lost {
            if lost.holds(customer) {
                return Ok(Waiting::lost());
            }
            if customer.as_bytes() < lost.first.as_slice() {
                break;
            }
            self.lost = None;
            self.peek()?;
        }
        let lines = self.some.next_if(|(next, _)| next == customer);
        Ok(lines.map(|(_, lines)| lines).unwrap_or_default())
    }
}

/// The last customers of some blocks from the front, up to so many of them.
pub fn last_customers(blocks: &impl Blocks, n: usize) -> Result<Vec<String>, StoreError> {
    let range = blocks.iter().map_err(StoreError::of)?.take(n);
    range
        .map(|block| {
            let (key, _) = block.map_err(StoreError::of)?;
            Ok(String::from_utf8_lossy(key.value().0).into_owned())
        })
        .collect()
}

/// How many lines there are in all blocks that can be read.
pub fn n_lines(blocks: &impl Blocks) -> Result<u64, StoreError> {
    let mut n = 0;
    for block in blocks.iter().map_err(StoreError::of)? {
        let (key, block) = block.map_err(StoreError::of)?;
        let entries = Entries::of(key.value(), block.value());
        n += entries.map_or(0, |entries| entries.map(|entry| entry.n_lines).sum());
    }
    Ok(n)
}

/// Removes the lines of a customer, and tells how many there were.
pub fn erase(table: &mut BlockTable<'_>, customer: &str) -> Result<u64, StoreError> {
    let behind = format!("{customer}\0");
    let taken = Taken::of(table, (customer, Some(&behind)))?;
    if taken.has_lost(customer) {
        let told = format!("nobody can tell which lines that wait are of customer `{customer}`");
        return Err(StoreError::damaged(told));
    }
    let (mut rest, mut n) = (Written::default(), 0);
    for entry in taken.entries() {
        if entry.customer == customer {
            n += entry.n_lines;
        } else {
            rest.keep(&entry);
        }
    }
    if n > 0 {
        taken.replace(rest, table)?;
    }
    Ok(n)
}

/// The blocks in which lines of a range of customers are, as they were when it was begun to merge it.
#[derive(Debug, Default)]
pub struct Taken {
    blocks: Vec<(Span, Vec<u8>)>,
    /// Blocks of which nobody knows whose their lines are.
    lost: Vec<Span>,
}

impl Taken {
    /// Those of a range, from its first customer to before the first one behind it.
    pub fn of(
        blocks: &impl Blocks,
        (first, end): (&str, Option<&str>),
    ) -> Result<Taken, StoreError> {
        let mut taken = Taken::default();
        for block in blocks.range(from(first)).map_err(StoreError::of)? {
            let (key, block) = block.map_err(StoreError::of)?;
            let (key, block) = (key.value(), block.value());
            if end.is_some_and(|end| key.1 >= end.as_bytes()) {
                break;
            }
            match Entries::of(key, block) {
                Some(_) => taken.blocks.push((Span::of(key), block.to_vec())),
                None => taken.lost.push(Span::of(key)),
            }
        }
        Ok(taken)
    }

    /// All that is in them, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.blocks.iter().filter_map(|(span, block)| Entries::of(span.key(), block)).flatten()
    }

    /// Whether lines of a customer may be in a block that cannot be read.
    pub fn has_lost(&self, customer: &str) -> bool {
        self.lost.iter().any(|lost| lost.holds(customer))
    }

    /// Puts others in their place.
    pub fn replace(&self, by: Written, table: &mut BlockTable<'_>) -> Result<(), StoreError> {
        let mut new = by.blocks().into_iter().peekable();
        let mut put = |span: &Span, block: &[u8]| {
            table.insert(span.key(), block).map_err(StoreError::of).map(|_| ())
        };
        let mut gone = Vec::new();
        for (span, _) in &self.blocks {
            while let Some((other, block)) = new.next_if(|(other, _)| other < span) {
                put(&other, &block)?;
            }
            match new.next_if(|(other, _)| other == span) {
                Some((_, block)) => put(span, &block)?,
                None => gone.push(span),
            }
        }
        new.try_for_each(|(span, block)| put(&span, &block))?;
        for span in gone {
            table.remove(span.key()).map_err(StoreError::of)?;
        }
        Ok(())
    }
}

/// Blocks that are being made.
#[derive(Debug, Default)]
pub struct Written {
    full: Vec<(Span, Vec<u8>)>,
    open: Block,
    pub n_lines: u64,
}

#[derive(Debug, Default)]
struct Block {
    span: Span,
    directory: Vec<u8>,
    lines: Vec<u8>,
}

impl Written {
    /// Takes the lines of a customer, who comes after all before.
    pub fn push<'l>(
        &mut self,
        customer: &str,
        n_lines: u64,
        lines: impl Iterator<Item = &'l [u8]>,
    ) {
        let before = (self.open.directory.len(), self.open.lines.len());
        let Block { directory, lines: all, .. } = &mut self.open;
        put_text(directory, customer);
        put_number(directory, n_lines as i64);
        for line in lines {
            put_number(directory, line.len() as i64);
            all.extend_from_slice(line);
        }
        directory.extend_from_slice(&crc32fast::hash(&all[before.1..]).to_le_bytes());
        let is_full = self.open.len() + 2 * customer.len() > BLOCK_BYTES && before.0 > 0;
        if is_full {
            let next = self.open.split_off(before);
            let full = std::mem::replace(&mut self.open, next);
            self.full.push(full.sealed());
        }
        let Span { first, last } = &mut self.open.span;
        if is_full || before.0 == 0 {
            first.extend_from_slice(customer.as_bytes());
        }
        last.clear();
        last.extend_from_slice(customer.as_bytes());
        self.n_lines += n_lines;
    }

    /// The same of an entry as it is.
    pub fn keep(&mut self, entry: &Entry<'_>) {
        self.push(entry.customer, entry.n_lines, entry.lines());
    }

    fn blocks(self) -> Vec<(Span, Vec<u8>)> {
        let Written { mut full, open, .. } = self;
        if !open.directory.is_empty() {
            full.push(open.sealed());
        }
        full
    }
}

impl Block {
    fn split_off(&mut self, (directory, lines): (usize, usize)) -> Block {
        let directory = self.directory.split_off(directory);
        Block { span: Span::default(), directory, lines: self.lines.split_off(lines) }
    }

    fn len(&self) -> usize {
        2 * self.directory.len() + self.lines.len()
    }

    /// The block, and of whom it is.
    fn sealed(self) -> (Span, Vec<u8>) {
        let Block { span, directory, lines } = &self;
        let sum = checksum(span.key(), directory).to_le_bytes();
        let length = (directory.len() as u32).to_le_bytes();
        let block = [&sum[..], &length, directory, lines, directory, &sum, &length].concat();
        (self.span, block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Span, Vec<u8>) {
        let mut written = Written::default();
        written.push("ann", 2, [&b"one"[..], b"two"].into_iter());
        written.push("bob", 1, [&b""[..]].into_iter());
        written.push("cleo", 1, [&b"three"[..]].into_iter());
        let [block] = written.blocks().try_into().unwrap();
        block
    }

    fn read(span: &Span, block: &[u8]) -> Option<Vec<(String, Vec<Vec<u8>>)>> {
        let entry = |entry: Entry<'_>| {
            (entry.customer.to_owned(), entry.lines().map(<[u8]>::to_vec).collect())
        };
        Some(Entries::of(span.key(), block)?.map(entry).collect())
    }

    /// Stores of this format have such blocks: what is read in another way needs a format of its own.
    #[test]
    fn a_block_is_of_the_format() {
        let (span, block) = sample();
        let hex: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(span.key(), (&b"cleo"[..], &b"ann"[..]));
        let directory = "06616e6e0406064581118c06626f6202000000000008636c656f020af5d8c546";
        let lines = "6f6e6574776f7468726565";
        let sum = "5d5f72c220000000";
        assert_eq!(hex, [sum, directory, lines, directory, sum].concat());
    }

    #[test]
    fn lines_come_back_and_a_flipped_bit_is_one_customers() {
        let (span, mut block) = sample();
        let whole = read(&span, &block).unwrap();
        let ids: Vec<_> = whole.iter().map(|(id, lines)| (id.as_str(), lines.len())).collect();
        assert_eq!(ids, [("ann", 2), ("bob", 1), ("cleo", 1)]);
        assert_eq!(whole[0].1, [b"one", b"two"]);
        assert_eq!(read(&Span { last: b"cle".to_vec(), ..span.clone() }, &block), None);
        let mut n_damaged = 0;
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            // A length in front that became another one may be taken for that of the lines.
            let some = read(&span, &block).unwrap();
            let differ = some.iter().zip(&whole).filter(|(some, whole)| some != whole);
            let differ: Vec<_> = differ.map(|(some, _)| some.1.concat()).collect();
            assert!(some.len() == 3 && differ.len() <= 1 && differ.concat().is_empty(), "{bit}");
            n_damaged += differ.len();
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(n_damaged, 8 * "onetwothree".len());
        for end in 0..block.len() {
            for (some, whole) in read(&span, &block[..end]).iter().flatten().zip(&whole) {
                assert!(some.0 == whole.0 && (some.1 == whole.1 || some.1.concat().is_empty()));
            }
        }
    }

    #[test]
    fn blocks_end_where_they_are_full() {
        let mut written = Written::default();
        let line = [7; 1_000];
        (10..50).for_each(|n| written.push(&n.to_string(), 1, std::iter::once(&line[..])));
        written.push("5", 1, std::iter::once(&[7; 20_000][..]));
        written.push("6", 1, std::iter::once(&line[..]));
        assert_eq!(written.n_lines, 42);
        let blocks = written.blocks();
        let sizes: Vec<usize> = blocks.iter().map(|(_, block)| block.len()).collect();
        assert!(sizes.iter().all(|&size| size <= BLOCK_BYTES + 16 || size > 20_000), "{sizes:?}");
        let all = blocks.iter().flat_map(|(span, block)| {
            let some = read(span, block).unwrap();
            assert_eq!(some[0].0.as_bytes(), span.first);
            assert_eq!(some.last().unwrap().0.as_bytes(), span.last);
            some
        });
        let ids: Vec<String> = all.map(|(id, _)| id).collect();
        assert!(ids.is_sorted() && ids.len() == 42);
    }
}
