//! One durable commit: what a batch makes of the customers' records, and what of it waits.

use super::about::About;
use super::batch::{Batch, Outcome, Seen};
use super::head::Head;
use super::line::Lines;
use super::records::Records;
use super::sifting::Sifted;
use super::snapshot::names;
use super::tables::{META, Meta, NAMES, NamesSum, SOURCES};
use super::twins::Twins;
use super::waiting::{Added, Due, Incoming, Ranges, Waiting, run};
use super::{MAX_NAMES, SourceProgress, StoreError, damaged_record};
use habitus_engine::domain::{RawEvent, Timestamp};
use redb::{ReadableTable, WriteTransaction};
use std::cell::OnceCell;
use std::collections::HashSet;

/// What a commit does.
pub(super) struct Appending<'t> {
    pub(super) records: Records<'t>,
    pub(super) names: Names,
    pub(super) meta: Meta,
    /// The sequence before the transaction.
    pub(super) first_sequence: u64,
    pub(super) added: Added,
    pub(super) batch: &'t Batch,
    pub(super) outcomes: Vec<Outcome>,
    /// A record of each customer who was not there before.
    newcomers: Vec<usize>,
    /// How many customers' records were written for what waited, and how many may be before the others
    /// have to wait on.
    pub(super) n_merged: usize,
    pub(super) most_merged: usize,
}

/// What a commit is to write beside the customers' records.
pub(super) struct Appended {
    pub outcomes: Vec<Outcome>,
    /// The sequence before the transaction.
    pub first_sequence: u64,
    /// What came and waits.
    pub added: Added,
    /// A record of each customer who was not there before.
    pub newcomers: Vec<usize>,
    /// The ranges that were merged, each with where further ones begin in it.
    pub merged: Vec<(usize, Vec<String>)>,
    meta: Meta,
    names: Names,
}

/// The names of attributes, of which the first are kept.
pub(super) struct Names {
    all: Vec<String>,
    n_kept: usize,
}

impl<'t> Appending<'t> {
    pub fn open(
        transaction: &'t WriteTransaction,
        salt: [u8; 32],
        batch: &'t Batch,
        most_merged: usize,
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
            newcomers: Vec::new(),
            n_merged: 0,
            most_merged,
        })
    }

    /// Takes all records, in an order of customers.
    pub fn all(
        mut self,
        ranges: &Ranges,
        due: &Due,
        incoming: &Incoming,
        sifted: &Sifted,
    ) -> Result<Appended, StoreError> {
        let mut merged = Vec::new();
        let mut rest = incoming.records.as_slice();
        for at in 0..ranges.len() {
            let (mut records, mut place): (&[usize], usize) = (&[], 0);
            if let Some(((range, places), others)) = rest.split_first()
                && *range == at
            {
                (records, rest) = (&sifted.order[places.clone()], others);
                place = places.start;
            }
            let mut coming = records;
            if due.has(at) {
                let together = due.is_merged(at).then_some(records);
                merged.push((at, self.range(ranges, at, due, together)?));
                coming = if together.is_some() { &[] } else { records };
            }
            for records in self.batch.each_customer(coming) {
                let customer = self.batch.customer(records[0]);
                self.wait(ranges, at, customer, sifted.is_new(place), records)?;
                place += records.len();
            }
        }
        self.meta.waiting += self.added.n_lines();
        if self.added.n_lines() > 0 && self.meta.sequence == self.first_sequence {
            // What has to wait on is read at another sequence than before.
            self.meta.sequence += 1;
        }
        let Appending { outcomes, first_sequence, added, newcomers, meta, names, .. } = self;
        Ok(Appended { outcomes, first_sequence, added, newcomers, merged, meta, names })
    }

    /// Takes the records of a customer; lines wait. `are_new` is of
    /// [`Sifted::is_new`].
    fn wait(
        &mut self,
        ranges: &Ranges,
        at: usize,
        customer: &str,
        are_new: Option<bool>,
        records: &[usize],
    ) -> Result<(), StoreError> {
        let before = self.meta;
        match self.wait_all(ranges, at, customer, are_new, records) {
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
        are_new: Option<bool>,
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
        // Whatever the record holds, it has nothing to do with lines that are surely new. A record may have
        // come since the last line did.
        let kept = match are_new {
            Some(_) if standing.is_none_or(|standing| standing.has_record) => None,
            _ => self.records.heads.get(customer.as_bytes()).map_err(StoreError::of)?,
        };
        // Whoever has lines that wait is known too, with or without a record.
        let had_record = match standing {
            Some(standing) => standing.has_record,
            None => are_new.unwrap_or_default(),
        };
        let has_record = kept.is_some() || had_record;
        let mut head = match &kept {
            Some(record) => Head::take(customer, record.value()).ok_or_else(damaged)?,
            None if has_record && are_new.is_none() => return Err(damaged()),
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
                // The usual one: nothing like it was there, and nothing comes with it.
                Seen::Line(bytes, at) if are_new.is_some() && records.len() == 1 => {
                    accepted.push(bytes);
                    self.meta.kept(at);
                }
                Seen::Line(bytes, at) => {
                    let mut lines = Lines::new(bytes, false);
                    let raw = only(&mut lines).ok_or_else(damaged_batch)?;
                    let (outcome, is_kept) = twins.seen(&raw, |see| {
                        if are_new.is_none() {
                            see(head.lines)?;
                            for number in 0..head.n_more {
                                see(&self.records.chunk(customer, number)?)?;
                            }
                            let sorted = match self.meta.in_run {
                                0 => Waiting::default(),
                                _ => run::lines(&self.records.run, customer)?,
                            };
                            let mut all = sorted.iter().chain(waiting().iter());
                            all.try_for_each(|line| match line {
                                [] => Err(damaged()),
                                line => see(line),
                            })?;
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
        if is_new && (told.is_some() || !accepted.is_empty()) {
            self.came(records);
        }
        let has_record = has_record || told.is_some();
        accepted.into_iter().for_each(|line| self.added.push(at, customer, line, has_record));
        match told {
            Some(record) => self.records.put_head(customer, &record),
            None => Ok(()),
        }
    }

    /// Counts somebody who was not there before.
    pub(super) fn came(&mut self, records: &[usize]) {
        self.meta.customers += 1;
        self.newcomers.extend(records.first());
    }

    /// Refuses the records of a customer who cannot be read, before whom the numbers were these.
    pub(super) fn refuse(&mut self, before: Meta, records: &[usize]) {
        self.meta = before;
        records.iter().for_each(|&record| self.outcomes[record] = Outcome::Damaged);
    }
}

impl Appended {
    /// The sequence after the transaction.
    pub fn sequence(&self) -> u64 {
        self.meta.sequence
    }

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
    pub(super) fn tell(
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
    pub(super) fn kept(&mut self, at: Timestamp) {
        self.sequence += 1;
        self.lines += 1;
        self.newest = self.newest.max(Some(at.0));
    }

    /// Counts what was told of a customer.
    pub(super) fn told(&mut self, outcome: Outcome) {
        self.abouts += u64::from(outcome != Outcome::TooManyNames);
        self.sequence += u64::from(outcome == Outcome::Accepted);
    }
}

/// The line of a chunk of one.
pub(super) fn only<'l>(lines: &'l mut Lines<'_>) -> Option<RawEvent<'l>> {
    lines.read().ok().flatten()
}

pub(super) fn damaged_batch() -> StoreError {
    StoreError::damaged("a record of a batch")
}
