//! What a log says once it has been read: rows by customer, and an account of all rows.

use super::codec::Fields;
use super::partitions::{Counts, Draft, N_PARTS, PartError, Partitions};
use super::report::{Account, Example, HistoryCounts, IngestReport, RowCounts, Validation};
use super::rows::{RowVisitor, customer_of};
use super::{CustomersReport, IngestError, Memory, Reading};
use habitus_engine::domain::{
    AsOf, Attributes, Day, Duplicates, EventRules, History, RawEvent, Rejection, Repair, Timestamp,
    Zone,
};
use rayon::prelude::*;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// All accepted rows of a log, by customer, and what became of the other rows.
#[derive(Debug)]
pub struct Log {
    rules: EventRules,
    rows: Partitions,
    report: IngestReport,
    span: Option<Span>,
    /// What became of the rows of the customers file, where there is one.
    customers: Option<CustomersReport>,
    /// The newest time that it tells.
    newest_known: Option<Timestamp>,
    /// Bytes that histories may take at once.
    bound: u64,
}

/// What is noted beside rows on disk when all of them are there.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Kept {
    report: IngestReport,
    span: Option<Span>,
    customers: Option<CustomersReport>,
    newest_known: Option<Timestamp>,
    counts: Counts,
    names: Vec<String>,
}

/// Several parts for each thread, so that none waits long for the others.
const PARTS_PER_THREAD: usize = 4;

/// The name of that note.
const NOTE: &str = "log.json";

/// The times of the first and the last accepted row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

/// The customers of one bucket of ids, before they are histories.
#[derive(Debug, Clone, Copy)]
pub struct Part<'l> {
    pub number: usize,
    log: &'l Log,
    as_of: AsOf,
}

impl Part<'_> {
    /// Makes the histories one after the other, in the order of their customers' ids, and shows each.
    /// Returns what became of these customers' rows by the as-of that was asked.
    ///
    /// # Errors
    /// Where rows on disk cannot be read.
    pub fn each(&self, mut see: impl FnMut(History)) -> Result<HistoryCounts, IngestError> {
        let rules = &self.log.rules;
        let dropped = rules.duplicates == Duplicates::Drop;
        let mut counts = HistoryCounts::default();
        let shaped = self.log.rows.each_shaped(self.number, rules, |shaped| {
            counts.add(&shaped, dropped, self.as_of);
            see(shaped.history);
        });
        shaped.map_err(|error| match error {
            PartError::Io(source) => IngestError::Spill { source },
            PartError::TwoCustomers { customer } => IngestError::TwoCustomers { customer },
        })?;
        Ok(counts)
    }

    /// All histories at once.
    ///
    /// # Errors
    /// As [`Part::each`].
    pub fn histories(&self) -> Result<(Vec<History>, HistoryCounts), IngestError> {
        let mut histories = Vec::new();
        let counts = self.each(|history| histories.push(history))?;
        Ok((histories, counts))
    }
}

impl Log {
    /// Where rows went to disk, notes beside them all that is needed to go on without reading the
    /// sources again: [`Log::reopen`].
    ///
    /// # Errors
    /// Where the disk refuses it.
    pub fn keep(&mut self, directory: &Path) -> Result<(), IngestError> {
        if !self.is_spilled() {
            return Ok(());
        }
        let kept = self.rows.flush().and_then(|()| self.rows.sync()).and_then(|()| {
            let note = Kept {
                report: self.report.clone(),
                span: self.span,
                customers: self.customers.clone(),
                newest_known: self.newest_known,
                counts: self.rows.counts(),
                names: self.rows.names().to_vec(),
            };
            let unfinished = directory.join("log.json.part");
            let file = File::create(&unfinished)?;
            serde_json::to_writer(&file, &note)?;
            file.sync_all()?;
            std::fs::rename(unfinished, directory.join(NOTE))
        });
        kept.map_err(|source| IngestError::Spill { source })
    }

    /// The log whose rows an earlier run kept in `directory`; `None` where there is none, or not all
    /// of it.
    pub fn reopen(directory: &Path, rules: &EventRules, memory: &Memory) -> Option<Log> {
        let note = File::open(directory.join(NOTE)).ok()?;
        let kept = serde_json::from_reader(BufReader::new(note)).ok()?;
        let Kept { report, span, customers, newest_known, counts, names } = kept;
        let rows = Partitions::reopen(directory.to_owned(), &counts, names.into());
        // What a crash of the machine took is read again.
        if !rows.is_whole() {
            return None;
        }
        let (rules, bound) = (rules.clone(), memory.histories());
        Some(Log { rules, rows, report, span, customers, newest_known, bound })
    }

    /// Whether its rows are on disk.
    pub fn is_spilled(&self) -> bool {
        self.rows.is_spilled()
    }

    /// The times of the first and the last accepted row.
    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// Number of accepted rows, whatever their time.
    pub fn n_rows(&self) -> u64 {
        self.rows.n_rows()
    }

    /// The end of the day of the newest accepted row; where there is no log, of the newest time that
    /// the customers file tells.
    pub fn default_as_of(&self, zone: &Zone) -> Option<AsOf> {
        let newest = self.span.map(|span| span.newest).or(self.newest_known);
        newest.map(|newest| zone.end_of(zone.day_of(newest)))
    }

    /// What became of the rows of the customers file, where there is one.
    pub fn customers(&self) -> Option<&CustomersReport> {
        self.customers.as_ref()
    }

    /// Goes through the log part by part: `work` sees each part on one of several threads, and `take`
    /// gets what came of it in the order of the parts.
    ///
    /// # Errors
    /// The first error of `work`, and of `take`.
    pub fn each_part<T: Send, E: From<IngestError>>(
        &self,
        as_of: AsOf,
        work: impl Fn(Part<'_>) -> Result<T, IngestError> + Sync,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let most = PARTS_PER_THREAD * rayon::current_num_threads();
        let at_once = self.rows.at_once(self.bound).min(most);
        let parts: Vec<usize> = (0..N_PARTS).filter(|&part| self.rows.has(part)).collect();
        for several in parts.chunks(at_once) {
            let done: Vec<Result<T, IngestError>> = several
                .par_iter()
                .with_max_len(1)
                .map(|&number| work(Part { number, log: self, as_of }))
                .collect();
            for result in done {
                take(result?)?;
            }
        }
        Ok(())
    }

    /// All histories, sorted by customer id, for whoever keeps them in memory.
    ///
    /// # Errors
    /// Where rows on disk cannot be read.
    pub fn histories(&self, as_of: AsOf) -> Result<(Vec<History>, HistoryCounts), IngestError> {
        let mut histories = Vec::new();
        let mut counts = HistoryCounts::default();
        self.each_part(
            as_of,
            |part| part.histories(),
            |(of_part, counts_of_part)| {
                histories.extend(of_part);
                counts += counts_of_part;
                Ok::<_, IngestError>(())
            },
        )?;
        histories.sort_unstable_by(|a, b| a.customer().cmp(b.customer()));
        Ok((histories, counts))
    }

    /// What became of the rows, seen from an as-of. Whatever is dated later is only counted as
    /// such, so that rows to come change no other number.
    pub fn counts(&self, as_of: AsOf, histories: &HistoryCounts) -> RowCounts {
        self.report.counts(as_of, histories)
    }

    /// The same counts with examples, to be shown.
    pub fn validation(&self, as_of: AsOf, histories: &HistoryCounts) -> Validation {
        let account = Account {
            counts: self.counts(as_of, histories),
            rejected_examples: self.report.rejected_examples(as_of),
            repaired_examples: self.report.repaired_examples(as_of),
            customers: self.customers.clone(),
        };
        Validation { as_of, account }
    }

    /// The share of rejected rows among all, in `[0, 1]`; rows that a rule leaves out are no fault.
    pub fn rejected_share(&self) -> f64 {
        self.report.rejected_share(self.n_rows())
    }
}

/// Hands rows to the event rules and keeps what comes of them, whatever file format they are from.
pub(super) struct Collector<'a> {
    rules: &'a EventRules,
    now: Timestamp,
    as_of: Option<AsOf>,
    bound: u64,
    rows: Partitions,
    report: IngestReport,
    span: Option<Span>,
    newest_known: Option<Timestamp>,
    /// Of the row that is looked at.
    repairs: Vec<Repair>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(reading: &Reading<'a>, rows: Partitions) -> Collector<'a> {
        Collector {
            rules: reading.rules,
            now: reading.now,
            as_of: reading.as_of,
            bound: reading.memory.histories(),
            rows,
            report: IngestReport::default(),
            span: None,
            newest_known: None,
            repairs: Vec::new(),
        }
    }

    /// By what rows become events, and the clock.
    pub(super) fn rules(&self) -> (&'a EventRules, Timestamp) {
        (self.rules, self.now)
    }

    /// What makes collectors of the same sort with nothing in their accounts, which never go to disk
    /// by themselves.
    pub(super) fn forks(&self) -> impl Fn() -> Collector<'a> + Sync + use<'a> {
        let rows = self.rows.forks();
        let &Collector { rules, now, as_of, bound, .. } = self;
        move || Collector {
            rules,
            now,
            as_of,
            bound,
            rows: rows.fork(),
            report: IngestReport::default(),
            span: None,
            newest_known: None,
            repairs: Vec::new(),
        }
    }

    /// Takes what a fork collected, as if it had come here row by row.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub(super) fn join(&mut self, fork: Collector<'_>) -> Result<(), IngestError> {
        self.rows.join(fork.rows).map_err(|source| IngestError::Spill { source })?;
        self.report.join(fork.report);
        if let Some(span) = fork.span {
            self.widen(span);
        }
        Ok(())
    }

    /// There were rows at these times.
    #[inline]
    fn widen(&mut self, by: Span) {
        let span = self.span.get_or_insert(by);
        *span = Span { oldest: span.oldest.min(by.oldest), newest: span.newest.max(by.newest) };
    }

    /// Takes one row. The example is made only if the report keeps it.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    fn take(
        &mut self,
        raw: &RawEvent<'_>,
        example: impl Fn() -> Example,
    ) -> Result<(), IngestError> {
        self.repairs.clear();
        // It is looked at where it stands: moving an event costs as much as storing it.
        match &self.rules.event(raw, self.now, &mut self.repairs) {
            Ok(event) => {
                let at = event.at;
                for &repair in &self.repairs {
                    self.report.repair(repair, self.when(at), at, &example);
                }
                let mut buffer = itoa::Buffer::new();
                // Who has no customer was rejected.
                let customer = customer_of(raw, &mut buffer).unwrap_or_default();
                self.keep(&customer, at, &Fields::of(event))
            }
            &Err(rejection) => {
                self.reject(rejection, self.time_of(raw, rejection), example);
                Ok(())
            }
        }
    }

    /// Keeps a row that was accepted and of which there is nothing to tell.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    #[inline(always)]
    pub(super) fn keep(
        &mut self,
        customer: &str,
        at: Timestamp,
        fields: &Fields<'_>,
    ) -> Result<(), IngestError> {
        self.widen(Span { oldest: at, newest: at });
        let added = self.rows.add(customer, at, fields);
        added.map_err(|source| IngestError::Spill { source })
    }

    /// Keeps many plain purchases.
    ///
    /// # Errors
    /// As [`Collector::keep`].
    pub(super) fn keep_all(&mut self, rows: Draft<'_>) -> Result<(), IngestError> {
        let Some((oldest, newest)) = rows.span() else { return Ok(()) };
        self.widen(Span { oldest, newest });
        self.rows.add_batch(rows).map_err(|source| IngestError::Spill { source })
    }

    /// Counts a row that cannot be taken, with its time where that can be read.
    fn reject(
        &mut self,
        rejection: Rejection,
        at: Option<Timestamp>,
        example: impl Fn() -> Example,
    ) {
        let day = at.map(|at| self.when(at));
        self.report.reject(rejection, day, at, example);
    }

    /// Takes what a customers file says of one customer.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub(super) fn take_customer(
        &mut self,
        customer: &str,
        attributes: &Attributes,
    ) -> Result<(), IngestError> {
        let ended = attributes.label.and_then(|label| label.at);
        self.newest_known = self.newest_known.max(attributes.registered).max(ended);
        let added = self.rows.add_customer(customer, attributes);
        added.map_err(|source| IngestError::Spill { source })
    }

    /// Makes the rows of all forks its own, which is called when they have come back.
    pub(super) fn settle(&mut self) {
        self.rows.settle();
    }

    pub(super) fn finish(mut self, customers: Option<CustomersReport>) -> Log {
        self.rows.settle();
        Log {
            rules: self.rules.clone(),
            rows: self.rows,
            report: self.report,
            span: self.span,
            customers,
            newest_known: self.newest_known,
            bound: self.bound,
        }
    }

    /// The day under which a row is counted. An as-of that was asked may lie within a day; rows of
    /// that day after it then count for the next.
    fn when(&self, at: Timestamp) -> Day {
        let day = self.rules.zone.day_of(at);
        match self.as_of {
            Some(as_of) if day == as_of.day && at > as_of.at => day.plus(1),
            _ => day,
        }
    }

    /// A faulty row is dated too where possible, because one that lies after the as-of is ignored
    /// with its fault. A time in the future is itself the fault: it is told from every as-of.
    fn time_of(&self, raw: &RawEvent<'_>, rejection: Rejection) -> Option<Timestamp> {
        if rejection == Rejection::FutureTime {
            return None;
        }
        self.rules.time(raw).ok().map(|time| time.at)
    }
}

impl RowVisitor for Collector<'_> {
    type Error = IngestError;

    fn visit(
        &mut self,
        raw: Result<&RawEvent<'_>, Rejection>,
        example: impl Fn() -> Example,
    ) -> Result<(), IngestError> {
        match raw {
            Ok(raw) => self.take(raw, example),
            Err(rejection) => {
                self.reject(rejection, None, example);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{as_of, counts, histories, log, rules};
    use habitus_engine::domain::{Rejection, Repair};
    use std::collections::BTreeMap;

    const TEXT: &str = "id,date,amount
1,1997-01-01,5.005
2,1997-06-01,5
 1 ,1997-06-02,5.015
3,1997-01-01,x
3,1997-06-02,x
,1997-06-02,1
3,1997-01-01
4,2999-01-01,1
";

    #[test]
    fn rows_after_the_as_of_are_counted_apart() {
        let log = log(TEXT).unwrap();
        let before = counts(&log, as_of("1997-06-01"));
        assert_eq!((before.rows, before.accepted, before.after_as_of), (8, 2, 3));
        let rejected = BTreeMap::from([
            (Rejection::Ragged, 1),
            (Rejection::FutureTime, 1),
            (Rejection::UnreadableAmount, 1),
        ]);
        assert_eq!(before.rejected, rejected);
        assert_eq!(before.repaired, BTreeMap::from([(Repair::AmountRounded, 1)]));

        let after = counts(&log, as_of("1997-06-02"));
        assert_eq!((after.rows, after.accepted, after.after_as_of), (8, 3, 0));
        assert_eq!(after.rejected.values().sum::<u64>(), 5);
        assert_eq!(after.repaired, BTreeMap::from([(Repair::AmountRounded, 2)]));
    }

    #[test]
    fn the_default_as_of_is_the_end_of_the_newest_day() {
        let log = log(TEXT).unwrap();
        assert_eq!(log.default_as_of(&rules().zone), Some(as_of("1997-06-02")));
        let empty = super::super::fixture::log("id,date,amount\n").unwrap();
        assert_eq!(empty.default_as_of(&rules().zone), None);
    }

    #[test]
    fn blanks_around_an_id_do_not_make_another_customer() {
        let histories = histories(&log(TEXT).unwrap());
        let customers: Vec<&str> = histories.iter().map(|h| h.customer().as_str()).collect();
        assert_eq!(customers, ["1", "2"]);
    }
}
