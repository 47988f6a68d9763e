//! One durable commit: what a batch makes of the customers' records, and what of it waits.

use super::about::About;
use super::batch::{Batch, Outcome, Seen};
use super::head::Head;
use super::known::{Known, KnownRange};
use super::line::{EventIds, Lines};
use super::records::{Open, Records};
use super::snapshot::names;
use super::tables::{META, Meta, NAMES, NamesSum, SOURCES};
use super::twins::Twins;
use super::waiting::{Added, Due, Incoming, Ranges, Waiting};
use super::{MAX_NAMES, SourceProgress, StoreError, damaged_record};
use habitus_engine::domain::{RawEvent, Timestamp};
use redb::{ReadableTable, WriteTransaction};
use std::cell::OnceCell;
use std::collections::HashSet;

/// What a commit does.
pub(super) struct Appending<'t> {
    records: Records<'t>,
    names: Names,
    meta: Meta,
    /// The sequence before the transaction.
    first_sequence: u64,
    added: Added,
    batch: &'t Batch,
    outcomes: Vec<Outcome>,
}

/// What a commit is to write beside the customers' records.
pub(super) struct Appended {
    pub outcomes: Vec<Outcome>,
    /// The sequence before the transaction.
    pub first_sequence: u64,
    /// What came and waits.
    pub added: Added,
    /// The ranges that were merged, each with where further ones begin in it.
    pub merged: Vec<(usize, Vec<String>)>,
    meta: Meta,
    names: Names,
}

/// The names of attributes, of which the first are kept.
struct Names {
    all: Vec<String>,
    n_kept: usize,
}

impl<'t> Appending<'t> {
    pub fn open(
        transaction: &'t WriteTransaction,
        salt: [u8; 32],
        batch: &'t Batch,
    ) -> Result<Appending<'t>, StoreError> {
        let meta = transaction.open_table(META).map_err(StoreError::of)?;
        let meta = Meta::read(&meta)?.ok_or_else(|| StoreError::damaged("it has no format"))?;
        let names = names(&transaction.open_table(NAMES).map_err(StoreError::of)?, &meta)?;
        Ok(Appending {
            records: Records::open(transaction, salt)?,
            names: Names { n_kept: names.len(), all: names },
            first_sequence: meta.sequence,
            meta,
            added: Added::default(),
            batch,
            outcomes: vec![Outcome::Accepted; batch.len()],
        })
    }

    /// Takes all records, in an order of customers.
    pub fn all(
        mut self,
        ranges: &Ranges,
        known: &Known,
        due: &Due,
        incoming: &Incoming,
        order: &[usize],
    ) -> Result<Appended, StoreError> {
        let mut merged = Vec::new();
        let mut rest = incoming.records.as_slice();
        for at in 0..ranges.len() {
            let mut records: &[usize] = &[];
            if let Some(((range, places), others)) = rest.split_first()
                && *range == at
            {
                (records, rest) = (&order[places.clone()], others);
            }
            if due.has(at) {
                merged.push((at, self.range(ranges, at, due.step, records)?));
            } else if !records.is_empty() {
                let known = known.of(ranges.bounds(at));
                for records in self.batch.each_customer(records) {
                    let customer = self.batch.customer(records[0]);
                    self.wait(ranges, at, customer, known, records)?;
                }
            }
        }
        self.meta.waiting += self.added.n_lines();
        if self.added.n_lines() > 0 && self.meta.sequence == self.first_sequence {
            // What has to wait on is read at another sequence than before.
            self.meta.sequence += 1;
        }
        let Appending { outcomes, first_sequence, added, meta, names, .. } = self;
        Ok(Appended { outcomes, first_sequence, added, merged, meta, names })
    }

    /// Merges what waits of a range and what comes, in the order of customers, and tells where it may
    /// be cut.
    fn range(
        &mut self,
        ranges: &Ranges,
        at: usize,
        step: u64,
        records: &[usize],
    ) -> Result<Vec<String>, StoreError> {
        let batch = self.batch;
        let mut cutting = Cutting { step: step.max(1), bytes: 0, places: Vec::new() };
        let Some(table) = ranges.table(at) else { return Ok(Vec::new()) };
        let mut waiting = table.customers(u64::MAX).into_iter().peekable();
        let mut coming = batch.each_customer(records).peekable();
        loop {
            let waits = waiting.peek().copied();
            let comes = coming.peek().map(|records| batch.customer(records[0]));
            let customer = match (waits, comes) {
                (Some(waits), Some(comes)) => waits.min(comes),
                (Some(customer), None) | (None, Some(customer)) => customer,
                (None, None) => return Ok(cutting.cuts()),
            };
            let waiting = match waiting.next_if_eq(&customer) {
                Some(customer) => table.lines(customer, u64::MAX),
                None => Waiting::default(),
            };
            let records = match comes {
                Some(comes) if comes == customer => coming.next().unwrap_or_default(),
                _ => &[],
            };
            let lines = waiting.iter().map(|line| Incoming::bytes_of(customer.as_bytes(), line));
            let come = records.iter().map(|&record| Incoming::bytes_in(batch, record));
            cutting.see(customer, lines.chain(come).max().unwrap_or_default());
            self.merge(at, customer, &waiting, records)?;
        }
    }

    /// Puts what waits of a customer into their records, and what comes. Where what is kept of the
    /// customer is damaged, what comes is refused and what waits goes on waiting; others have their own.
    fn merge(
        &mut self,
        at: usize,
        customer: &str,
        waiting: &Waiting,
        records: &[usize],
    ) -> Result<(), StoreError> {
        self.meta.waiting -= waiting.iter().count() as u64;
        let before = self.meta;
        match self.merge_all(customer, waiting, records) {
            Err(StoreError::DamagedRecord { .. }) => {
                self.refuse(before, records);
                let again = |line| self.added.push_again(at, customer, line, waiting.has_record);
                waiting.iter().for_each(again);
                Ok(())
            }
            other => other,
        }
    }

    fn merge_all(
        &mut self,
        customer: &str,
        waiting: &Waiting,
        records: &[usize],
    ) -> Result<(), StoreError> {
        let open = self.records.take(customer)?;
        if open.is_none() && waiting.has_record {
            return Err(damaged_record(customer));
        }
        let is_new = open.is_none() && waiting.is_empty();
        if is_new && self.records.is_erased(customer)? {
            records.iter().for_each(|&record| self.outcomes[record] = Outcome::Erased);
            return Ok(());
        }
        let first_sequence = waiting.first_sequence().unwrap_or(self.first_sequence);
        let mut open = open.unwrap_or_else(|| Open::new(first_sequence));
        for line in waiting.iter() {
            let mut lines = Lines::new(line, false);
            open.add(&only(&mut lines).ok_or_else(|| damaged_record(customer))?);
        }
        let mut twins = Twins::new(customer, records.len());
        for &record in records {
            match self.batch.record(record) {
                Seen::About(later) => {
                    let outcome = self.names.tell(customer, &mut open.about, later)?;
                    self.outcomes[record] = outcome;
                    open.head_changed |= outcome == Outcome::Accepted;
                    self.meta.told(outcome);
                }
                Seen::Line(bytes, at) => {
                    // As text where it was text: other rules may read it in another way.
                    let mut lines = Lines::new(bytes, false);
                    let raw = only(&mut lines).ok_or_else(damaged_batch)?;
                    let (outcome, is_kept) =
                        twins.seen(&raw, |see| self.records.each_chunk(customer, &open, see))?;
                    self.outcomes[record] = outcome;
                    if is_kept {
                        open.add(&raw);
                        self.meta.kept(at);
                    }
                }
            }
        }
        // Somebody new of whom nothing was taken stays unknown.
        if open.is_nobody() {
            return Ok(());
        }
        self.meta.customers += u64::from(is_new);
        self.records.put(customer, &open)
    }

    /// Takes the records of a customer; lines wait.
    fn wait(
        &mut self,
        ranges: &Ranges,
        at: usize,
        customer: &str,
        known: Option<&KnownRange>,
        records: &[usize],
    ) -> Result<(), StoreError> {
        let before = self.meta;
        match self.wait_all(ranges, at, customer, known, records) {
            Err(StoreError::DamagedRecord { .. }) => {
                self.refuse(before, records);
                Ok(())
            }
            other => other,
        }
    }

    fn wait_all(
        &mut self,
        ranges: &Ranges,
        at: usize,
        customer: &str,
        known: Option<&KnownRange>,
        records: &[usize],
    ) -> Result<(), StoreError> {
        let damaged = || damaged_record(customer);
        let standing = ranges.standing(at, customer);
        if standing.is_some_and(|standing| standing.is_damaged) {
            return Err(damaged());
        }
        // Whoever has many lines that wait pays for reading them only where an id is to be found.
        let lines = OnceCell::new();
        let waiting = || lines.get_or_init(|| ranges.lines(customer, u64::MAX));
        // Whatever the record holds, it has nothing to do with lines that are surely new.
        let known = known.filter(|known| self.are_new(customer, known, records));
        // A record may have come since the last line did.
        let kept = match known {
            Some(_) if standing.is_none_or(|standing| standing.has_record) => None,
            _ => self.records.heads.get(customer.as_bytes()).map_err(StoreError::of)?,
        };
        // Whoever has lines that wait is known too, with or without a record.
        let had_record = match standing {
            Some(standing) => standing.has_record,
            None => known.is_some_and(|known| known.has(customer)),
        };
        let has_record = kept.is_some() || had_record;
        let mut head = match &kept {
            Some(record) => Head::take(customer, record.value()).ok_or_else(damaged)?,
            None if has_record && known.is_none() => return Err(damaged()),
            None => Head::new(self.first_sequence),
        };
        let is_new = standing.is_none() && !has_record;
        if is_new && self.records.is_erased(customer)? {
            records.iter().for_each(|&record| self.outcomes[record] = Outcome::Erased);
            return Ok(());
        }
        let mut accepted: Vec<&[u8]> = Vec::new();
        let mut about: Option<Option<Vec<u8>>> = None;
        let mut twins = Twins::new(customer, records.len());
        for &record in records {
            match self.batch.record(record) {
                Seen::About(later) => {
                    let about = about.get_or_insert_with(|| head.about.map(<[u8]>::to_vec));
                    let outcome = self.names.tell(customer, about, later)?;
                    self.outcomes[record] = outcome;
                    self.meta.told(outcome);
                }
                Seen::Line(bytes, at) => {
                    let mut lines = Lines::new(bytes, false);
                    let raw = only(&mut lines).ok_or_else(damaged_batch)?;
                    let (outcome, is_kept) = twins.seen(&raw, |see| {
                        if known.is_none() {
                            see(head.lines)?;
                            for number in 0..head.n_more {
                                see(&self.records.chunk(customer, number)?)?;
                            }
                            waiting().iter().try_for_each(&mut *see)?;
                        }
                        accepted.iter().copied().try_for_each(see)
                    })?;
                    self.outcomes[record] = outcome;
                    if is_kept {
                        accepted.push(bytes);
                        self.meta.kept(at);
                    }
                }
            }
        }
        let about = about.filter(|about| about.as_deref() != head.about);
        let told = about.map(|about| {
            if kept.is_none() {
                head.first_sequence = waiting().first_sequence().unwrap_or(self.first_sequence);
            }
            Head { about: about.as_deref(), ..head }.record(customer)
        });
        drop(kept);
        self.meta.customers += u64::from(is_new && (told.is_some() || !accepted.is_empty()));
        let has_record = has_record || told.is_some();
        accepted.into_iter().for_each(|line| self.added.push(at, customer, line, has_record));
        match told {
            Some(record) => self.records.put_head(customer, &record),
            None => Ok(()),
        }
    }

    /// Whether records are lines that were surely not there before.
    fn are_new(&self, customer: &str, known: &KnownRange, records: &[usize]) -> bool {
        records.iter().all(|&record| match self.batch.record(record) {
            Seen::Line(line, _) => {
                let mut ids = EventIds::new(line);
                ids.all(|id| id.is_ok_and(|(_, id)| !known.may_have(customer, id)))
            }
            Seen::About(_) => false,
        })
    }

    /// Refuses the records of a customer who cannot be read, before whom the numbers were these.
    fn refuse(&mut self, before: Meta, records: &[usize]) {
        self.meta = before;
        records.iter().for_each(|&record| self.outcomes[record] = Outcome::Damaged);
    }
}

/// Where a range that is merged may be cut.
struct Cutting {
    /// About what is merged before it is cut.
    step: u64,
    /// What was merged, where a customer counts as one line, as they come in streams.
    bytes: u64,
    /// Customers with what was merged before them, some for each step.
    places: Vec<(u64, String)>,
}

impl Cutting {
    const PLACES_A_STEP: u64 = 8;

    fn see(&mut self, customer: &str, bytes: u64) {
        let last = self.places.last().map_or(0, |(bytes, _)| *bytes);
        if self.bytes - last > self.step / Cutting::PLACES_A_STEP {
            self.places.push((self.bytes, customer.to_owned()));
        }
        self.bytes += bytes;
    }

    /// Where further ranges begin, so that all come to about as much, and to no less than a step.
    fn cuts(self) -> Vec<String> {
        let n = self.bytes / self.step;
        let mut places = self.places.into_iter();
        let cuts = (1..n).filter_map(|part| {
            let end = self.bytes / n * part;
            places.find(|(bytes, _)| *bytes >= end).map(|(_, customer)| customer)
        });
        cuts.collect()
    }
}

impl Appended {
    /// Writes what is not a customer's.
    pub fn write(
        &mut self,
        transaction: &WriteTransaction,
        source: Option<&SourceProgress>,
    ) -> Result<(), StoreError> {
        let Names { all, n_kept } = &self.names;
        if all.len() > *n_kept {
            self.meta.names = Some(NamesSum::of(all));
        }
        let mut table = transaction.open_table(NAMES).map_err(StoreError::of)?;
        for (number, name) in all.iter().enumerate().skip(*n_kept) {
            table.insert(number as u32, name.as_str()).map_err(StoreError::of)?;
        }
        if let Some(SourceProgress { digest, rows, finished }) = source {
            let mut sources = transaction.open_table(SOURCES).map_err(StoreError::of)?;
            sources.insert(digest.as_str(), (*rows, *finished)).map_err(StoreError::of)?;
        }
        self.meta.write(&mut transaction.open_table(META).map_err(StoreError::of)?)
    }
}

impl Names {
    /// Takes over what is told of a customer.
    fn tell(
        &mut self,
        customer: &str,
        about: &mut Option<Vec<u8>>,
        later: &About,
    ) -> Result<Outcome, StoreError> {
        if !self.have_room(later) {
            return Ok(Outcome::TooManyNames);
        }
        let mut now = match about {
            None => About::default(),
            Some(bytes) => About::take(bytes, &self.all).ok_or_else(|| damaged_record(customer))?,
        };
        now.update(later.clone());
        let mut bytes = Vec::new();
        let names = &mut self.all;
        now.put(&mut bytes, |name| -> Result<u32, StoreError> {
            let known = names.iter().position(|known| known == name);
            let number = known.unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            Ok(number as u32)
        })?;
        if about.as_ref() == Some(&bytes) {
            return Ok(Outcome::Duplicate);
        }
        *about = Some(bytes);
        Ok(Outcome::Accepted)
    }

    /// Whether the store can know all names of a record.
    fn have_room(&self, about: &About) -> bool {
        let is_new = |name: &&str| !self.all.iter().any(|known| known == name);
        let names = about.values.iter().map(|(name, _)| name.as_str());
        let n_new = names.filter(is_new).collect::<HashSet<_>>().len();
        n_new == 0 || self.all.len() + n_new <= MAX_NAMES
    }
}

impl Meta {
    /// Counts a line that is kept.
    fn kept(&mut self, at: Timestamp) {
        self.sequence += 1;
        self.lines += 1;
        self.newest = self.newest.max(Some(at.0));
    }

    /// Counts what was told of a customer.
    fn told(&mut self, outcome: Outcome) {
        self.abouts += u64::from(outcome != Outcome::TooManyNames);
        self.sequence += u64::from(outcome == Outcome::Accepted);
    }
}

/// The line of a chunk of one.
fn only<'l>(lines: &'l mut Lines<'_>) -> Option<RawEvent<'l>> {
    lines.read().ok().flatten()
}

fn damaged_batch() -> StoreError {
    StoreError::damaged("a record of a batch")
}
