//! The records of customers in a write transaction.

use super::head::{CHUNK_BYTES, Head, chunk_lines, chunk_record};
use super::line::{self, Tail};
use super::tables::{HEADS, MORE, RUN, TOMBSTONES};
use super::waiting::run::BlockTable;
use super::{StoreError, damaged_record, tombstone};
use habitus_engine::domain::RawEvent;
use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

/// The tables that customers are in.
pub(super) struct Records<'t> {
    pub heads: Table<'t, &'static [u8], &'static [u8]>,
    /// Lines that wait beside the records.
    pub run: BlockTable<'t>,
    more: Table<'t, (&'static [u8], u32), &'static [u8]>,
    tombstones: Table<'t, &'static [u8; 32], i64>,
    has_tombstones: bool,
    salt: [u8; 32],
}

/// A customer's records while lines are added to them.
pub(super) struct Open {
    pub first_sequence: u64,
    pub about: Option<Vec<u8>>,
    pub head_changed: bool,
    /// The first chunk, where it is not the one that lines are added to.
    first: Option<Vec<u8>>,
    /// How many further chunks there are; lines are added to the last.
    n_more: u32,
    last: Vec<u8>,
    tail: Tail,
    /// Chunks that have become full, by number: nothing is written of a customer before all is well.
    full: Vec<(u32, Vec<u8>)>,
}

impl Open {
    /// The records of somebody new.
    pub fn new(first_sequence: u64) -> Open {
        Open {
            first_sequence,
            about: None,
            head_changed: true,
            first: None,
            n_more: 0,
            last: Vec::new(),
            tail: Tail::default(),
            full: Vec::new(),
        }
    }

    pub fn add(&mut self, raw: &RawEvent<'_>) {
        if self.last.len() > CHUNK_BYTES {
            let full = std::mem::take(&mut self.last);
            match self.n_more.checked_sub(1) {
                None => self.first = Some(full),
                Some(number) => self.full.push((number, full)),
            }
            self.n_more += 1;
            self.tail = Tail::default();
            self.head_changed = true;
        }
        line::append(&mut self.last, &mut self.tail, raw);
    }

    /// Whether there is nothing of the customer.
    pub fn is_nobody(&self) -> bool {
        self.about.is_none() && self.last.is_empty() && self.n_more == 0
    }

    /// A chunk that has become full and is not written yet. Their numbers follow one another.
    fn full_chunk(&self, number: u32) -> Option<&[u8]> {
        let (first, _) = self.full.first()?;
        let (_, lines) = self.full.get(number.checked_sub(*first)? as usize)?;
        Some(lines)
    }
}

impl<'t> Records<'t> {
    pub fn open(
        transaction: &'t WriteTransaction,
        salt: [u8; 32],
    ) -> Result<Records<'t>, StoreError> {
        let tombstones = transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
        Ok(Records {
            heads: transaction.open_table(HEADS).map_err(StoreError::of)?,
            run: transaction.open_table(RUN).map_err(StoreError::of)?,
            more: transaction.open_table(MORE).map_err(StoreError::of)?,
            has_tombstones: !tombstones.is_empty().map_err(StoreError::of)?,
            tombstones,
            salt,
        })
    }

    /// Whether somebody of whom nothing is here was erased.
    pub fn is_erased(&self, customer: &str) -> Result<bool, StoreError> {
        let hash = || tombstone(&self.salt, customer);
        Ok(self.has_tombstones && self.tombstones.get(&hash()).map_err(StoreError::of)?.is_some())
    }

    /// The records of a customer, to be added to.
    pub fn take(&self, customer: &str) -> Result<Option<Open>, StoreError> {
        let record = self.heads.get(customer.as_bytes()).map_err(StoreError::of)?;
        let Some(record) = record else { return Ok(None) };
        let head = Head::take(customer, record.value()).ok_or_else(|| damaged_record(customer))?;
        let (first, last) = match head.n_more.checked_sub(1) {
            None => (None, head.lines.to_vec()),
            Some(number) => (Some(head.lines.to_vec()), self.chunk(customer, number)?),
        };
        Ok(Some(Open {
            first_sequence: head.first_sequence,
            about: head.about.map(<[u8]>::to_vec),
            head_changed: false,
            first,
            n_more: head.n_more,
            tail: Tail::of(&last).map_err(|_| damaged_record(customer))?,
            last,
            full: Vec::new(),
        }))
    }

    /// A customer's further chunk of lines.
    pub fn chunk(&self, customer: &str, number: u32) -> Result<Vec<u8>, StoreError> {
        let record = self.more.get((customer.as_bytes(), number)).map_err(StoreError::of)?;
        let lines =
            record.as_ref().and_then(|record| chunk_lines(customer, number, record.value()));
        Ok(lines.ok_or_else(|| damaged_record(customer))?.to_vec())
    }

    /// Shows all chunks of lines of a customer.
    pub fn each_chunk(
        &self,
        customer: &str,
        open: &Open,
        see: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Some(first) = &open.first {
            see(first)?;
        }
        for number in 0..open.n_more.saturating_sub(1) {
            match open.full_chunk(number) {
                Some(lines) => see(lines)?,
                None => see(&self.chunk(customer, number)?)?,
            }
        }
        see(&open.last)
    }

    /// Writes what lines were added to.
    pub fn put(&mut self, customer: &str, open: &Open) -> Result<(), StoreError> {
        for (number, lines) in &open.full {
            self.put_chunk(customer, *number, lines)?;
        }
        let lines = match open.n_more.checked_sub(1) {
            None => &open.last,
            Some(number) => {
                self.put_chunk(customer, number, &open.last)?;
                if !open.head_changed {
                    return Ok(());
                }
                open.first.as_ref().unwrap_or(&open.last)
            }
        };
        let head = Head {
            first_sequence: open.first_sequence,
            n_more: open.n_more,
            about: open.about.as_deref(),
            lines,
        };
        self.put_head(customer, &head.record(customer))
    }

    /// Writes the head of a customer as it is kept.
    pub fn put_head(&mut self, customer: &str, record: &[u8]) -> Result<(), StoreError> {
        self.heads.insert(customer.as_bytes(), record).map_err(StoreError::of)?;
        Ok(())
    }

    fn put_chunk(&mut self, customer: &str, number: u32, lines: &[u8]) -> Result<(), StoreError> {
        let record = chunk_record(customer, number, lines);
        self.more
            .insert((customer.as_bytes(), number), record.as_slice())
            .map_err(StoreError::of)?;
        Ok(())
    }
}
