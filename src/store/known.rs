//! Who and what is surely new, without a look at the customers' records.
//!
//! An event that has an id must be compared with all of its customer's, which costs a page for each of
//! many customers. Where many come for one range of customers, all that is there of the range is read
//! once and remembered: who is there, and the event ids in a Bloom filter, whose bits of one id lie in
//! one line of the processor's cache (Putze, Sanders and Singler 2007). What is not in it is new. What
//! is may be, and is looked at.

use super::batch::Batch;
use super::guard::guarded;
use super::line::each_event_id;
use super::sifting::Sifted;
use super::waiting::{Incoming, Ranges};
use super::{Snapshot, StoreError};
use habitus_engine::domain::hash;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::ops::Bound;

/// Bits of an id that are set, of those of a block.
const BITS: u32 = 4;
const WORDS: usize = 8;

/// Bits of memory for an id, which leave one in some thirty that are new to be looked at. Where there is
/// less memory there are fewer: with three, one in three is.
const BITS_PER_ID: u64 = 7;
const FEWEST_BITS: u64 = 3;

/// Room for ids to come, as a part of those that are there.
const ROOM: usize = 4;

/// What is taken to remember that a customer is there.
const CUSTOMER_BYTES: usize = size_of::<u64>();

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
    /// What may be taken for all that is known.
    most_bytes: usize,
}

/// What is known of one range.
#[derive(Debug)]
pub(super) struct KnownRange {
    /// The first id after the range.
    end: Option<Box<str>>,
    /// Hashes of the customers who were there when the range was read, in order.
    customers: Vec<u64>,
    /// The same of those who came since.
    newer: HashSet<u64, BuildHasherDefault<Hashed>>,
    /// A filter, and further ones for what came since it was full (Almeida, Baquero, Preguiça and Hutchison
    /// 2007). Where there is no memory for another, the last one takes more than it should.
    filters: Vec<Filter>,
}

/// Event ids of which it can be said that they are not there.
#[derive(Debug)]
struct Filter {
    blocks: Vec<[u64; WORDS]>,
    /// Ids that may still come before too many look alike.
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

    /// A hash of a customer that nobody can foresee.
    pub fn hash_of(&self, customer: &str) -> u64 {
        self.keys.hash_one(customer)
    }

    /// The range in which a customer is known, if they are, where the last one looked at was this.
    pub fn around<'k>(
        &'k self,
        customer: &str,
        last: Option<&'k KnownRange>,
    ) -> Option<&'k KnownRange> {
        let holds = |range: &&KnownRange| range.end.as_deref().is_none_or(|end| customer < end);
        let found = || self.ranges.range::<str, _>(until(customer)).next_back().map(|(_, it)| it);
        // Customers come in their order, so that no later range begins before them unless this ends.
        last.filter(holds).or_else(|| found().filter(holds))
    }

    /// Notes what a commit made of the records of a batch. `newcomers` has a record of each customer who was
    /// not there before.
    pub fn note(
        &mut self,
        batch: &Batch,
        incoming: &Incoming,
        ranges: &Ranges,
        sifted: &Sifted,
        newcomers: &[usize],
    ) {
        for (at, places) in &incoming.records {
            let (first, end) = ranges.bounds(*at);
            if self.of((first, end)).is_none() {
                // Where ranges were joined, something is known of a part, which misses what came.
                self.forget_all(first, end);
                let looks = self.looks.entry(first.into()).or_default();
                let records = sifted.order[places.clone()].iter();
                let n_lines = records.filter(|&&record| batch.is_line(record)).count();
                *looks = looks.saturating_add(n_lines as u64);
            } else if let Some((_, known)) =
                self.ranges.range_mut::<str, _>(until(first)).next_back()
            {
                // Of what was not accepted too: it may be there, and whoever is unsure looks.
                sifted.hashes(places).flatten().for_each(|hash| known.add(hash));
            }
        }
        for customer in newcomers.iter().map(|&record| batch.customer(record)) {
            let hash = self.keys.hash_one(customer);
            if let Some((_, known)) = self.ranges.range_mut::<str, _>(until(customer)).next_back() {
                known.newer.insert(hash);
            }
        }
        let is_full = |known: &KnownRange| known.filters.last().is_some_and(|last| last.room == 0);
        if self.ranges.values().any(is_full) {
            let mut bytes = self.bytes();
            for known in self.ranges.values_mut().filter(|known| is_full(known)) {
                if bytes < self.most_bytes {
                    bytes += known.grow();
                }
            }
        }
    }

    /// Lets go of somebody who was erased.
    pub fn forget(&mut self, customer: &str) {
        let hash = self.keys.hash_one(customer);
        if let Some((_, known)) = self.ranges.range_mut::<str, _>(until(customer)).next_back() {
            let customer = hash;
            known.newer.remove(&customer);
            if let Ok(at) = known.customers.binary_search(&customer) {
                known.customers.remove(at);
            }
        }
        // It may be they who could not be read.
        self.unknowable.clear();
    }

    /// Reads ranges of which many were looked at, as long as no more bytes are taken. One that cannot be
    /// read, or is too large, stays unknown.
    pub fn learn(&mut self, snapshot: &Snapshot, most_bytes: usize) {
        let ranges = snapshot.ranges();
        let n_customers = usize::try_from(snapshot.n_customers()).unwrap_or(usize::MAX);
        let for_ids = most_bytes.saturating_sub(CUSTOMER_BYTES.saturating_mul(n_customers)) as u64;
        let n_ids = (snapshot.n_lines() + snapshot.n_lines() / ROOM as u64).max(1);
        let bits = (8 * for_ids / n_ids).clamp(FEWEST_BITS, BITS_PER_ID);
        let n_lines = snapshot.n_lines() / ranges.len() as u64;
        let enough = n_lines / PART_LOOKED_AT;
        self.most_bytes = most_bytes;
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
            match guarded(|| KnownRange::read(&self.keys, snapshot, bounds, most_ids, bits)) {
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

    /// What it takes.
    pub fn bytes(&self) -> usize {
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
        bits: u64,
    ) -> Result<Option<KnownRange>, StoreError> {
        let (mut customers, mut ids, mut n_bytes) = (Vec::new(), Vec::new(), 0);
        for one in snapshot.everybody(Bound::Included(first))? {
            let one = one?;
            if end.is_some_and(|end| *one.id >= *end) {
                break;
            }
            let customer = keys.hash_one(&*one.id);
            customers.push(customer);
            snapshot.each_chunk(&one.held()?, |chunk| {
                n_bytes += chunk.len();
                let gathered =
                    each_event_id(chunk, |_, id| ids.push(of_customer(customer, hash(id))));
                gathered.map_err(|_| super::damaged_record(&one.id))
            })?;
            let is_too_large = ids.len() > most_ids || n_bytes > most_ids * BYTES_AN_ID;
            if is_too_large || customers.len() as u64 > AT_ONCE {
                return Ok(None);
            }
        }
        let mut filter = Filter::new(ids.len(), ids.len() / ROOM + 1_000, bits);
        ids.into_iter().for_each(|id| filter.set(id));
        customers.sort_unstable();
        customers.shrink_to_fit();
        let (end, newer, filters) = (end.map(Box::from), HashSet::default(), vec![filter]);
        Ok(Some(KnownRange { end, customers, newer, filters }))
    }

    /// Whether there is somebody with this hash.
    pub fn has(&self, customer: u64) -> bool {
        self.customers.binary_search(&customer).is_ok() || self.newer.contains(&customer)
    }

    /// Whether a line with the event id of this hash may have been there before.
    pub fn may_have(&self, hash: u64) -> bool {
        self.filters.iter().any(|filter| filter.may_have(hash))
    }

    fn add(&mut self, hash: u64) {
        if let Some(last) = self.filters.last_mut() {
            last.room = last.room.saturating_sub(1);
            last.set(hash);
        }
    }

    /// Makes room for more ids, and tells what it takes.
    fn grow(&mut self) -> usize {
        let n_ids: usize = self.filters.iter().map(Filter::most).sum();
        let filter = Filter::new(0, n_ids / ROOM + 1_000, BITS_PER_ID);
        let bytes = filter.bytes();
        self.filters.push(filter);
        bytes
    }

    fn bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 9;
        let filters: usize = self.filters.iter().map(Filter::bytes).sum();
        let newer = self.newer.capacity() * 8 / 7 * ENTRY_BYTES;
        CUSTOMER_BYTES * self.customers.len() + newer + filters
    }
}

impl Filter {
    /// For so many ids, and room for others.
    fn new(n_ids: usize, room: usize, bits_per_id: u64) -> Filter {
        let n_blocks = (n_ids + room) * bits_per_id as usize / (64 * WORDS) + 1;
        Filter { blocks: vec![[0; WORDS]; n_blocks], room }
    }

    fn may_have(&self, hash: u64) -> bool {
        let (block, bits) = self.place(hash);
        self.blocks[block].iter().zip(bits).all(|(word, bits)| word & bits == bits)
    }

    fn set(&mut self, hash: u64) {
        let (block, bits) = self.place(hash);
        self.blocks[block].iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
    }

    /// The block of an id, and its bits there.
    fn place(&self, hash: u64) -> (usize, [u64; WORDS]) {
        // The high half chooses the block, and nine bits of the others each of an id's.
        let block = (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize;
        let mut bits = [0; WORDS];
        for number in 0..BITS {
            let at = (hash >> (9 * number)) as usize % (64 * WORDS);
            bits[at / 64] |= 1 << (at % 64);
        }
        (block, bits)
    }

    /// About how many ids it is for.
    fn most(&self) -> usize {
        self.blocks.len() * 64 * WORDS / BITS_PER_ID as usize
    }

    fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.blocks)
    }
}

fn until(id: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Unbounded, Bound::Included(id))
}

/// A number for an event id of a customer, of a hash of each.
pub(super) fn of_customer(customer: u64, id: u64) -> u64 {
    (customer ^ id.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
