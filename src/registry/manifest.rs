//! What went into a version, and what it can be recognised by.

use crate::ingest::{Columns, RowCounts};
use habitus_engine::domain::{AsOf, Rejection, Repair, Timestamp};
use habitus_engine::training::{Clock, TrainingSettings};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The manifest of one version. Only [`Sealed`] and the parameters enter the digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    /// `<as-of>-<first 12 hex of the digest>`.
    pub version: String,
    /// SHA-256 over `sealed` and the parameters, in hex.
    pub digest: String,
    pub parameters_sha256: String,
    pub created_at: Timestamp,
    pub crate_version: String,
    /// The processor features that the linfa-fitted parts may depend on in their last bits.
    pub cpu_features: Vec<String>,
    pub threads: usize,
    pub source: Source,
    /// Rows of the log that lay after the as-of and were not looked at.
    pub rows_after_as_of: u64,
    pub sealed: Sealed,
}

/// Where the events came from; not part of the digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub files: Vec<String>,
    pub columns: Columns,
}

/// The part of the manifest that the digest covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// SHA-256 over the canonically sorted accepted events up to the as-of.
    pub fingerprint: String,
    pub as_of: AsOf,
    pub clock: Clock,
    pub n_customers: u64,
    pub rows: SealedRows,
    /// SHA-256 of the feature spec's JSON.
    pub spec_sha256: String,
    pub settings: TrainingSettings,
}

/// Row counts, without those after the as-of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRows {
    pub accepted: u64,
    pub repaired: BTreeMap<Repair, u64>,
    pub rejected: BTreeMap<Rejection, u64>,
}

impl SealedRows {
    /// What the digest may know of the counts. Which rows lie in the future depends on the clock,
    /// so they are left out.
    pub fn of(counts: &RowCounts) -> SealedRows {
        let mut rejected = counts.rejected.clone();
        rejected.remove(&Rejection::FutureTime);
        SealedRows { accepted: counts.accepted, repaired: counts.repaired.clone(), rejected }
    }
}

/// The digest of a version, in hex.
pub fn digest(sealed: &Sealed, parameters_sha256: &str) -> Result<String, serde_json::Error> {
    let sealed = serde_json::to_string(sealed)?;
    Ok(sha256(format!("habitus version\n{sealed}\n{parameters_sha256}\n").as_bytes()))
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The vector extensions of this processor that numeric libraries choose their code by.
pub fn cpu_features() -> Vec<String> {
    let mut features = vec![std::env::consts::ARCH.to_owned()];
    #[cfg(target_arch = "x86_64")]
    {
        let detected = [
            ("sse4.2", std::is_x86_feature_detected!("sse4.2")),
            ("avx", std::is_x86_feature_detected!("avx")),
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ];
        features.extend(detected.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()));
    }
    features
}
