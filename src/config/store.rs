//! The settings of a store.

use super::ConfigError;
use super::written::refuse;
use crate::store::Settings;
use serde::Deserialize;
use std::path::PathBuf;

/// Where a store lies, and how it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    pub path: PathBuf,
    pub settings: Settings,
}

/// The settings as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    path: PathBuf,
    cache_mb: usize,
    retention_days: Option<u32>,
}

/// Below this every answer would read the disk.
const LEAST_CACHE_MB: usize = 8;

/// Four terabytes, which no machine has to give.
const MOST_CACHE_MB: usize = 4_000_000;

/// A century; longer is for good.
const MOST_DAYS: u32 = 36_600;

impl RawStore {
    pub(super) fn check(self, flag: Option<PathBuf>) -> Result<StoreConfig, ConfigError> {
        let RawStore { path, cache_mb, retention_days } = self;
        refuse(cache_mb < LEAST_CACHE_MB, "store.cache_mb", || {
            format!("{cache_mb} is not possible; at least {LEAST_CACHE_MB} are needed")
        })?;
        refuse(cache_mb > MOST_CACHE_MB, "store.cache_mb", || {
            format!("{cache_mb} is not possible; {MOST_CACHE_MB} are the most")
        })?;
        let days = retention_days.unwrap_or(1);
        refuse(!(1..=MOST_DAYS).contains(&days), "store.retention_days", || {
            format!("{days} days are not possible; 1 to {MOST_DAYS} are")
        })?;
        let cache_bytes = cache_mb.saturating_mul(1_000_000);
        Ok(StoreConfig {
            path: flag.unwrap_or(path),
            settings: Settings { cache_bytes, history_bytes: 0, retention_days },
        })
    }
}
