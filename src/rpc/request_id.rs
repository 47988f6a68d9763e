//! The id of a call: the caller's own, or one that is made up.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// The metadata key, of requests and of responses.
pub const KEY: &str = "x-request-id";

/// A longer id of a caller's is not taken, so that logs and answers keep their size.
const MAX_BYTES: usize = 128;

/// Names one call in its answer and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id in a request's metadata, where it is 1 to 128 printable ASCII characters; else a new
    /// one.
    pub fn of(metadata: &MetadataMap) -> RequestId {
        let given = metadata.get(KEY).and_then(|value| value.to_str().ok());
        match given.filter(|id| acceptable(id)) {
            Some(id) => RequestId(id.to_owned()),
            None => RequestId::fresh(),
        }
    }

    /// Unlike any other of this process by a counter, and of other processes by 64 random bits.
    /// Chance may enter here because no answer depends on it.
    fn fresh() -> RequestId {
        static PROCESS: LazyLock<u64> =
            LazyLock::new(|| RandomState::new().build_hasher().finish());
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{:016x}-{call:x}", *PROCESS))
    }

    /// Puts the id into the metadata of an answer.
    pub fn stamp(&self, metadata: &mut MetadataMap) {
        // Printable ASCII is always a metadata value.
        if let Ok(value) = self.0.parse::<MetadataValue<Ascii>>() {
            metadata.insert(KEY, value);
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn acceptable(id: &str) -> bool {
    (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> RequestId {
        let mut metadata = MetadataMap::new();
        metadata.insert(KEY, given.parse::<MetadataValue<Ascii>>().unwrap());
        RequestId::of(&metadata)
    }

    #[test]
    fn a_good_id_is_taken_and_another_replaced() {
        for good in ["a", "order 7/3", "x".repeat(MAX_BYTES).as_str()] {
            assert_eq!(id_for(good).to_string(), good);
        }
        for bad in ["", "tab\there", "x".repeat(MAX_BYTES + 1).as_str()] {
            assert_ne!(id_for(bad).to_string(), bad);
        }
    }

    #[test]
    fn made_up_ids_differ_and_could_have_been_given() {
        let (one, other) = (RequestId::fresh(), RequestId::fresh());
        assert_ne!(one, other);
        assert!(acceptable(&one.to_string()));
    }
}
