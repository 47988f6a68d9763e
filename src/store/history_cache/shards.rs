//! Bytes under hashes, in so many bytes of memory and no more.
//!
//! What is kept stands in segments as it came, one behind the other, so that it takes its bytes, twelve
//! more and a place in an index. When all segments are full, the oldest is cleared for what comes:
//! whatever in it was asked for again moves to its front, up to a half of it, and the rest is let go of.
//! (Yang, Yue and Rashmi: Segcache, NSDI 2021.) Segments are asked of the system and not of an allocator,
//! so that it has them back at once where there are to be fewer.

use hashbrown::HashTable;
use memmap2::MmapMut;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a segment, at most. Nothing longer is kept.
const SEGMENT_BYTES: usize = 128 << 10;

/// Segments of a shard that has all that it may.
const USUAL_SEGMENTS: usize = 18;

/// The part of a shard, one of so many, that its index may take, and what a place in that takes.
const INDEX_PART: usize = 8;
const PLACE_BYTES: usize = 5;

/// Bytes of a shard, as far as there are so many. Shards do not wait for each other, and of as many bytes
/// each has an index of just the part that it may take.
const SHARD_BYTES: usize = USUAL_SEGMENTS * SEGMENT_BYTES + (PLACE_BYTES << 16);

/// The hash and the length in front of an entry.
const HEAD_BYTES: usize = 12;

/// The bit of the length that says that an entry was asked for since it came or was last moved.
const ASKED: u32 = 1 << 31;

/// The bytes of every hash, in parts by the hash.
pub(super) struct Shards {
    shards: Box<[Mutex<Shard>]>,
    /// Segments of all shards, at most.
    n_segments: AtomicUsize,
}

impl Shards {
    /// Empty ones, which may take at most this many bytes.
    pub fn new(bytes: usize) -> Shards {
        let n_shards = (bytes / SHARD_BYTES).max(1);
        let shards = (0..n_shards).map(|_| Mutex::new(Shard::new(bytes / n_shards))).collect();
        let shards = Shards { shards, n_segments: AtomicUsize::new(0) };
        shards.allow(bytes);
        shards
    }

    /// From now on they take at most this many bytes, which are no more than they were made for.
    pub fn allow(&self, bytes: usize) {
        let Some(first) = self.shards.first().map(locked) else { return };
        let index_bytes = first.most_places * PLACE_BYTES / USUAL_SEGMENTS;
        let n_segments = bytes / (first.segment_bytes + index_bytes);
        drop(first);
        if self.n_segments.swap(n_segments, Ordering::Relaxed) == n_segments {
            return;
        }
        let (each, rest) = (n_segments / self.shards.len(), n_segments % self.shards.len());
        for (number, shard) in self.shards.iter().enumerate() {
            locked(shard).allow(each + usize::from(number < rest));
        }
    }

    /// A copy of what is kept under a hash.
    pub fn get(&self, hash: u64) -> Option<Vec<u8>> {
        self.shard(hash).get(hash)
    }

    /// Keeps bytes under a hash, instead of what was there. Others may have to go, and what is too long
    /// is not kept.
    pub fn insert(&self, hash: u64, bytes: &[u8]) {
        self.shard(hash).insert(hash, bytes);
    }

    /// Lets go of what is kept under a hash, and overwrites it.
    pub fn remove(&self, hash: u64) {
        self.shard(hash).remove(hash);
    }

    /// How much is kept, and how many bytes that takes.
    pub fn counts(&self) -> (u64, u64) {
        let counts = self.shards.iter().map(|shard| {
            let shard = locked(shard);
            (shard.index.len() as u64, shard.kept_bytes as u64)
        });
        counts.fold((0, 0), |sums, each| (sums.0 + each.0, sums.1 + each.1))
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The index of a shard uses the lowest bits and the highest.
        let part = u64::from((hash >> 16) as u32);
        let shard = (part * self.shards.len() as u64) >> u32::BITS;
        locked(&self.shards[shard as usize])
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(|poisoned| {
        // Whoever panicked may have left half of a change.
        let mut guard = PoisonError::into_inner(poisoned);
        guard.clear();
        shard.clear_poison();
        guard
    })
}

struct Shard {
    /// Where each entry begins.
    index: HashTable<Place>,
    /// Places that the index has at most. Half of them are for entries, so that it puts itself in order in
    /// the memory that it has.
    most_places: usize,
    /// Entries that there may be beside so many segments.
    most_entries: usize,
    /// By their numbers.
    segments: Vec<Segment>,
    /// The numbers of those that there are, the oldest first. The last is being filled.
    ages: VecDeque<usize>,
    segment_bytes: usize,
    n_segments: usize,
    kept_bytes: usize,
}

/// Entries one behind the other.
#[derive(Default)]
struct Segment {
    memory: Option<MmapMut>,
    n_filled: usize,
}

impl Segment {
    fn filled(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.n_filled])
    }

    fn all(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory[..])
    }

    /// Appends bytes for which there is room.
    fn append(&mut self, bytes: &[u8]) {
        let end = self.n_filled + bytes.len();
        let start = std::mem::replace(&mut self.n_filled, end);
        self.all()[start..end].copy_from_slice(bytes);
    }
}

/// The number of a segment, and where in it an entry begins, in bits enough for that.
type Place = u32;

const OFFSET_BITS: u32 = SEGMENT_BYTES.ilog2();

fn place(segment: usize, offset: usize) -> Place {
    (segment << OFFSET_BITS | offset) as Place
}

fn number_of(place: Place) -> usize {
    (place >> OFFSET_BITS) as usize
}

fn offset_of(place: Place) -> usize {
    place as usize & (SEGMENT_BYTES - 1)
}

fn entry(segments: &[Segment], place: Place) -> Entry<'_> {
    Entry::at(segments[number_of(place)].filled(), offset_of(place))
}

/// What stands in a segment.
struct Entry<'s> {
    hash: u64,
    was_asked: bool,
    bytes: &'s [u8],
}

impl Entry<'_> {
    fn at(segment: &[u8], offset: usize) -> Entry<'_> {
        let (head, rest) = segment[offset..].split_at(HEAD_BYTES);
        let (hash, length) = head.split_at(8);
        let hash = u64::from_le_bytes(hash.try_into().unwrap_or_default());
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
        Entry { hash, was_asked: length & ASKED != 0, bytes: &rest[..(length & !ASKED) as usize] }
    }

    /// What it takes.
    fn length(&self) -> usize {
        HEAD_BYTES + self.bytes.len()
    }
}

impl Shard {
    /// One without segments.
    fn new(bytes: usize) -> Shard {
        Shard {
            index: HashTable::new(),
            most_places: 1 << (bytes / INDEX_PART / PLACE_BYTES).max(8).ilog2(),
            most_entries: 0,
            segments: Vec::new(),
            ages: VecDeque::new(),
            segment_bytes: (bytes / USUAL_SEGMENTS).clamp(1, SEGMENT_BYTES),
            n_segments: 0,
            kept_bytes: 0,
        }
    }

    fn clear(&mut self) {
        self.index.clear();
        self.segments.clear();
        self.ages.clear();
        self.kept_bytes = 0;
    }

    /// From now on there are at most so many segments.
    fn allow(&mut self, n_segments: usize) {
        self.n_segments = n_segments.min(1 << (Place::BITS - OFFSET_BITS));
        self.most_entries = self.most_places / 16 * 7 * self.n_segments / USUAL_SEGMENTS;
        let n_before = self.ages.len();
        while self.ages.len() > self.n_segments
            && let Some(oldest) = self.ages.pop_front()
        {
            self.sift(oldest, 0);
            self.segments[oldest].memory = None;
        }
        let Shard { index, segments, .. } = self;
        if self.ages.len() < n_before && index.len() < index.capacity() / 4 {
            index.shrink_to(2 * index.len(), |&place| entry(segments, place).hash);
        }
    }

    fn get(&mut self, hash: u64) -> Option<Vec<u8>> {
        let Shard { index, segments, .. } = self;
        let &place = index.find(hash, |&place| entry(segments, place).hash == hash)?;
        let found = entry(segments, place);
        let (bytes, was_asked) = (found.bytes.to_vec(), found.was_asked);
        if !was_asked {
            self.mark(place, bytes.len() as u32 | ASKED);
        }
        Some(bytes)
    }

    /// Writes the length of an entry, and whether it was asked for.
    fn mark(&mut self, place: Place, length: u32) {
        let end = offset_of(place) + HEAD_BYTES;
        let segment = self.segments[number_of(place)].all();
        segment[end - size_of::<u32>()..end].copy_from_slice(&length.to_le_bytes());
    }

    fn remove(&mut self, hash: u64) {
        let Shard { index, segments, kept_bytes, .. } = self;
        let is_it = |&place: &Place| entry(segments, place).hash == hash;
        let Ok(found) = index.find_entry(hash, is_it) else { return };
        let (place, _) = found.remove();
        let length = entry(segments, place).length();
        let start = offset_of(place);
        segments[number_of(place)].all()[start + HEAD_BYTES..start + length].fill(0);
        *kept_bytes -= length;
    }

    fn insert(&mut self, hash: u64, bytes: &[u8]) {
        self.remove(hash);
        let length = HEAD_BYTES + bytes.len();
        if length > self.segment_bytes || self.most_entries == 0 {
            return;
        }
        let number = loop {
            let last = self.ages.back().copied();
            let has_room =
                |&last: &usize| self.segments[last].n_filled + length <= self.segment_bytes;
            match last.filter(has_room) {
                Some(last) if self.index.len() < self.most_entries => break last,
                _ => {}
            }
            if !self.make_room(length) {
                return;
            }
        };
        let Shard { index, segments, .. } = self;
        let at = place(number, segments[number].n_filled);
        segments[number].append(&hash.to_le_bytes());
        segments[number].append(&(bytes.len() as u32).to_le_bytes());
        segments[number].append(bytes);
        index.insert_unique(hash, at, |&place| entry(segments, place).hash);
        self.kept_bytes += length;
    }

    /// Begins a segment that has room for so many bytes: another one, or else the oldest, cleared. Tells
    /// whether there is one.
    fn make_room(&mut self, length: usize) -> bool {
        if self.ages.len() < self.n_segments
            && self.index.len() < self.most_entries
            && let Ok(memory) = MmapMut::map_anon(self.segment_bytes)
        {
            let free = self.segments.iter().position(|segment| segment.memory.is_none());
            let number = free.unwrap_or(self.segments.len());
            if free.is_none() {
                self.segments.push(Segment::default());
            }
            self.segments[number].memory = Some(memory);
            self.ages.push_back(number);
            return true;
        }
        let Some(oldest) = self.ages.pop_front() else { return false };
        self.sift(oldest, (self.segment_bytes / 2).min(self.segment_bytes - length));
        self.ages.push_back(oldest);
        true
    }

    /// Lets go of what is in a segment, but for what was asked for, up to so many bytes, which moves to its
    /// front.
    fn sift(&mut self, number: usize, most_kept: usize) {
        let (mut from, mut to) = (0, 0);
        while from < self.segments[number].n_filled {
            let found = Entry::at(self.segments[number].filled(), from);
            let (hash, was_asked, length) = (found.hash, found.was_asked, found.length());
            let (old, new) = (place(number, from), place(number, to));
            if was_asked && to + length <= most_kept {
                if let Some(place) = self.index.find_mut(hash, |&place| place == old) {
                    *place = new;
                    self.segments[number].all().copy_within(from..from + length, to);
                    self.mark(new, (length - HEAD_BYTES) as u32);
                    to += length;
                }
            } else if let Ok(found) = self.index.find_entry(hash, |&place| place == old) {
                found.remove();
                self.kept_bytes -= length;
            }
            from += length;
        }
        // Nobody who is erased later is to be left behind here.
        self.segments[number].all()[to..from].fill(0);
        self.segments[number].n_filled = to;
    }
}
