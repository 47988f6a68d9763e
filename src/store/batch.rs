//! Records on their way into the store.

use super::About;
use super::id::Id;
use super::line::{self, Tail};
use habitus_engine::domain::{RawEvent, Timestamp, hash};
use std::ops::Range;

/// Records of any customers, in the order in which they came. Lines lie end to end, so that a batch
/// of a million costs a few allocations.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Record>,
    abouts: Vec<About>,
}

#[derive(Debug, Clone)]
struct Record {
    customer: Range<usize>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// `id` is a hash of the event id.
    Line {
        line: Range<usize>,
        at: Timestamp,
        id: Option<u64>,
    },
    About(usize),
}

/// One record of a batch as the store sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'b> {
    /// A chunk of one line, and when it was.
    Line(&'b [u8], Timestamp),
    About(&'b About),
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept.
    Accepted,
    /// It tells nothing new: of a customer the same is known, or a line with its event id is there
    /// already. One that says the same is not kept twice; one that
    /// says something else is kept, and the history step goes by the earliest.
    Duplicate,
    /// The customer was erased, and stays so.
    Erased,
    /// What is kept of the customer cannot be read, so nothing can be added to it.
    Damaged,
    /// It has an attribute of a new name, and the store knows [`super::MAX_NAMES`] already.
    TooManyNames,
}

impl Batch {
    /// Takes a line of a customer, whose rules found it to be of `at`.
    pub fn line(&mut self, customer: &str, raw: &RawEvent<'_>, at: Timestamp) {
        let customer = self.text(customer);
        let start = self.bytes.len();
        line::append(&mut self.bytes, &mut Tail::default(), raw);
        let line = start..self.bytes.len();
        let id = raw.event_id.filter(|id| !id.is_blank());
        let id = id.map(|id| hash(&id.text_in(&mut itoa::Buffer::new())));
        self.records.push(Record { customer, what: What::Line { line, at, id } });
    }

    /// Takes what is told of a customer besides events.
    pub fn about(&mut self, customer: &str, about: About) {
        let customer = self.text(customer);
        self.records.push(Record { customer, what: What::About(self.abouts.len()) });
        self.abouts.push(about);
    }

    /// Takes the records of another batch behind its own.
    pub fn extend(&mut self, other: Batch) {
        let (shift, abouts) = (self.bytes.len(), self.abouts.len());
        let moved = |range: Range<usize>| range.start + shift..range.end + shift;
        self.bytes.extend_from_slice(&other.bytes);
        self.records.extend(other.records.into_iter().map(|record| Record {
            customer: moved(record.customer),
            what: match record.what {
                What::Line { line, at, id } => What::Line { line: moved(line), at, id },
                What::About(index) => What::About(index + abouts),
            },
        }));
        self.abouts.extend(other.abouts);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Lets go of all records, but not of the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.abouts.clear();
    }

    /// The records' numbers by customer, those of a customer in the order in which they came.
    pub(super) fn by_customer(&self) -> Vec<usize> {
        let mut order: Vec<(Id<'_>, usize)> =
            (0..self.records.len()).map(|record| (Id::of(self.customer(record)), record)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, record)| record).collect()
    }

    /// The records of each customer among some that stand in an order of customers.
    pub(super) fn each_customer<'o>(
        &self,
        order: &'o [usize],
    ) -> impl Iterator<Item = &'o [usize]> {
        order.chunk_by(|&a, &b| self.key(a) == self.key(b))
    }

    /// Whom a record is of, to be compared.
    pub(super) fn key(&self, record: usize) -> &[u8] {
        &self.bytes[self.records[record].customer.clone()]
    }

    /// Whom a record is of.
    pub(super) fn customer(&self, record: usize) -> &str {
        // It was a text when it was put there.
        std::str::from_utf8(self.key(record)).unwrap_or_default()
    }

    pub(super) fn record(&self, record: usize) -> Seen<'_> {
        match &self.records[record].what {
            What::Line { line, at, .. } => Seen::Line(&self.bytes[line.clone()], *at),
            What::About(index) => Seen::About(&self.abouts[*index]),
        }
    }

    /// Whether a record is a line.
    pub(super) fn is_line(&self, record: usize) -> bool {
        matches!(self.records[record].what, What::Line { .. })
    }

    /// A hash of a line's event id; `None` where it has none, or the record is no line.
    pub(super) fn id_hash(&self, record: usize) -> Option<u64> {
        match self.records[record].what {
            What::Line { id, .. } => id,
            What::About(_) => None,
        }
    }

    fn text(&mut self, text: &str) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        start..self.bytes.len()
    }
}
