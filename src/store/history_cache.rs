//! Histories that answers were computed from, kept in memory as they were shaped, so that the next
//! answer about the same customer neither reads nor shapes them again.
//!
//! Nothing is ever changed in it: a commit only notes by which sequence it changed a customer, and
//! what was kept from an earlier one is passed over from then on. So a reader of an older snapshot,
//! who may still put in what was true for it, does no harm.

use super::about::About;
use crate::ingest::bytes::{put_number, put_text, take_number, take_text};
use crate::ingest::codec;
use habitus_engine::domain::{CustomerId, Event, EventRules, History, Timestamp, hash, sha256};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// About what a history takes, of which most have a few dozen events.
const USUAL_BYTES: usize = 512;

/// Places in the tables by the hash of a customer, which are there from the start, at most.
const MOST_PLACES: usize = 1 << 24;

/// What an entry takes beside its bytes: its place in the cache, the counts of owners and what the
/// allocator rounds up.
const ENTRY_BYTES: usize = 112;

/// By what lines become histories: the event rules, and the instant before which events are not used.
#[derive(Debug, Clone, Copy)]
pub struct Shaping<'r> {
    pub rules: &'r EventRules,
    /// Tells the rules from others; [`Shaping::tag_of`] them.
    pub tag: u64,
    pub kept_from: Option<Timestamp>,
}

impl Shaping<'_> {
    /// A number that no other rules have.
    pub fn tag_of(rules: &EventRules) -> u64 {
        // Neither can fail: every version has its rules as such text, and a digest is of such digits.
        let text = serde_json::to_vec(rules).unwrap_or_default();
        let digest = sha256(&text);
        u64::from_str_radix(&digest[..16], 16).unwrap_or_default()
    }
}

/// Histories by the hash of the customer's id, at most so many bytes of them. Each tells whose it is,
/// so that two customers of one hash are only in each other's way.
pub(super) struct HistoryCache {
    entries: Cache<u64, Packed, Weigh>,
    /// The sequence by which a customer was last changed. Customers share places by chance, and then
    /// count as changed together.
    changed: Box<[AtomicU64]>,
    /// Who was asked for and is not here, by half of the hash. A history is kept when it is asked for
    /// again soon, so that whoever asks for everybody once does not drive out those who come back.
    asked: Box<[AtomicU32]>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How often a history was found, and how much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
    pub histories: u64,
    pub bytes: u64,
}

impl HistoryCache {
    /// An empty one that will take about this many bytes; `None` where nothing is to be kept.
    pub fn new(bytes: usize) -> Option<HistoryCache> {
        let n_usual = (bytes / USUAL_BYTES).min(MOST_PLACES);
        let n_places = n_usual.next_power_of_two();
        (n_usual > 0).then(|| HistoryCache {
            entries: Cache::with_weighter(n_usual, bytes as u64, Weigh),
            changed: (0..n_places).map(|_| AtomicU64::new(0)).collect(),
            asked: (0..2 * n_places).map(|_| AtomicU32::new(0)).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// The history that a snapshot of this sequence holds of a customer, where it is known here.
    /// `names` are the snapshot's names of attributes.
    pub fn get(
        &self,
        customer: &str,
        sequence: u64,
        shaping: &Shaping<'_>,
        names: &Arc<[String]>,
    ) -> Option<History> {
        let hash = hash(customer);
        let packed = self.entries.get(&hash);
        let last_change = self.place(hash).load(Ordering::SeqCst);
        let history = packed
            .and_then(|packed| unpacked(&packed, customer, last_change..=sequence, shaping, names));
        if history.is_some() {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        history
    }

    /// Keeps a history that was not found here and so read from a snapshot of this sequence, and the
    /// bytes of what is told of the customer besides, if it is not the first time.
    pub fn keep(
        &self,
        history: &History,
        about: Option<&[u8]>,
        sequence: u64,
        shaping: &Shaping<'_>,
    ) {
        self.misses.fetch_add(1, Ordering::Relaxed);
        // What such a history looks like depends on more than its events.
        if history.has_spread_orders() {
            return;
        }
        let hash = hash(history.customer().as_str());
        let is_old = || self.place(hash).load(Ordering::SeqCst) > sequence;
        if !self.was_asked(hash) || is_old() {
            return;
        }
        self.entries.insert(hash, packed(history, about, sequence, shaping));
        // Whoever was erased after the first look was let go of before this was put in.
        if is_old() {
            self.entries.remove(&hash);
        }
    }

    /// Notes that a customer is another from this sequence on. It is called before any reader can
    /// have a snapshot of it.
    pub fn changed(&self, customer: &str, sequence: u64) {
        self.place(hash(customer)).fetch_max(sequence, Ordering::SeqCst);
    }

    /// Lets go of a customer, whose change was noted.
    pub fn forget(&self, customer: &str) {
        self.entries.remove(&hash(customer));
    }

    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            histories: self.entries.len() as u64,
            bytes: self.entries.weight(),
        }
    }

    /// Whether nobody else of the same place was asked for since the last time.
    fn was_asked(&self, hash: u64) -> bool {
        let half = (hash >> 32) as u32;
        self.asked[hash as usize & (self.asked.len() - 1)].swap(half, Ordering::Relaxed) == half
    }

    fn place(&self, hash: u64) -> &AtomicU64 {
        &self.changed[hash as usize & (self.changed.len() - 1)]
    }
}

/// A history in one piece of memory: by what it was shaped, whose it is, what is told of the customer
/// besides as the store keeps it, since the names that it is read by may grow, and its events without
/// the ids that only the shaping needs.
type Packed = Arc<[u8]>;

#[derive(Debug, Clone)]
struct Weigh;

impl Weighter<u64, Packed> for Weigh {
    fn weight(&self, _: &u64, packed: &Packed) -> u64 {
        (ENTRY_BYTES + packed.len()) as u64
    }
}

fn packed(history: &History, about: Option<&[u8]>, sequence: u64, shaping: &Shaping<'_>) -> Packed {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.extend_from_slice(&shaping.tag.to_le_bytes());
    put_text(&mut bytes, history.customer().as_str());
    put_number(&mut bytes, sequence as i64);
    put_number(&mut bytes, since(shaping));
    put_number(&mut bytes, about.map_or(-1, |about| about.len() as i64));
    bytes.extend_from_slice(about.unwrap_or_default());
    put_number(&mut bytes, history.events().len() as i64);
    history.events().iter().for_each(|event| codec::put(&mut bytes, event));
    bytes.into()
}

/// What was packed, if it is of this customer, shaped so, and read since the last change before what
/// is asked for, which no change has followed either.
fn unpacked(
    mut bytes: &[u8],
    customer: &str,
    unchanged: RangeInclusive<u64>,
    shaping: &Shaping<'_>,
    names: &Arc<[String]>,
) -> Option<History> {
    let bytes = &mut bytes;
    let (tag, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    let is_same = u64::from_le_bytes(*tag) == shaping.tag && take_text(bytes)? == customer;
    let sequence = take_number(bytes)? as u64;
    let is_now = *unchanged.start() <= sequence.min(*unchanged.end());
    if !is_same || !is_now || take_number(bytes)? != since(shaping) {
        return None;
    }
    let about = match usize::try_from(take_number(bytes)?) {
        Err(_) => None,
        Ok(length) => {
            let (about, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Some(About::attributes(about, names)?)
        }
    };
    let n_events = usize::try_from(take_number(bytes)?).ok()?;
    let mut events: Vec<Event> = Vec::with_capacity(n_events);
    for _ in 0..n_events {
        codec::take(bytes, &mut events)?;
    }
    Some(History::again(CustomerId::new(customer), events).with_attributes(about))
}

/// The instant before which events are not used, as a number.
fn since(shaping: &Shaping<'_>) -> i64 {
    shaping.kept_from.map_or(i64::MIN, |from| from.0)
}
