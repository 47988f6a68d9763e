//! What the store holds at one moment, for any number of readers.

use super::about::About;
use super::batch::{Batch, Outcome, Seen};
use super::everybody::{Everybody, Held};
use super::guard::{guarded, guarded_with};
use super::history_cache::{CacheCounts, HistoryCache, Shaping};
use super::line::Lines;
use super::tables::{HEADS, META, MORE, Meta, NAMES, RUN};
use super::twins::Twins;
use super::waiting::{Journal, Ranges, Waiting, run};
use super::{StoreError, damaged_record};
use crate::panics::outside;
use habitus_engine::domain::{
    Attributes, CustomerId, Event, EventRules, History, RawEvent, Timestamp,
};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata,
};
use std::ops::Bound;
use std::sync::Arc;

/// About what a line takes: flags, time, amount and quantity.
const USUAL_BYTES: usize = 12;

/// What the store held when it was taken. It does not change, and no writer waits for it.
pub struct Snapshot {
    heads: ReadOnlyTable<&'static [u8], &'static [u8]>,
    more: ReadOnlyTable<(&'static [u8], u32), &'static [u8]>,
    run: ReadOnlyTable<(&'static [u8], &'static [u8]), &'static [u8]>,
    names: Arc<[String]>,
    meta: Meta,
    /// What waits, of this moment and of later ones.
    ranges: Arc<Ranges>,
    histories: Option<Arc<HistoryCache>>,
}

impl Snapshot {
    /// What is durable now, where histories are kept that were read, and the journal of what waits.
    pub(super) fn first(
        database: &Database,
        histories: Option<Arc<HistoryCache>>,
    ) -> Result<(Snapshot, Journal), StoreError> {
        let transaction = database.begin_read().map_err(StoreError::of)?;
        let (ranges, journal) = Ranges::read(&transaction)?;
        let snapshot = Snapshot::of(&transaction, None, Arc::new(ranges), histories)?;
        let (waiting, found) = (snapshot.meta.waiting, snapshot.ranges.n_lines());
        if waiting != found {
            let told = format!("{waiting} lines are to wait, and {found} are in the journal");
            return Err(StoreError::damaged(told));
        }
        Ok((snapshot, journal))
    }

    /// What is durable now, after this. Names that it knew are taken from it.
    pub(super) fn next(
        &self,
        database: &Database,
        ranges: Arc<Ranges>,
    ) -> Result<Snapshot, StoreError> {
        let transaction = database.begin_read().map_err(StoreError::of)?;
        Snapshot::of(&transaction, Some(&self.names), ranges, self.histories.clone())
    }

    fn of(
        transaction: &ReadTransaction,
        names_before: Option<&Arc<[String]>>,
        ranges: Arc<Ranges>,
        histories: Option<Arc<HistoryCache>>,
    ) -> Result<Snapshot, StoreError> {
        let heads = transaction.open_table(HEADS).map_err(StoreError::of)?;
        let more = transaction.open_table(MORE).map_err(StoreError::of)?;
        let run = transaction.open_table(RUN).map_err(StoreError::of)?;
        let meta = transaction.open_table(META).map_err(StoreError::of)?;
        let meta = Meta::read(&meta)?.ok_or_else(|| StoreError::damaged("it has no format"))?;
        let table = transaction.open_table(NAMES).map_err(StoreError::of)?;
        let n_names = table.len().map_err(StoreError::of)?;
        let known = names_before.filter(|names| names.len() as u64 == n_names);
        let names = match known {
            Some(names) => Arc::clone(names),
            None => names(&table, &meta)?.into(),
        };
        Ok(Snapshot { heads, more, run, names, meta, ranges, histories })
    }

    /// What waits, of this moment and of later ones.
    pub(super) fn ranges(&self) -> &Arc<Ranges> {
        &self.ranges
    }

    /// How often the store had changed: by a record, an erasure or a compaction that left events out.
    /// Answers from snapshots of one sequence are the same.
    pub fn sequence(&self) -> u64 {
        self.meta.sequence
    }

    /// How many customers it knows.
    pub fn n_customers(&self) -> u64 {
        self.meta.customers
    }

    /// How many lines it holds.
    pub fn n_lines(&self) -> u64 {
        self.meta.lines
    }

    /// How many of them wait to be put into their customers' records.
    pub fn n_waiting(&self) -> u64 {
        self.meta.waiting + self.meta.in_run
    }

    /// The newest instant of a line.
    pub fn newest(&self) -> Option<Timestamp> {
        self.meta.newest.map(Timestamp)
    }

    /// Events before this instant may be gone, so that nothing can be said of earlier ones.
    pub fn kept_from(&self) -> Option<Timestamp> {
        self.meta.kept_from.map(Timestamp)
    }

    /// Whether anything was ever told of a customer besides events.
    pub fn knows_attributes(&self) -> bool {
        self.meta.abouts > 0
    }

    /// The history of a customer under these rules, of events from `kept_from` on; `None` of somebody
    /// who is not here. What the rules cannot read is not part of it, as it would not be of a log.
    ///
    /// # Errors
    /// [`StoreError`] where what was kept cannot be read.
    pub fn history(
        &self,
        customer: &str,
        rules: &EventRules,
        kept_from: Option<Timestamp>,
    ) -> Result<Option<History>, StoreError> {
        self.read(customer, |held| self.shaped(held, rules, kept_from))
    }

    /// The same for an answer: without the ids of orders and events, and from memory where the history
    /// was asked for before and is what it was.
    ///
    /// # Errors
    /// [`StoreError`] where what was kept cannot be read.
    pub fn recall(
        &self,
        customer: &str,
        shaping: &Shaping<'_>,
    ) -> Result<Option<History>, StoreError> {
        let Some(histories) = &self.histories else {
            return self.history(customer, shaping.rules, shaping.kept_from);
        };
        if let Some(known) = histories.get(customer, self.sequence(), shaping, &self.names) {
            return Ok(Some(known));
        }
        self.read(customer, |held| {
            let history = self.shaped(held, shaping.rules, shaping.kept_from)?;
            histories.keep(&history, held.head.about, self.sequence(), shaping);
            Ok(history)
        })
    }

    /// What is held of histories that were asked for; `None` where none are.
    pub fn recalled(&self) -> Option<CacheCounts> {
        self.histories.as_ref().map(|histories| histories.counts())
    }

    /// Makes something of what is held of a customer; `None` of somebody who is not here.
    fn read<T>(
        &self,
        customer: &str,
        make: impl FnOnce(&Held<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        guarded(|| {
            let record = self.heads.get(customer.as_bytes()).map_err(StoreError::of)?;
            let sorted = match self.meta.in_run {
                0 => Waiting::default(),
                _ => run::lines(&self.run, customer)?,
            };
            let waiting = match self.meta.waiting {
                0 => sorted,
                _ => sorted.and(self.ranges.lines(customer, self.sequence())),
            };
            if record.is_none() && waiting.is_empty() {
                return Ok(None);
            }
            let record = record.as_ref().map(|record| record.value());
            make(&Held::of(customer, record, &waiting)?).map(Some)
        })
    }

    /// Whether there is anything of a customer, where no line has the event id of one of these of a batch.
    pub(super) fn lacks(
        &self,
        batch: &Batch,
        records: &[usize],
    ) -> Result<Option<bool>, StoreError> {
        let Some(&first) = records.first() else { return Ok(None) };
        let customer = batch.customer(first);
        let found = self.read(customer, |held| {
            let mut twins = Twins::new(customer, records.len());
            for &record in records {
                let Seen::Line(line, _) = batch.record(record) else { return Ok(None) };
                let mut lines = Lines::new(line, false);
                let Ok(Some(raw)) = lines.read() else { return Ok(None) };
                let seen = twins.seen(&raw, |see| held.each_chunk(&self.more, see))?;
                if seen.0 != Outcome::Accepted {
                    return Ok(None);
                }
            }
            Ok(Some(true))
        })?;
        Ok(found.unwrap_or(Some(false)))
    }

    /// Up to `n` histories of the customers after this id, in the order of ids.
    ///
    /// # Errors
    /// [`StoreError`] where what was kept cannot be read.
    pub fn page(
        &self,
        after: Option<&str>,
        n: usize,
        rules: &EventRules,
        kept_from: Option<Timestamp>,
    ) -> Result<Vec<History>, StoreError> {
        guarded(|| {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let everybody = self.everybody(start)?.take(n);
            everybody.map(|one| self.shaped(&one?.held()?, rules, kept_from)).collect()
        })
    }

    /// The customers from here on.
    pub(super) fn everybody(&self, start: Bound<&str>) -> Result<Everybody<'_>, StoreError> {
        Everybody::from(start, &self.heads, &self.run, &self.ranges, self.sequence())
    }

    /// Shows each chunk of lines of a customer.
    pub(super) fn each_chunk(
        &self,
        held: &Held<'_>,
        see: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        held.each_chunk(&self.more, see)
    }

    /// Shows every line as it came, customer by customer in the order of ids, and what is told of
    /// each customer besides.
    ///
    /// # Errors
    /// [`StoreError`] where what was kept cannot be read, and the first error of `see`.
    pub fn each<E: From<StoreError>>(
        &self,
        mut see: impl FnMut(&str, Kept<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut see = |customer: &str, kept: Kept<'_>| outside(|| see(customer, kept));
        guarded_with(|| {
            for one in self.everybody(Bound::Unbounded)? {
                let one = one?;
                let (customer, held) = (one.id.as_str(), one.held()?);
                if let Some(about) = held.head.about {
                    let about = About::take(about, &self.names);
                    see(customer, Kept::About(&about.ok_or_else(|| damaged_record(customer))?))?;
                }
                held.each_line(&self.more, false, |raw| see(customer, Kept::Line(raw)))?;
            }
            Ok(())
        })
    }

    fn shaped(
        &self,
        held: &Held<'_>,
        rules: &EventRules,
        kept_from: Option<Timestamp>,
    ) -> Result<History, StoreError> {
        let (customer, head) = (held.customer, &held.head);
        let about: Option<Attributes> = match head.about {
            None => None,
            Some(about) => {
                let attributes = About::attributes(about, &self.names);
                Some(attributes.ok_or_else(|| damaged_record(customer))?)
            }
        };
        let mut events: Vec<Event> = Vec::with_capacity(head.lines.len() / USUAL_BYTES + 1);
        // Nothing is later than this clock: an as-of will do what a batch's clock does.
        let now = Timestamp(i64::MAX);
        let mut repairs = Vec::new();
        held.each_line(&self.more, rules.time_format.is_none(), |raw| {
            repairs.clear();
            if let Ok(event) = rules.event(raw, now, &mut repairs)
                && kept_from.is_none_or(|from| event.at >= from)
            {
                events.push(event);
            }
            Ok::<(), StoreError>(())
        })?;
        let shaped = rules.shape(CustomerId::new(customer), events);
        Ok(shaped.history.with_attributes(about))
    }
}

/// Something that the store keeps of a customer.
#[derive(Debug, Clone, Copy)]
pub enum Kept<'a> {
    Line(&'a RawEvent<'a>),
    About(&'a About),
}

/// The names of attributes in the order of their numbers.
pub(super) fn names(
    table: &impl ReadableTable<u32, &'static str>,
    meta: &Meta,
) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in table.iter().map_err(StoreError::of)? {
        let (number, name) = entry.map_err(StoreError::of)?;
        if number.value() as usize != names.len() {
            return Err(StoreError::damaged("a name of an attribute is missing"));
        }
        names.push(name.value().to_owned());
    }
    if meta.names.is_some_and(|sum| !sum.vouches_for(&names)) {
        return Err(StoreError::damaged("a name of an attribute is not what was written"));
    }
    Ok(names)
}
