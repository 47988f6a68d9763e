//! The lines of a range of customers that wait, in memory, for any number of readers.

use super::Waiting;
use crate::ingest::bytes::{put_number, take_bytes, take_number};
use crate::store::id::Id;
use habitus_engine::domain::hash;
use hashbrown::HashTable;

/// No earlier entry of this customer.
const NONE: u32 = u32::MAX;

/// A place is the number of a piece and, in so many bits, where in it an entry begins.
const PIECE_BITS: u32 = 14;

/// Bytes of the first piece. The next ones are larger, as far as a place can tell.
const FIRST_BYTES: usize = 1 << 10;

/// Entries stand behind one another, each knows the one before it of the same customer, and each tells
/// of which commit it is. Nothing in it is ever changed, so that readers of any moment see their own.
#[derive(Debug, Default)]
pub struct Memtable {
    pieces: Pieces,
    /// Where each customer's newest entry begins.
    newest: HashTable<u32>,
    n_lines: u64,
    /// The sequence of the first line, which those of others are told from.
    oldest: Option<u64>,
}

/// One line of a customer: the place of the one before, the sequence, whose it is, and the line.
struct Entry<'m> {
    before: u32,
    /// Since the oldest.
    sequence: u64,
    /// As of this line.
    standing: Standing,
    customer: &'m [u8],
    line: &'m [u8],
}

/// One line on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Line<'m> {
    pub customer: Id<'m>,
    /// Empty where it is damaged.
    pub line: &'m [u8],
    /// The store's sequence before its commit.
    pub sequence: u64,
    /// Whether there was a record when it came, or when an earlier one did.
    pub has_record: bool,
}

/// What is known of a customer of whom something waits, without a look at their lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether there was a record when the last line came, so that one without is damaged.
    pub has_record: bool,
    /// Whether a line is damaged.
    pub is_damaged: bool,
}

impl Memtable {
    /// Takes a line of a commit that began at this sequence, which is no earlier than any before.
    pub fn add(&mut self, customer: &str, sequence: u64, line: &[u8], has_record: bool) {
        let oldest = *self.oldest.get_or_insert(sequence);
        let Memtable { pieces, newest, .. } = self;
        let at = pieces.room_for(bytes_of(customer.as_bytes(), line) as usize);
        let is_same = |&at: &u32| pieces.entry(at).customer == customer.as_bytes();
        let before = match newest.find_mut(hash(customer), is_same) {
            Some(newest) => std::mem::replace(newest, at),
            None => NONE,
        };
        let mut standing = match before {
            NONE => Standing { has_record, is_damaged: false },
            before => pieces.entry(before).standing,
        };
        standing.has_record |= has_record;
        standing.is_damaged |= line.is_empty();
        let sequence = sequence.wrapping_sub(oldest);
        pieces.put(&Entry { before, sequence, standing, customer: customer.as_bytes(), line });
        if before == NONE {
            newest.insert_unique(hash(customer), at, |&at| hash(id_of(pieces.entry(at).customer)));
        }
        self.n_lines += 1;
    }

    /// How a customer stands; `None` of whom nothing waits.
    pub fn standing(&self, customer: &str) -> Option<Standing> {
        let is_same = |&at: &u32| self.pieces.entry(at).customer == customer.as_bytes();
        let newest = self.newest.find(hash(customer), is_same)?;
        Some(self.pieces.entry(*newest).standing)
    }

    /// The lines of a customer of commits that began before this sequence.
    pub fn lines(&self, customer: &str, before: u64) -> Waiting {
        let is_same = |&at: &u32| self.pieces.entry(at).customer == customer.as_bytes();
        let mut found = Waiting::default();
        let Some(&newest) = self.newest.find(hash(customer), is_same) else { return found };
        let mut entries = Vec::new();
        let mut at = newest;
        while at != NONE {
            let entry = self.pieces.entry(at);
            at = entry.before;
            if self.sequence_of(&entry) < before {
                entries.push(entry);
            }
        }
        for entry in entries.iter().rev() {
            found.push(self.sequence_of(entry), entry.line);
            found.has_record = entry.standing.has_record;
        }
        found
    }

    fn sequence_of(&self, entry: &Entry<'_>) -> u64 {
        self.oldest.unwrap_or_default().wrapping_add(entry.sequence)
    }

    /// All customers of whom there is a line of a commit that began before this sequence, in order.
    pub fn customers(&self, before: u64) -> Vec<&str> {
        let is_seen = |&&at: &&u32| {
            let mut at = at;
            while at != NONE {
                let entry = self.pieces.entry(at);
                if self.sequence_of(&entry) < before {
                    return true;
                }
                at = entry.before;
            }
            false
        };
        let seen = self.newest.iter().filter(is_seen);
        let mut customers: Vec<&str> =
            seen.map(|&at| id_of(self.pieces.entry(at).customer)).collect();
        customers.sort_unstable();
        customers
    }

    /// All lines, customer by customer in their order, and as they came.
    pub fn in_order(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::with_capacity(self.n_lines as usize);
        self.each(|entry, sequence| {
            let customer = Id::of(id_of(entry.customer));
            let has_record = entry.standing.has_record;
            lines.push(Line { customer, line: entry.line, sequence, has_record });
        });
        // Those of a commit are in order already, which the sort makes use of.
        lines.sort_by(|a, b| a.customer.cmp(&b.customer));
        lines
    }

    /// Up to one customer fewer than `n`, who cut this into about equal parts.
    pub fn places(&self, n: u64) -> Vec<String> {
        let customers = self.customers(u64::MAX);
        let n = n.clamp(1, customers.len().max(1) as u64) as usize;
        (1..n).map(|part| customers[customers.len() * part / n].to_owned()).collect()
    }

    /// A table of what this one holds, but for one customer.
    pub fn without(&self, customer: &str) -> Memtable {
        let mut rest = Memtable::default();
        self.each(|entry, sequence| {
            if entry.customer != customer.as_bytes() {
                rest.add(id_of(entry.customer), sequence, entry.line, entry.standing.has_record);
            }
        });
        rest
    }

    /// What this one holds in several tables, which end before these customers, in order.
    pub fn cut(&self, before: &[String]) -> Vec<Memtable> {
        let mut tables = Vec::new();
        tables.resize_with(before.len() + 1, Memtable::default);
        self.each(|entry, sequence| {
            let at = before.partition_point(|cut| cut.as_bytes() <= entry.customer);
            let (customer, has_record) = (id_of(entry.customer), entry.standing.has_record);
            tables[at].add(customer, sequence, entry.line, has_record);
        });
        tables
    }

    /// Shows all entries with their sequences, in the order in which they came.
    fn each<'m>(&'m self, mut see: impl FnMut(&Entry<'m>, u64)) {
        for piece in &self.pieces.0 {
            let mut bytes = piece.as_slice();
            while let Some(entry) = take(&mut bytes) {
                see(&entry, self.sequence_of(&entry));
            }
        }
    }

    /// How many lines there are.
    pub fn n_lines(&self) -> u64 {
        self.n_lines
    }

    /// What it takes.
    pub fn bytes(&self) -> u64 {
        (self.pieces.bytes() + self.newest.allocation_size()) as u64
    }

    /// The sequence at which the commit of the first line began.
    pub fn oldest(&self) -> Option<u64> {
        self.oldest
    }
}

/// About what a line of a customer takes here.
pub fn bytes_of(customer: &[u8], line: &[u8]) -> u64 {
    const BESIDE: usize = 25;
    (BESIDE + customer.len() + line.len()) as u64
}

/// Entries behind one another, in pieces that never grow, so that nothing is copied as they come.
#[derive(Debug, Default)]
struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    /// Where the next entry begins, which takes no more than this.
    fn room_for(&mut self, bytes: usize) -> u32 {
        let is_full = |piece: &Vec<u8>| piece.capacity() - piece.len() < bytes;
        if self.0.last().is_none_or(is_full) {
            let usual = FIRST_BYTES << self.0.len().min(4);
            self.0.push(Vec::with_capacity(usual.max(bytes)));
        }
        let offset = self.0.last().map_or(0, Vec::len) as u32;
        // Whoever plans commits keeps a table far below what places can tell apart.
        (self.0.len() as u32 - 1) << PIECE_BITS | offset
    }

    /// Puts an entry where there is room for it.
    fn put(&mut self, entry: &Entry<'_>) {
        let Some(piece) = self.0.last_mut() else { return };
        let Standing { has_record, is_damaged } = entry.standing;
        piece.extend_from_slice(&entry.before.to_le_bytes());
        piece.push(u8::from(has_record) | u8::from(is_damaged) << 1);
        put_number(piece, entry.sequence as i64);
        for text in [entry.customer, entry.line] {
            put_number(piece, text.len() as i64);
            piece.extend_from_slice(text);
        }
    }

    fn entry(&self, at: u32) -> Entry<'_> {
        const STANDING: Standing = Standing { has_record: false, is_damaged: false };
        const NOTHING: Entry<'static> =
            Entry { before: NONE, sequence: 0, standing: STANDING, customer: &[], line: &[] };
        let piece = self.0.get((at >> PIECE_BITS) as usize);
        let bytes = piece.and_then(|piece| piece.get((at & ((1 << PIECE_BITS) - 1)) as usize..));
        bytes.and_then(|mut bytes| take(&mut bytes)).unwrap_or(NOTHING)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(Vec::capacity).sum()
    }
}

fn take<'m>(bytes: &mut &'m [u8]) -> Option<Entry<'m>> {
    let (before, rest) = bytes.split_first_chunk::<4>()?;
    let (&flags, rest) = rest.split_first()?;
    *bytes = rest;
    let standing = Standing { has_record: flags & 1 != 0, is_damaged: flags & 2 != 0 };
    let sequence = take_number(bytes)? as u64;
    let (customer, line) = (take_bytes(bytes)?, take_bytes(bytes)?);
    Some(Entry { before: u32::from_le_bytes(*before), sequence, standing, customer, line })
}

/// The id that was a text when it was put there.
fn id_of(customer: &[u8]) -> &str {
    std::str::from_utf8(customer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(table: &Memtable, customer: &str, before: u64) -> Vec<String> {
        let lines = table.lines(customer, before);
        lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    #[test]
    fn each_moment_has_its_own_lines() {
        let mut table = Memtable::default();
        for (customer, sequence, line) in
            [("b", 3, "1"), ("a", 3, "2"), ("b", 3, "3"), ("", 5, ""), ("b", 7, "4")]
        {
            table.add(customer, sequence, line.as_bytes(), customer == "b");
        }
        let of = |customer| table.standing(customer).map(|of| (of.has_record, of.is_damaged));
        assert_eq!(
            ["b", "a", "", "c"].map(of),
            [Some((true, false)), Some((false, false)), Some((false, true)), None]
        );
        let pieces = table.cut(&["a".to_owned(), "aa".to_owned(), "b".to_owned()]);
        let held: Vec<_> =
            pieces.iter().map(|piece| (piece.customers(9), piece.n_lines())).collect();
        assert_eq!(held, [(vec![""], 1), (vec!["a"], 1), (vec![], 0), (vec!["b"], 3)]);
        assert_eq!(seen(&pieces[3], "b", 4), ["1", "3"]);
        assert_eq!(pieces[3].standing("b"), table.standing("b"));
        assert_eq!(seen(&table, "b", 3), [""; 0]);
        assert_eq!(seen(&table, "b", 4), ["1", "3"]);
        assert_eq!(seen(&table, "b", u64::MAX), ["1", "3", "4"]);
        assert_eq!(table.lines("b", 9).first_sequence(), Some(3));
        assert_eq!(table.customers(3), [""; 0]);
        assert_eq!(table.customers(5), ["a", "b"]);
        assert_eq!(table.customers(6), ["", "a", "b"]);
        assert_eq!((table.n_lines(), table.oldest()), (5, Some(3)));
        let rest = table.without("b");
        assert_eq!((seen(&rest, "b", 9), seen(&rest, "a", 9)), (vec![], vec!["2".to_owned()]));
        assert_eq!((rest.n_lines(), rest.customers(9)), (2, vec!["", "a"]));
    }

    #[test]
    fn lines_of_any_length_come_back() {
        let mut table = Memtable::default();
        let line = |number: usize| vec![number as u8; number * number % 40_000];
        (0..400).for_each(|number| table.add(&format!("{}", number % 7), 5, &line(number), false));
        for customer in 0..7 {
            let lines = table.lines(&customer.to_string(), 6);
            assert!(lines.iter().eq((0..400).filter(|n| n % 7 == customer).map(line)));
        }
    }

    #[test]
    fn many_customers_are_told_apart() {
        let mut table = Memtable::default();
        for number in 0..10_000u64 {
            table.add(&(number % 3_000).to_string(), number, &number.to_le_bytes(), true);
        }
        for customer in 0..3_000u64 {
            let lines = table.lines(&customer.to_string(), 9_000);
            let numbers: Vec<u64> =
                lines.iter().map(|line| u64::from_le_bytes(*line.first_chunk().unwrap())).collect();
            assert_eq!(numbers, [0, 3_000, 6_000].map(|base| base + customer));
        }
        assert_eq!(table.customers(u64::MAX).len(), 3_000);
    }
}
