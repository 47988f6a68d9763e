//! One durable commit: what a batch makes of the customers' records.

use super::about::About;
use super::batch::{Batch, Outcome, Seen};
use super::head::{CHUNK_BYTES, Head, chunk_lines, chunk_record};
use super::line::{self, EventIds, Lines, Tail};
use super::snapshot::names;
use super::tables::{HEADS, META, MORE, Meta, NAMES, NamesSum, SOURCES, TOMBSTONES};
use super::{MAX_NAMES, SourceProgress, StoreError, damaged_record, tombstone};
use habitus_engine::domain::{RawEvent, RawValue};
use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The tables of a write transaction.
pub(super) struct Appending<'t> {
    heads: Table<'t, &'static [u8], &'static [u8]>,
    more: Table<'t, (&'static [u8], u32), &'static [u8]>,
    tombstones: Table<'t, &'static [u8; 32], i64>,
    has_tombstones: bool,
    names: Vec<String>,
    n_names_kept: usize,
    meta: Meta,
    /// The sequence before the transaction.
    first_sequence: u64,
    salt: [u8; 32],
}

/// A customer's records while lines are added to them.
struct Open {
    first_sequence: u64,
    about: Option<Vec<u8>>,
    /// The first chunk, where it is not the one that lines are added to.
    first: Option<Vec<u8>>,
    /// How many further chunks there are; lines are added to the last.
    n_more: u32,
    last: Vec<u8>,
    tail: Tail,
    head_changed: bool,
    /// Chunks that have become full, by number: nothing is written of a customer before all is well.
    full: Vec<(u32, Vec<u8>)>,
    /// Hashes of the event ids that are there; made when the first line with an id comes.
    ids: Option<HashSet<u64>>,
}

impl Open {
    fn add(&mut self, raw: &RawEvent<'_>) {
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
    fn is_nobody(&self) -> bool {
        self.about.is_none() && self.last.is_empty() && self.n_more == 0
    }

    /// A chunk that has become full and is not written yet. Their numbers follow one another.
    fn full_chunk(&self, number: u32) -> Option<&[u8]> {
        let (first, _) = self.full.first()?;
        let (_, lines) = self.full.get(number.checked_sub(*first)? as usize)?;
        Some(lines)
    }
}

impl<'t> Appending<'t> {
    pub fn open(
        transaction: &'t WriteTransaction,
        salt: [u8; 32],
    ) -> Result<Appending<'t>, StoreError> {
        let meta = transaction.open_table(META).map_err(StoreError::of)?;
        let meta = Meta::read(&meta)?.ok_or_else(|| StoreError::damaged("it has no format"))?;
        let names = names(&transaction.open_table(NAMES).map_err(StoreError::of)?, &meta)?;
        let tombstones = transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
        Ok(Appending {
            heads: transaction.open_table(HEADS).map_err(StoreError::of)?,
            more: transaction.open_table(MORE).map_err(StoreError::of)?,
            has_tombstones: !tombstones.is_empty().map_err(StoreError::of)?,
            tombstones,
            n_names_kept: names.len(),
            names,
            first_sequence: meta.sequence,
            meta,
            salt,
        })
    }

    /// Takes the records of one customer, whose numbers in the batch are given. Where what is kept of
    /// the customer is damaged they are refused, and those of others are not.
    pub fn customer(
        &mut self,
        batch: &Batch,
        records: &[usize],
        outcomes: &mut [Outcome],
    ) -> Result<(), StoreError> {
        let before = self.meta;
        match self.add_all(batch, records, outcomes) {
            Err(StoreError::DamagedRecord { .. }) => {
                self.meta = before;
                records.iter().for_each(|&record| outcomes[record] = Outcome::Damaged);
                Ok(())
            }
            other => other,
        }
    }

    fn add_all(
        &mut self,
        batch: &Batch,
        records: &[usize],
        outcomes: &mut [Outcome],
    ) -> Result<(), StoreError> {
        let Some(&first) = records.first() else { return Ok(()) };
        let customer = batch.customer(first);
        let Some(mut open) = self.take(customer)? else {
            records.iter().for_each(|&record| outcomes[record] = Outcome::Erased);
            return Ok(());
        };
        for &record in records {
            match batch.record(record) {
                Seen::About(about) if !self.has_room(about) => {
                    outcomes[record] = Outcome::TooManyNames;
                }
                Seen::About(about) => {
                    self.meta.abouts += 1;
                    match self.tell(customer, &mut open, about)? {
                        true => self.meta.sequence += 1,
                        false => outcomes[record] = Outcome::Duplicate,
                    }
                }
                Seen::Line(bytes, at) => {
                    // As text where it was text: other rules may read it in another way.
                    let mut lines = Lines::new(bytes, false);
                    let damaged = || StoreError::damaged("a record of a batch");
                    let raw = lines.read().map_err(|_| damaged())?.ok_or_else(damaged)?;
                    let (outcome, is_kept) = self.seen(customer, &mut open, &raw)?;
                    outcomes[record] = outcome;
                    if is_kept {
                        open.add(&raw);
                        self.meta.sequence += 1;
                        self.meta.lines += 1;
                        self.meta.newest = self.meta.newest.max(Some(at.0));
                    }
                }
            }
        }
        // Somebody new of whom nothing was taken stays unknown.
        if open.is_nobody() { Ok(()) } else { self.put(customer, open) }
    }

    /// Writes what is not a customer's, and tells the new numbers.
    pub fn finish(
        mut self,
        transaction: &WriteTransaction,
        source: Option<&SourceProgress>,
    ) -> Result<(), StoreError> {
        if self.names.len() > self.n_names_kept {
            self.meta.names = Some(NamesSum::of(&self.names));
        }
        let mut table = transaction.open_table(NAMES).map_err(StoreError::of)?;
        for (number, name) in self.names.iter().enumerate().skip(self.n_names_kept) {
            table.insert(number as u32, name.as_str()).map_err(StoreError::of)?;
        }
        if let Some(SourceProgress { digest, rows, finished }) = source {
            let mut sources = transaction.open_table(SOURCES).map_err(StoreError::of)?;
            sources.insert(digest.as_str(), (*rows, *finished)).map_err(StoreError::of)?;
        }
        self.meta.write(&mut transaction.open_table(META).map_err(StoreError::of)?)
    }

    /// The records of a customer; `None` of one who was erased.
    fn take(&self, customer: &str) -> Result<Option<Open>, StoreError> {
        let record = self.heads.get(customer.as_bytes()).map_err(StoreError::of)?;
        let Some(record) = record else {
            let hash = || tombstone(&self.salt, customer);
            let is_erased = self.has_tombstones
                && self.tombstones.get(&hash()).map_err(StoreError::of)?.is_some();
            return Ok((!is_erased).then(|| Open {
                first_sequence: self.first_sequence,
                about: None,
                first: None,
                n_more: 0,
                last: Vec::new(),
                tail: Tail::default(),
                head_changed: true,
                full: Vec::new(),
                ids: None,
            }));
        };
        let head = Head::take(customer, record.value()).ok_or_else(|| damaged_record(customer))?;
        let (first, last) = match head.n_more.checked_sub(1) {
            None => (None, head.lines.to_vec()),
            Some(number) => (Some(head.lines.to_vec()), self.chunk(customer, number)?),
        };
        Ok(Some(Open {
            first_sequence: head.first_sequence,
            about: head.about.map(<[u8]>::to_vec),
            first,
            n_more: head.n_more,
            tail: Tail::of(&last).map_err(|_| damaged_record(customer))?,
            last,
            head_changed: false,
            full: Vec::new(),
            ids: None,
        }))
    }

    fn chunk(&self, customer: &str, number: u32) -> Result<Vec<u8>, StoreError> {
        let record = self.more.get((customer.as_bytes(), number)).map_err(StoreError::of)?;
        let lines =
            record.as_ref().and_then(|record| chunk_lines(customer, number, record.value()));
        Ok(lines.ok_or_else(|| damaged_record(customer))?.to_vec())
    }

    /// What becomes of a line, and whether it is kept.
    fn seen(
        &self,
        customer: &str,
        open: &mut Open,
        raw: &RawEvent<'_>,
    ) -> Result<(Outcome, bool), StoreError> {
        let Some(id) = id_hash(raw) else { return Ok((Outcome::Accepted, true)) };
        let ids = match open.ids.take() {
            Some(ids) => ids,
            None => {
                let mut ids = HashSet::new();
                self.each_chunk(customer, open, |chunk| {
                    for id in EventIds::new(chunk) {
                        ids.insert(hash(id.map_err(|_| damaged_record(customer))?.1));
                    }
                    Ok(())
                })?;
                ids
            }
        };
        let is_known = ids.contains(&id);
        let ids = open.ids.insert(ids);
        ids.insert(id);
        if !is_known {
            return Ok((Outcome::Accepted, true));
        }
        // Two ids may share a hash, so the ids themselves decide. Only the lines that have this one
        // are read.
        let Some(wanted) = raw.event_id.map(RawValue::text) else {
            return Ok((Outcome::Accepted, true));
        };
        let (mut is_there, mut is_same) = (false, false);
        self.each_chunk(customer, open, |chunk| {
            let mut with_it: Vec<usize> = Vec::new();
            for known in EventIds::new(chunk) {
                let (line, known) = known.map_err(|_| damaged_record(customer))?;
                if hash(known) == id && known.text() == wanted {
                    with_it.push(line);
                }
            }
            let Some(&last) = with_it.last() else { return Ok(()) };
            let mut lines = Lines::new(chunk, false);
            for line in 0..=last {
                let known = lines.read().map_err(|_| damaged_record(customer))?;
                if with_it.contains(&line) {
                    is_there = true;
                    is_same |= known.is_some_and(|known| says_the_same(&known, raw));
                }
            }
            Ok(())
        })?;
        let outcome = if is_there { Outcome::Duplicate } else { Outcome::Accepted };
        Ok((outcome, !is_same))
    }

    fn each_chunk(
        &self,
        customer: &str,
        open: &Open,
        mut see: impl FnMut(&[u8]) -> Result<(), StoreError>,
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

    /// Whether the store can know all names of a record.
    fn has_room(&self, about: &About) -> bool {
        let is_new = |name: &&str| !self.names.iter().any(|known| known == name);
        let names = about.values.iter().map(|(name, _)| name.as_str());
        let n_new = names.filter(is_new).collect::<HashSet<_>>().len();
        n_new == 0 || self.names.len() + n_new <= MAX_NAMES
    }

    /// Takes over what is told of a customer, and says whether that was news.
    fn tell(&mut self, customer: &str, open: &mut Open, later: &About) -> Result<bool, StoreError> {
        let mut about = match &open.about {
            None => About::default(),
            Some(bytes) => {
                About::take(bytes, &self.names).ok_or_else(|| damaged_record(customer))?
            }
        };
        about.update(later.clone());
        let mut bytes = Vec::new();
        let names = &mut self.names;
        about.put(&mut bytes, |name| -> Result<u32, StoreError> {
            let known = names.iter().position(|known| known == name);
            let number = known.unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            Ok(number as u32)
        })?;
        if open.about.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        open.about = Some(bytes);
        open.head_changed = true;
        Ok(true)
    }

    fn put(&mut self, customer: &str, open: Open) -> Result<(), StoreError> {
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
        self.heads
            .insert(customer.as_bytes(), head.record(customer).as_slice())
            .map_err(StoreError::of)?;
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

/// A number that stands for a line's event id.
fn id_hash(raw: &RawEvent<'_>) -> Option<u64> {
    raw.event_id.filter(|id| !id.is_blank()).map(hash)
}

fn hash(id: RawValue<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.text_in(&mut itoa::Buffer::new()).hash(&mut hasher);
    hasher.finish()
}

/// Whether two lines have the same texts, whatever types their files had.
fn says_the_same(a: &RawEvent<'_>, b: &RawEvent<'_>) -> bool {
    let texts =
        |raw: &RawEvent<'_>| raw.fields().map(|field| field.map(|value| value.text().into_owned()));
    texts(a) == texts(b)
}
