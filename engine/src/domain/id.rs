//! What tells an order, or an event, from the others of its customer.

use std::num::NonZeroU64;
use xxhash_rust::xxh3::xxh3_128;

/// 127 bits of the text of an order's or an event's id (XXH3). Nobody asks for the text again, only
/// whether two are the same; that two texts of one customer share the bits by chance does not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdHash(NonZeroU64, u64);

impl IdHash {
    /// Of a text. An empty one is no id.
    pub fn of(text: &str) -> Option<IdHash> {
        if text.is_empty() {
            return None;
        }
        let hash = xxh3_128(text.as_bytes());
        Some(IdHash::from_words((hash >> 64) as u64, hash as u64))
    }

    /// The same as bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let (high, low) = (u128::from(self.0.get()), u128::from(self.1));
        (high << 64 | low).to_le_bytes()
    }

    /// From what [`IdHash::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> IdHash {
        let hash = u128::from_le_bytes(bytes);
        IdHash::from_words((hash >> 64) as u64, hash as u64)
    }

    /// One of `n` buckets, evenly; `n` is a power of two.
    pub(super) fn bucket(self, n: usize) -> usize {
        self.1 as usize & (n - 1)
    }

    /// One bit is always set, so that an absent id takes no room of its own.
    fn from_words(high: u64, low: u64) -> IdHash {
        IdHash(NonZeroU64::MIN | high, low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_and_come_back() {
        let texts = ["1", "01", "1.0", "e", "E", "a text that is longer than sixteen bytes"];
        let ids: Vec<IdHash> = texts.into_iter().filter_map(IdHash::of).collect();
        assert_eq!(ids.len(), texts.len());
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == id), Some(number));
            assert_eq!(IdHash::from_bytes(id.to_bytes()), *id);
        }
        assert_eq!(IdHash::of(""), None);
        assert_eq!(size_of::<Option<IdHash>>(), 16);
    }

    /// Fingerprints are made of them, so they stay what they are.
    #[test]
    fn an_id_has_the_bits_that_it_always_had() {
        let hex: String = IdHash::of("536365")
            .unwrap()
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "e46ae4ed82e4238aff8077a34b66bfa1");
    }
}
