//! What went into a version, and what it can be recognised by.

use crate::ingest::{Account, Columns, CustomerColumns, RowCounts, ShapeCounts};
use habitus_engine::domain::{AsOf, Rejection, Repair, Timestamp, sha256};
use habitus_engine::training::{Clock, Population, TrainingSettings};
use habitus_engine::version::Incumbent;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

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
    /// The files that the log was read from.
    pub files: Vec<String>,
    /// The store that histories were read from instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreOrigin>,
    /// The share of rejected rows beyond which a log is refused, unless a configuration says otherwise.
    pub max_rejected_share: f64,
    /// What became of every row, with examples by file and line.
    pub account: Account,
    pub sealed: Sealed,
}

/// A store at the moment at which a version learned from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreOrigin {
    /// What tells the store from others, in 16 hexadecimal digits.
    pub id: String,
    /// How often the store had changed.
    pub sequence: u64,
    /// Events before it were left out: they may be gone, or are beyond what is to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<Timestamp>,
}

impl fmt::Display for StoreOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {} at sequence {}", self.id, self.sequence)
    }
}

/// The part of the manifest that the digest covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub population: Population,
    pub as_of: AsOf,
    pub clock: Clock,
    /// Customers that the version can answer about, among those that training saw.
    pub n_customers: u64,
    /// The version whose segments were taken over.
    pub incumbent: Option<Incumbent>,
    pub rows: SealedRows,
    /// Which column of the log held what, and holds it when the version's customers are scored.
    pub columns: Columns,
    /// The same of the customers file.
    pub customer_columns: CustomerColumns,
    /// SHA-256 of the feature spec's JSON.
    pub spec_sha256: String,
    pub settings: TrainingSettings,
}

impl Sealed {
    /// Whether training would be given the same again, but for the incumbent.
    pub fn is_of(
        &self,
        population: &Population,
        as_of: AsOf,
        columns: (&Columns, &CustomerColumns),
        settings: &TrainingSettings,
        counts: &RowCounts,
    ) -> bool {
        self.population == *population
            && self.as_of == as_of
            && (&self.columns, &self.customer_columns) == columns
            && self.settings == *settings
            && self.rows == SealedRows::of(counts)
    }
}

/// Row counts, without those after the as-of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRows {
    pub accepted: u64,
    pub repaired: BTreeMap<Repair, u64>,
    pub rejected: BTreeMap<Rejection, u64>,
    pub shaped: ShapeCounts,
}

impl SealedRows {
    /// What the digest may know of the counts: only rows that surely lie at or before the as-of.
    pub fn of(counts: &RowCounts) -> SealedRows {
        let mut rejected = counts.rejected.clone();
        rejected.retain(|reason, _| reason.is_dated());
        SealedRows {
            accepted: counts.accepted,
            repaired: counts.repaired.clone(),
            rejected,
            shaped: counts.shaped,
        }
    }
}

/// The digest of a version, in hex.
pub fn digest(sealed: &Sealed, parameters_sha256: &str) -> Result<String, serde_json::Error> {
    let sealed = serde_json::to_string(sealed)?;
    Ok(sha256(format!("habitus version\n{sealed}\n{parameters_sha256}\n").as_bytes()))
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
