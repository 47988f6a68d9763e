//! Who and what is surely new, without a look at the customers' records.
//!
//! An event that has an id must be compared with all of its customer's, which costs a page for each of
//! many customers. Where many come for one range of customers, all that is there of the range is read
//! once and remembered: who is there, and the event ids in a Bloom filter, whose bits of one id lie in
//! one line of the processor's cache (Putze, Sanders and Singler 2007). What is not in it is new. What
//! is may be, and is looked at.

use super::batch::{Batch, Outcome, Seen};
use super::guard::guarded;
use super::line::EventIds;
use super::waiting::{Incoming, Ranges};
use super::{Snapshot, StoreError};
use habitus_engine::domain::{RawValue, hash};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::ops::Bound;

/// Bits of an id that are set, of those of a block.
const BITS: u32 = 4;
const WORDS: usize = 8;

/// Bits of memory for an id, which leave one in some thirty that are new to be looked at.
const BITS_PER_ID: usize = 7;

/// Room for ids to come, as a part of those that are there.
const ROOM: usize = 4;

/// A range is read when so large a part of its lines were looked at: reading all of them in a row costs
/// as much less.
const PART_LOOKED_AT: u64 = 64;

/// Lines or customers that are read at one commit, which waits for it, but for the last range of them.
/// One with more customers is not read.
const AT_ONCE: u64 = 200_000;

/// Bytes of lines that are read, at most, for each id that there is room for: those without ids take time
/// too.
const BYTES_AN_ID: usize = 64;

/// What is known of ranges of customers.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Ids are chosen by others, who must not know which of them look alike.
    keys: RandomState,
    /// By the first id.
    ranges: BTreeMap<Box<str>, KnownRange>,
    /// How often somebody of a range was looked at that is not known; by the first id.
    looks: BTreeMap<Box<str>, u64>,
    /// Ranges that cannot be read or are too large, with the first ids after them.
    unknowable: BTreeMap<Box<str>, Option<Box<str>>>,
}

/// What is known of one range.
#[derive(Debug)]
pub(super) struct KnownRange {
    keys: RandomState,
    /// The first id after the range.
    end: Option<Box<str>>,
    /// Hashes of all customers.
    customers: HashSet<u64, BuildHasherDefault<Hashed>>,
    ids: Vec<[u64; WORDS]>,
    /// Ids and customers that may still come before too many look alike, or take too much.
    room: usize,
}

/// A number that is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Known {
    /// What is known of a range, if all of it is.
    pub fn of(&self, (first, end): (&str, Option<&str>)) -> Option<&KnownRange> {
        let (_, found) = self.ranges.range::<str, _>(until(first)).next_back()?;
        let is_whole = match (&found.end, end) {
            (None, _) => true,
            (Some(known), Some(end)) => **known >= *end,
            (Some(_), None) => false,
        };
        is_whole.then_some(found)
    }

    /// Notes what a commit made of the records of a batch.
    pub fn note(
        &mut self,
        batch: &Batch,
        order: &[usize],
        incoming: &Incoming,
        ranges: &Ranges,
        outcomes: &[Outcome],
    ) {
        for (at, places) in &incoming.records {
            let records = &order[places.clone()];
            let (first, end) = ranges.bounds(*at);
            if self.of((first, end)).is_none() {
                // Where ranges were joined, something is known of a part, which misses what came.
                self.forget_all(first, end);
                let is_line = |&&record: &&usize| matches!(batch.record(record), Seen::Line(..));
                let looks = self.looks.entry(first.into()).or_default();
                *looks = looks.saturating_add(records.iter().filter(is_line).count() as u64);
                continue;
            }
            let Some((_, known)) = self.ranges.range_mut::<str, _>(until(first)).next_back() else {
                continue;
            };
            for &record in records {
                if matches!(outcomes[record], Outcome::Accepted | Outcome::Duplicate) {
                    let customer = known.keys.hash_one(batch.customer(record));
                    let is_new = known.customers.insert(customer);
                    known.room = known.room.saturating_sub(usize::from(is_new));
                    if let Seen::Line(line, _) = batch.record(record) {
                        EventIds::new(line).flatten().for_each(|(_, id)| known.add(customer, id));
                    }
                }
            }
        }
        // Of one that is too full too much looks alike. It is read again where that pays.
        self.ranges.retain(|_, known| known.room > 0);
    }

    /// Lets go of somebody who was erased.
    pub fn forget(&mut self, customer: &str) {
        if let Some((_, known)) = self.ranges.range_mut::<str, _>(until(customer)).next_back() {
            known.customers.remove(&known.keys.hash_one(customer));
        }
        // It may be they who could not be read.
        self.unknowable.clear();
    }

    /// Reads ranges of which many were looked at, as long as no more bytes are taken. One that cannot be
    /// read, or is too large, stays unknown.
    pub fn learn(&mut self, snapshot: &Snapshot, most_bytes: usize) {
        let ranges = snapshot.ranges();
        let n_lines = snapshot.n_lines() / ranges.len() as u64;
        let enough = n_lines / PART_LOOKED_AT;
        // While a range is read its ids are in memory.
        let most_ids = most_bytes / 4 / size_of::<u64>();
        if self.looks.len() + self.unknowable.len() > 4 * ranges.len() {
            // Of ranges that are no more.
            self.looks.retain(|first, _| ranges.bounds_from(first).is_some());
            self.unknowable.retain(|first, _| ranges.bounds_from(first).is_some());
        }
        let mut n_read = 0;
        while n_read < AT_ONCE {
            let most = self.looks.iter().max_by_key(|(_, looks)| **looks);
            let Some((first, &looks)) = most else { return };
            if looks <= enough || self.bytes() > most_bytes {
                return;
            }
            let first = first.clone();
            self.looks.remove(&first);
            // Ranges may have been joined since.
            let Some(bounds) = ranges.bounds_from(&first) else { continue };
            let end: Option<Box<str>> = bounds.1.map(Box::from);
            if self.unknowable.get(&first).is_some_and(|before| *before == end) {
                continue;
            }
            match guarded(|| KnownRange::read(&self.keys, snapshot, bounds, most_ids)) {
                Ok(Some(known)) => {
                    n_read += n_lines.max(known.customers.len() as u64);
                    self.forget_all(bounds.0, bounds.1);
                    self.unknowable.remove(&first);
                    self.ranges.insert(first, known);
                }
                Ok(None) | Err(_) => {
                    n_read += AT_ONCE;
                    self.unknowable.insert(first, end);
                }
            }
        }
    }

    /// Lets go of what is known of any part of a range.
    fn forget_all(&mut self, first: &str, end: Option<&str>) {
        let from = self.ranges.range::<str, _>(until(first)).next_back();
        let from = from.map_or_else(|| first.into(), |(first, _)| first.clone());
        let begins_before = |other: &str| end.is_none_or(|end| other < end);
        let ends_behind = |known: &KnownRange| known.end.as_deref().is_none_or(|end| end > first);
        let gone: Vec<Box<str>> = self
            .ranges
            .range::<str, _>((Bound::Included(&*from), Bound::Unbounded))
            .take_while(|(other, _)| begins_before(other))
            .filter(|(_, known)| ends_behind(known))
            .map(|(other, _)| other.clone())
            .collect();
        gone.iter().for_each(|other| drop(self.ranges.remove(other)));
    }

    /// How many ranges are known.
    #[cfg(test)]
    pub fn n_ranges(&self) -> usize {
        self.ranges.len()
    }

    fn bytes(&self) -> usize {
        self.ranges.values().map(KnownRange::bytes).sum()
    }
}

impl KnownRange {
    /// Of all customers of a range; `None` where there are more ids than these, or too many customers.
    fn read(
        keys: &RandomState,
        snapshot: &Snapshot,
        (first, end): (&str, Option<&str>),
        most_ids: usize,
    ) -> Result<Option<KnownRange>, StoreError> {
        let (mut customers, mut ids, mut n_bytes) = (HashSet::default(), Vec::new(), 0);
        for one in snapshot.everybody(Bound::Included(first))? {
            let one = one?;
            if end.is_some_and(|end| *one.id >= *end) {
                break;
            }
            let customer = keys.hash_one(&*one.id);
            customers.insert(customer);
            snapshot.each_chunk(&one.held()?, |chunk| {
                n_bytes += chunk.len();
                for id in EventIds::new(chunk) {
                    let (_, id) = id.map_err(|_| super::damaged_record(&one.id))?;
                    ids.push(id_hash(customer, id));
                }
                Ok(())
            })?;
            let is_too_large = ids.len() > most_ids || n_bytes > most_ids * BYTES_AN_ID;
            if is_too_large || customers.len() as u64 > AT_ONCE {
                return Ok(None);
            }
        }
        let room = (ids.len() + customers.len()) / ROOM + 1_000;
        let n_blocks = (ids.len() + room) * BITS_PER_ID / (64 * WORDS) + 1;
        let end = end.map(Box::from);
        let blocks = vec![[0; WORDS]; n_blocks];
        let mut known = KnownRange { keys: keys.clone(), end, customers, ids: blocks, room };
        ids.into_iter().for_each(|id| known.set(id));
        Ok(Some(known))
    }

    /// Whether there is somebody.
    pub fn has(&self, customer: &str) -> bool {
        self.customers.contains(&self.keys.hash_one(customer))
    }

    /// Whether a line with this event id may have been there before.
    pub fn may_have(&self, customer: &str, id: RawValue<'_>) -> bool {
        let (block, bits) = self.place(id_hash(self.keys.hash_one(customer), id));
        self.ids[block].iter().zip(bits).all(|(word, bits)| word & bits == bits)
    }

    fn add(&mut self, customer: u64, id: RawValue<'_>) {
        self.room = self.room.saturating_sub(1);
        self.set(id_hash(customer, id));
    }

    fn set(&mut self, hash: u64) {
        let (block, bits) = self.place(hash);
        self.ids[block].iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
    }

    /// The block of an id, and its bits there.
    fn place(&self, hash: u64) -> (usize, [u64; WORDS]) {
        // The high half chooses the block, and nine bits of the others each of an id's.
        let block = (((hash >> 32) * self.ids.len() as u64) >> 32) as usize;
        let mut bits = [0; WORDS];
        for number in 0..BITS {
            let at = (hash >> (9 * number)) as usize % (64 * WORDS);
            bits[at / 64] |= 1 << (at % 64);
        }
        (block, bits)
    }

    fn bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 9;
        self.customers.capacity() * 8 / 7 * ENTRY_BYTES + std::mem::size_of_val(&*self.ids)
    }
}

fn until(id: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Unbounded, Bound::Included(id))
}

/// A number for an event id of a customer.
fn id_hash(customer: u64, id: RawValue<'_>) -> u64 {
    let text = hash(&id.text_in(&mut itoa::Buffer::new()));
    (customer ^ text.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
