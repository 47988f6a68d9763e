//! How much a server knows, and how fresh it is, as those who watch it want to see it.

use super::{Histories, Serving};
use crate::store::CacheCounts;
use habitus_engine::domain::Timestamp;

/// What is held at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    pub n_customers: u64,
    /// The newest event of anybody.
    pub newest_event: Option<Timestamp>,
    /// Absent where histories are held in memory.
    pub store: Option<StoreHoldings>,
}

/// What a store of histories has grown to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreHoldings {
    /// How often it has changed.
    pub sequence: u64,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Histories that are kept in memory.
    pub histories: CacheCounts,
}

impl Serving {
    /// What is held now. It is asked for each time that the metrics are read, so it must be cheap.
    pub fn holdings(&self) -> Holdings {
        let store = match &self.histories {
            Histories::Memory(_) => None,
            Histories::Live(live) => {
                let snapshot = live.store.snapshot();
                Some(StoreHoldings {
                    sequence: snapshot.sequence(),
                    // A file that cannot be looked at is nothing to fail for.
                    bytes: live.store.file_bytes().unwrap_or(0),
                    histories: snapshot.recalled().unwrap_or_default(),
                })
            }
        };
        Holdings { n_customers: self.n_customers(), newest_event: self.newest(), store }
    }
}
