//! Seeds: one number from the user, and as many independent ones as the work needs.

use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The seed of everything random in a fit. The same seed gives the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// A seed for one purpose and run, unrelated to those of other purposes and runs.
    pub fn derive(self, purpose: &str, run: u64) -> Seed {
        let mut hasher = Sha256::new();
        hasher.update(self.0.to_le_bytes());
        hasher.update(run.to_le_bytes());
        hasher.update(purpose.as_bytes());
        let digest = hasher.finalize();
        let mut word = [0; 8];
        word.copy_from_slice(&digest[..8]);
        Seed(u64::from_le_bytes(word))
    }

    /// A number that this seed makes of a hash, as evenly spread as the hash is.
    pub fn hash(self, hash: u64) -> u64 {
        super::history::finish(hash ^ self.0)
    }

    /// A number in `[0, 1)` for one thing of many, the same in whatever order they are asked about.
    pub fn uniform(self, index: u64) -> f64 {
        // The golden ratio's multiples lie far apart, as SplitMix64 has them.
        let spread = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (self.hash(spread) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The generator that starts from this seed.
    pub fn rng(self) -> Xoshiro256Plus {
        Xoshiro256Plus::seed_from_u64(self.0)
    }
}
