//! What an operator asks of a store: who is erased, what it takes, whether it is whole, and that it
//! be written anew without what is gone.

use super::everybody::{Everybody, Held};
use super::guard::guarded;
use super::head::{CHUNK_BYTES, Head, chunk_lines, chunk_record};
use super::line::{self, Lines, Tail};
use super::tables::{HEADS, JOURNAL, META, MORE, Meta, NAMES, RUN, SALT, SOURCES, TOMBSTONES};
use super::waiting::{Change, Ranges, run};
use super::{
    FILE, SourceProgress, Store, StoreError, UNFINISHED, begin, damaged_record, finish, open,
};
use super::{tombstone, with_tables};
use habitus_engine::domain::{RawValue, Timestamp};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::Serialize;
use std::fs;
use std::ops::Bound;
use std::sync::Arc;

/// Records written in one transaction while a store is written anew.
const CUSTOMERS_AT_ONCE: usize = 100_000;

/// A local clock is at most so far ahead of UTC or behind it.
const MOST_OFFSET_MS: i64 = 15 * 3_600_000;

/// What was erased of a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Whether the store knew the customer. A tombstone stands in either case.
    pub was_known: bool,
    pub n_lines: u64,
    /// Whether anything was told of the customer besides events.
    pub had_attributes: bool,
    /// The store's sequence before the customer's first record.
    pub first_sequence: Option<u64>,
    /// The store's sequence after the erasure.
    pub sequence: u64,
}

/// What a store takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// [`Store::id`].
    pub id: String,
    pub format: u64,
    pub sequence: u64,
    pub customers: u64,
    pub lines: u64,
    /// Lines that wait to be put into their customers' records.
    pub waiting_lines: u64,
    pub erased_customers: u64,
    /// The newest instant of a line.
    pub newest: Option<String>,
    pub kept_from: Option<String>,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the records in it.
    pub stored_bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub customers: u64,
    pub lines: u64,
    /// Whether redb found its account of pages out of date and wrote it anew. It does so after some
    /// deletions too; no record is touched.
    pub mended: bool,
    /// What is wrong, each with its customer; empty of a store that is whole.
    pub faults: Vec<String>,
}

/// Faults that are told, at most.
const MOST_FAULTS: usize = 100;

impl Store {
    /// Removes all that is known of a customer, and keeps their records out from now on. Pages that
    /// held them are free, and written over when they are needed; [`Store::compact`] leaves none.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is removed then.
    pub fn erase(&self, customer: &str, at: Timestamp) -> Result<Erased, StoreError> {
        self.noting(self.database.writing(|| self.erase_all(customer, at)))
    }

    fn erase_all(&self, customer: &str, at: Timestamp) -> Result<Erased, StoreError> {
        let mut writing = self.begin_writing()?;
        let before = self.current.load_full();
        let waiting = before.ranges().lines(customer, u64::MAX);
        let transaction = self.begin()?;
        let erased = {
            let mut heads = transaction.open_table(HEADS).map_err(StoreError::of)?;
            let mut more = transaction.open_table(MORE).map_err(StoreError::of)?;
            let mut table = transaction.open_table(META).map_err(StoreError::of)?;
            let mut meta = read_meta(&table)?;
            let mut erased = Erased {
                was_known: false,
                n_lines: 0,
                had_attributes: false,
                first_sequence: None,
                sequence: 0,
            };
            let record = heads.remove(customer.as_bytes()).map_err(StoreError::of)?;
            let mut run = transaction.open_table(RUN).map_err(StoreError::of)?;
            let n_sorted = run::erase(&mut run, customer)?;
            let has_record = record.is_some() || waiting.has_record || n_sorted > 0;
            if let Some(record) = record {
                erased.was_known = true;
                // Who cannot be read can be erased all the same; there is only less to tell.
                if let Some(head) = Head::take(customer, record.value()) {
                    erased.had_attributes = head.about.is_some();
                    erased.first_sequence = Some(head.first_sequence);
                    erased.n_lines = n_in_chunk(customer, head.lines).unwrap_or(0);
                }
            }
            let all = (customer.as_bytes(), 0)..=(customer.as_bytes(), u32::MAX);
            more.retain_in(all, |(_, number), chunk| {
                let lines = chunk_lines(customer, number, chunk);
                erased.n_lines +=
                    lines.and_then(|lines| n_in_chunk(customer, lines).ok()).unwrap_or(0);
                false
            })
            .map_err(StoreError::of)?;
            erased.n_lines += n_sorted;
            erased.was_known |= n_sorted > 0;
            if !waiting.is_empty() {
                erased.was_known = true;
                erased.n_lines += waiting.iter().count() as u64;
                // Of a record that cannot be read, or a damaged line, which is put to wait again and
                // again, nobody knows since when it is there.
                if !has_record && waiting.iter().all(|line| !line.is_empty()) {
                    erased.first_sequence = waiting.first_sequence();
                }
            }
            meta.sequence += 1;
            erased.sequence = meta.sequence;
            meta.customers = meta.customers.saturating_sub(u64::from(erased.was_known));
            meta.lines = meta.lines.saturating_sub(erased.n_lines);
            meta.waiting = meta.waiting.saturating_sub(waiting.iter().count() as u64);
            meta.in_run = meta.in_run.saturating_sub(n_sorted);
            meta.write(&mut table)?;
            let mut tombstones = transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
            tombstones.insert(&tombstone(&self.salt, customer), at.0).map_err(StoreError::of)?;
            erased
        };
        writing.journal.erase(&transaction, customer)?;
        let ranges = match waiting.is_empty() {
            true => Arc::clone(before.ranges()),
            false => Arc::new(before.ranges().without(customer)),
        };
        let changed = (std::iter::once(customer), erased.sequence);
        let (change, journal) = (Change::default(), &mut writing.journal);
        let committed = self.commit(transaction, ranges, change, journal, changed);
        // It may be durable though nobody could be shown it.
        if let Some(histories) = &self.histories {
            histories.forget(customer);
        }
        writing.known.forget(customer);
        committed.map(|()| erased)
    }

    /// What stands for a customer's id where the id must not: a hash that only this store can make,
    /// hex.
    pub fn hash_of(&self, customer: &str) -> String {
        let hash = tombstone(&self.salt, customer);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// When a customer was erased; `None` of one who was not.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn erased_at(&self, customer: &str) -> Result<Option<Timestamp>, StoreError> {
        guarded(|| {
            let transaction = self.database.get()?.begin_read().map_err(StoreError::of)?;
            let tombstones = transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
            let found = tombstones.get(&tombstone(&self.salt, customer)).map_err(StoreError::of)?;
            Ok(found.map(|at| Timestamp(at.value())))
        })
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        let path = self.directory.join(FILE);
        let file = fs::metadata(&path).map_err(|source| StoreError::Io { path, source })?;
        Ok(file.len())
    }

    /// What the store takes. It walks all pages.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let snapshot = self.snapshot();
        guarded(|| {
            let transaction = self.database.get()?.begin_read().map_err(StoreError::of)?;
            let table = |definition| transaction.open_table(definition).map_err(StoreError::of);
            let stored = table(HEADS)?.stats().map_err(StoreError::of)?.stored_bytes();
            let more = transaction.open_table(MORE).map_err(StoreError::of)?;
            let more = more.stats().map_err(StoreError::of)?.stored_bytes();
            let run = transaction.open_table(RUN).map_err(StoreError::of)?;
            let run = run.stats().map_err(StoreError::of)?.stored_bytes();
            let journal = transaction.open_table(JOURNAL).map_err(StoreError::of)?;
            let journal = journal.stats().map_err(StoreError::of)?.stored_bytes();
            let tombstones = transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
            let meta = read_meta(&transaction.open_table(META).map_err(StoreError::of)?)?;
            Ok(Stats {
                id: self.id(),
                format: meta.format,
                sequence: snapshot.sequence(),
                customers: snapshot.n_customers(),
                lines: snapshot.n_lines(),
                waiting_lines: snapshot.n_waiting(),
                erased_customers: tombstones.len().map_err(StoreError::of)?,
                newest: snapshot.newest().map(|at| at.to_string()),
                kept_from: snapshot.kept_from().map(|at| at.to_string()),
                file_bytes: self.file_bytes()?,
                stored_bytes: stored + more + run + journal,
            })
        })
    }

    /// Reads everything, page by page and record by record.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read at all.
    pub fn check(self) -> Result<Checked, StoreError> {
        let Store { mut database, current, .. } = self;
        // Records come first: whose they are is what an operator needs to know, and redb does not
        // tell.
        let mut checked = Checked::default();
        let walked = guarded(|| checked.walk(database.get()?));
        checked.faults.extend(walked.err().map(|error| error.to_string()));
        // Whoever still held a snapshot would keep the database from being checked.
        drop(current);
        match database.check_integrity() {
            Ok(is_whole) => checked.mended = !is_whole,
            Err(error @ StoreError::Damaged { .. }) => checked.faults.push(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(checked)
    }

    /// Writes the store anew, without what was erased and without lines that are older than the
    /// retention at `now`. The old file is gone when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; the old file stays as it was then.
    pub fn compact(self, now: Timestamp) -> Result<Store, StoreError> {
        let _ = fs::remove_file(self.directory.join(UNFINISHED));
        let mut database = open(&self.directory, UNFINISHED, &self.settings)?;
        let kept_from = self.retained_from(now);
        database.writing(|| rewrite(self.database.get()?, database.get()?, kept_from))?;
        let (directory, settings) = (self.directory.clone(), self.settings.clone());
        // What the commits left free on their way.
        database.compact()?;
        drop(database);
        // The lock on the old file is held until the new one has its name.
        finish(&directory)?;
        drop(self);
        Store::open(&directory, &settings)
    }

    /// All files that were taken, or are being taken.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn sources(&self) -> Result<Vec<SourceProgress>, StoreError> {
        guarded(|| {
            let transaction = self.database.get()?.begin_read().map_err(StoreError::of)?;
            let sources = transaction.open_table(SOURCES).map_err(StoreError::of)?;
            let entries = sources.iter().map_err(StoreError::of)?;
            entries
                .map(|entry| {
                    let (digest, progress) = entry.map_err(StoreError::of)?;
                    let ((rows, finished), digest) = (progress.value(), digest.value().to_owned());
                    Ok(SourceProgress { digest, rows, finished })
                })
                .collect()
        })
    }
}

/// Writes all that one database holds into another, without lines that are too old.
pub(super) fn rewrite(
    from: &Database,
    database: &Database,
    kept_from: Option<Timestamp>,
) -> Result<(), StoreError> {
    let from = from.begin_read().map_err(StoreError::of)?;
    let mut meta = read_meta(&from.open_table(META).map_err(StoreError::of)?)?;
    let to = begin(database)?;
    with_tables(&to)?;
    copy(&from, &to, NAMES)?;
    copy(&from, &to, SOURCES)?;
    copy(&from, &to, TOMBSTONES)?;
    copy(&from, &to, SALT)?;
    to.commit().map_err(StoreError::of)?;

    let heads = from.open_table(HEADS).map_err(StoreError::of)?;
    let more = from.open_table(MORE).map_err(StoreError::of)?;
    let run = from.open_table(RUN).map_err(StoreError::of)?;
    let (ranges, _) = Ranges::read(&from)?;
    let ranges_now = ranges.emptied(meta.sequence);
    let before = meta.lines;
    (meta.lines, meta.customers, meta.waiting, meta.in_run) = (0, 0, 0, 0);
    meta.kept_from = kept_from.map(|at| at.0).max(meta.kept_from);
    let mut everybody =
        Everybody::from(Bound::Unbounded, &heads, &run, &ranges, u64::MAX)?.peekable();
    while everybody.peek().is_some() {
        let to = begin(database)?;
        let mut new = Rewritten::open(&to, kept_from)?;
        for one in everybody.by_ref().take(CUSTOMERS_AT_ONCE) {
            if let Some(n) = new.customer(&one?.held()?, &more)? {
                meta.customers += 1;
                meta.lines += n;
            }
        }
        drop(new);
        to.commit().map_err(StoreError::of)?;
    }
    if meta.lines != before {
        meta.sequence += 1;
    }
    let to = begin(database)?;
    ranges_now.write(&to)?;
    meta.write(&mut to.open_table(META).map_err(StoreError::of)?)?;
    to.commit().map_err(StoreError::of)
}

impl Checked {
    /// Reads all records, and notes what is wrong with them.
    fn walk(&mut self, database: &Database) -> Result<(), StoreError> {
        let transaction = database.begin_read().map_err(StoreError::of)?;
        let heads = transaction.open_table(HEADS).map_err(StoreError::of)?;
        let more = transaction.open_table(MORE).map_err(StoreError::of)?;
        let meta = read_meta(&transaction.open_table(META).map_err(StoreError::of)?)?;
        let run = transaction.open_table(RUN).map_err(StoreError::of)?;
        let (ranges, _) = Ranges::read(&transaction)?;
        let (mut n_heads, mut chunks) = (0, 0);
        for one in Everybody::from(Bound::Unbounded, &heads, &run, &ranges, u64::MAX)? {
            let one = one?;
            self.customers += 1;
            n_heads += u64::from(one.record().is_some());
            // A damaged page may lead past a record that is there.
            let found = heads.get(one.id.as_bytes()).map_err(StoreError::of)?;
            let counted = if found.as_ref().map(|found| found.value()) == one.record() {
                one.held().and_then(|held| n_lines(&held, &more))
            } else {
                let told = format!("customer `{}` is not found by their id", one.id);
                Err(StoreError::damaged(told))
            };
            match counted {
                Ok((n, n_more)) => {
                    self.lines += n;
                    chunks += n_more;
                }
                Err(fault) if self.faults.len() < MOST_FAULTS => {
                    self.faults.push(fault.to_string());
                }
                Err(_) => {}
            }
        }
        if self.faults.is_empty() {
            let (all_heads, n_more) =
                (heads.len().map_err(StoreError::of)?, more.len().map_err(StoreError::of)?);
            for (what, there, counted) in [
                ("records of customers", n_heads, all_heads),
                ("further chunks", chunks, n_more),
                ("customers", self.customers, meta.customers),
                ("lines", self.lines, meta.lines),
                ("lines that wait", ranges.n_lines(), meta.waiting),
                ("lines in the sorted run", run::n_lines(&run)?, meta.in_run),
            ] {
                if there != counted {
                    self.faults.push(format!("there are {there} {what}, {counted} were counted"));
                }
            }
        }
        Ok(())
    }
}

/// The tables of the new file.
struct Rewritten<'t> {
    heads: Table<'t, &'static [u8], &'static [u8]>,
    more: Table<'t, (&'static [u8], u32), &'static [u8]>,
    kept_from: Option<Timestamp>,
}

impl<'t> Rewritten<'t> {
    fn open(
        transaction: &'t WriteTransaction,
        kept_from: Option<Timestamp>,
    ) -> Result<Rewritten<'t>, StoreError> {
        Ok(Rewritten {
            heads: transaction.open_table(HEADS).map_err(StoreError::of)?,
            more: transaction.open_table(MORE).map_err(StoreError::of)?,
            kept_from,
        })
    }

    /// Writes a customer's records without what is too old, in full chunks, and says how many lines
    /// are left. Who has none left, and of whom nothing else is known, is left out.
    fn customer(
        &mut self,
        held: &Held<'_>,
        more: &impl ReadableTable<(&'static [u8], u32), &'static [u8]>,
    ) -> Result<Option<u64>, StoreError> {
        let (customer, head) = (held.customer, &held.head);
        let damaged = || damaged_record(customer);
        let mut chunks: Vec<Vec<u8>> = vec![Vec::new()];
        let (mut tail, mut n) = (Tail::default(), 0);
        held.each_chunk(more, |bytes| -> Result<(), StoreError> {
            // Once as it came, to be kept, and once by its number, to tell how old it is.
            let (mut lines, mut dated) = (Lines::new(bytes, false), Lines::new(bytes, true));
            while let Some(raw) = lines.read().map_err(|_| damaged())? {
                let time = dated.read().map_err(|_| damaged())?.and_then(|raw| raw.time);
                if self.kept_from.is_some_and(|from| is_before(time, from)) {
                    continue;
                }
                if chunks.last().is_none_or(|last| last.len() > CHUNK_BYTES) {
                    chunks.push(Vec::new());
                    tail = Tail::default();
                }
                if let Some(last) = chunks.last_mut() {
                    line::append(last, &mut tail, &raw);
                    n += 1;
                }
            }
            Ok(())
        })?;
        if n == 0 && head.about.is_none() {
            return Ok(None);
        }
        let (first, others) = chunks.split_first().ok_or_else(damaged)?;
        let n_more = others.len() as u32;
        let head = Head { n_more, lines: first, ..*head };
        self.heads
            .insert(customer.as_bytes(), head.record(customer).as_slice())
            .map_err(StoreError::of)?;
        for (number, lines) in (0..).zip(others) {
            let record = chunk_record(customer, number, lines);
            self.more
                .insert((customer.as_bytes(), number), record.as_slice())
                .map_err(StoreError::of)?;
        }
        Ok(Some(n))
    }
}

/// Whether a line is older than an instant in every zone. One whose time only rules can read is not.
fn is_before(time: Option<RawValue<'_>>, instant: Timestamp) -> bool {
    match time {
        Some(RawValue::Instant(ms)) => ms < instant.0,
        Some(RawValue::Local(ms)) => ms.saturating_add(MOST_OFFSET_MS) < instant.0,
        Some(RawValue::Date(day)) => {
            (i64::from(day) + 1) * super::MS_PER_DAY + MOST_OFFSET_MS < instant.0
        }
        _ => false,
    }
}

/// How many lines a customer has, and how many further chunks.
fn n_lines(
    held: &Held<'_>,
    more: &impl ReadableTable<(&'static [u8], u32), &'static [u8]>,
) -> Result<(u64, u64), StoreError> {
    let mut n = 0;
    held.each_line(more, true, |_| -> Result<(), StoreError> {
        n += 1;
        Ok(())
    })?;
    Ok((n, u64::from(held.head.n_more)))
}

/// How many lines a chunk of a customer has.
fn n_in_chunk(customer: &str, bytes: &[u8]) -> Result<u64, StoreError> {
    let mut lines = Lines::new(bytes, true);
    let mut n = 0;
    while lines.read().map_err(|_| damaged_record(customer))?.is_some() {
        n += 1;
    }
    Ok(n)
}

fn read_meta(table: &impl ReadableTable<&'static str, i64>) -> Result<Meta, StoreError> {
    Meta::read(table)?.ok_or_else(|| StoreError::damaged("it has no format"))
}

fn copy<K: redb::Key + 'static, V: redb::Value + 'static>(
    from: &redb::ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<(), StoreError> {
    let from = from.open_table(definition).map_err(StoreError::of)?;
    let mut to = to.open_table(definition).map_err(StoreError::of)?;
    for entry in from.iter().map_err(StoreError::of)? {
        let (key, value) = entry.map_err(StoreError::of)?;
        to.insert(key.value(), value.value()).map_err(StoreError::of)?;
    }
    Ok(())
}
