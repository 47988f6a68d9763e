//! A hash for ids within one part of a log.

use std::hash::{BuildHasher, Hasher};

/// Ids are spread by a hash that costs less than one against attackers. Whoever chooses ids so that
/// they meet makes a part slow, and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::ingest) struct SameHash;

impl BuildHasher for SameHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(0xcbf2_9ce4_8422_2325)
    }
}

/// A product and a shift for every eight bytes.
pub(in crate::ingest) struct IdHasher(u64);

impl IdHasher {
    fn mix(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl Hasher for IdHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((word, more)) = rest.split_first_chunk::<8>() {
            self.mix(u64::from_le_bytes(*word));
            rest = more;
        }
        // What is left, by its ends, which overlap where it is short.
        let ends = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            (Some(head), Some(tail)) => {
                u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32
            }
            _ => rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        self.mix(ends ^ (bytes.len() as u64) << 56);
    }

    #[inline]
    fn write_i64(&mut self, number: i64) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
