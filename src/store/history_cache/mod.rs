//! Histories that answers were computed from, kept in memory as they were shaped, so that the next
//! answer about the same customer neither reads nor shapes them again.
//!
//! Nothing is ever changed in it: a commit only notes by which sequence it changed a customer, and
//! what was kept from an earlier one is passed over from then on. So a reader of an older snapshot,
//! who may still put in what was true for it, does no harm.

mod packed;
mod shards;
#[cfg(test)]
mod tests;

use self::packed::{USUAL_BYTES, pack, unpack};
use self::shards::Shards;
use habitus_engine::domain::{EventRules, History, Timestamp, hash, sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Places in the tables by the hash of a customer, which are there from the start, at most.
const MOST_PLACES: usize = 1 << 24;

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
    entries: Shards,
    /// The sequence by which a customer was last changed. Customers share places by chance, and then
    /// count as changed together.
    changed: Box<[AtomicU64]>,
    /// Who was asked for and is not here, by half of the hash. A history is kept when it is asked for
    /// again soon, so that whoever asks for everybody once does not drive out those who come back.
    asked: Box<[AtomicU32]>,
    /// What the two tables take.
    table_bytes: usize,
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
    /// An empty one that may take at most this many bytes; `None` where nothing is to be kept.
    pub fn new(bytes: usize) -> Option<HistoryCache> {
        let n_usual = (bytes / USUAL_BYTES).min(MOST_PLACES);
        if n_usual == 0 {
            return None;
        }
        let n_places = 1 << n_usual.ilog2();
        let changed: Box<[_]> = (0..n_places).map(|_| AtomicU64::new(0)).collect();
        let asked: Box<[_]> = (0..2 * n_places).map(|_| AtomicU32::new(0)).collect();
        let table_bytes = size_of_val(&*changed) + size_of_val(&*asked);
        Some(HistoryCache {
            entries: Shards::new(bytes.saturating_sub(table_bytes)),
            changed,
            asked,
            table_bytes,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// From now on it takes at most this many bytes. What has no room any more is let go of at once.
    pub fn allow(&self, bytes: usize) {
        self.entries.allow(bytes.saturating_sub(self.table_bytes));
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
        let packed = self.entries.get(hash);
        let last_change = self.place(hash).load(Ordering::SeqCst);
        let history = packed
            .and_then(|packed| unpack(&packed, customer, last_change..=sequence, shaping, names));
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
        self.entries.insert(hash, &pack(history, about, sequence, shaping));
        // Whoever was erased after the first look was let go of before this was put in.
        if is_old() {
            self.entries.remove(hash);
        }
    }

    /// Notes that a customer is another from this sequence on. It is called before any reader can
    /// have a snapshot of it.
    pub fn changed(&self, customer: &str, sequence: u64) {
        self.place(hash(customer)).fetch_max(sequence, Ordering::SeqCst);
    }

    /// Lets go of a customer, whose change was noted.
    pub fn forget(&self, customer: &str) {
        self.entries.remove(hash(customer));
    }

    pub fn counts(&self) -> CacheCounts {
        let (hits, misses) = (&self.hits, &self.misses);
        let (hits, misses) = (hits.load(Ordering::Relaxed), misses.load(Ordering::Relaxed));
        let (histories, bytes) = self.entries.counts();
        CacheCounts { hits, misses, histories, bytes }
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
