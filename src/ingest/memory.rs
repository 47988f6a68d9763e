//! How much memory a run may take, and where the rest goes.

use std::path::PathBuf;

/// The bound of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that the rows and histories of a log may take, roughly.
    pub limit: u64,
    /// Where rows beyond it wait; the system's place for temporary files where left out.
    pub directory: Option<PathBuf>,
}

impl Memory {
    /// Bytes of encoded rows that may wait in memory.
    pub(super) fn waiting_rows(&self) -> usize {
        usize::try_from(self.limit / 4).unwrap_or(usize::MAX)
    }

    /// Bytes that histories may take at once.
    pub(super) fn histories(&self) -> u64 {
        self.limit / 3
    }
}

impl Default for Memory {
    /// Two gigabytes.
    fn default() -> Memory {
        Memory { limit: 2_000_000_000, directory: None }
    }
}
