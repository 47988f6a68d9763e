//! How a store is held: what its memory is for, and how much of anything is done at once.

/// How a store is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes of histories kept in memory, as they were shaped for answers, while nothing waits.
    pub history_bytes: usize,
    /// How long events are kept; for good where left out.
    pub retention_days: Option<u32>,
}

impl Settings {
    /// The same for whoever answers: half of the memory is for pages and for lines that wait, and most of
    /// it is for histories as long as few lines wait.
    pub fn for_answers(&self) -> Settings {
        let history_bytes = self.cache_bytes / 8 * 5;
        Settings { cache_bytes: self.cache_bytes / 2, history_bytes, ..*self }
    }

    /// What histories may take beside lines that wait and what is known for them. By measurement as much
    /// again is under way while lines come in bulk, or is what the allocator has not given back.
    pub(super) fn history_bytes_beside(&self, waiting: u64, known: usize) -> usize {
        let taken = usize::try_from(waiting).unwrap_or(usize::MAX).saturating_add(known);
        let left = self.history_bytes.saturating_sub(taken.saturating_mul(2));
        left.max(self.history_bytes / 6)
    }

    /// What is for lines that wait in memory for their customers' records. It is read when the store is
    /// opened.
    fn waiting_share(&self) -> usize {
        self.cache_bytes / 3
    }

    /// What such lines may take, beside what the allocator and the account of the journal take.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_share() / 6 * 5
    }

    /// What redb may count. A page takes more memory than the bytes in it: by measurement 1.5 times as
    /// much, its place in lists and what the allocator cannot use included.
    pub(super) fn pages_bytes(&self) -> usize {
        self.cache_bytes / 5 * 2
    }

    /// Records that one commit writes for what waited, while callers wait: a page each. Half of the pages
    /// may be such as are being written, and what does not fit is written twice.
    pub(super) fn records_at_once(&self) -> usize {
        const PAGE: usize = 4 << 10;
        (self.pages_bytes() / 2 / PAGE).max(1_000)
    }

    /// Lines that one commit takes of many callers; the rest waits for the next.
    pub(super) fn lines_at_once(&self) -> usize {
        2 * self.records_at_once()
    }

    /// What may be taken beside, to know of so many customers who and what is there without a look.
    pub(super) fn known_bytes(&self, n_customers: u64) -> usize {
        const A_CUSTOMER: u64 = 48;
        let most = n_customers.saturating_mul(A_CUSTOMER);
        usize::try_from(most).unwrap_or(usize::MAX).min(self.cache_bytes / 16 * 5)
    }
}
