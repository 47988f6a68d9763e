//! What became of the rows of a log, by reason and with examples, as seen from an as-of.

use super::CustomersReport;
use habitus_engine::domain::{AsOf, Day, Event, Rejection, Repair, Shaped, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// How many rows per reason are kept to be shown.
const EXAMPLES_PER_REASON: usize = 3;

/// What became of the rows. `rows` is the sum of the accepted, the dropped, the later and the
/// rejected ones; a repaired row is an accepted one, and counts under each of its repairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    pub rows: u64,
    pub accepted: u64,
    pub after_as_of: u64,
    pub rejected: BTreeMap<Rejection, u64>,
    pub repaired: BTreeMap<Repair, u64>,
    #[serde(flatten)]
    pub shaped: ShapeCounts,
}

/// What the history step did with readable rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeCounts {
    /// Rows with the event id of an earlier one, dropped.
    pub repeated_ids_dropped: u64,
    /// Rows equal to another in every field, without an id; kept and accepted.
    pub exact_duplicates_kept: u64,
    /// The same, dropped because the configuration says so.
    pub exact_duplicates_dropped: u64,
    /// Accepted rows that are lines of an order of several.
    pub order_lines: u64,
    /// The orders that they became.
    pub orders: u64,
}

/// What became of readable rows up to an as-of, summed over histories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryCounts {
    pub accepted: u64,
    pub after_as_of: u64,
    pub shaped: ShapeCounts,
}

impl HistoryCounts {
    pub(super) fn add(&mut self, shaped: &Shaped, duplicates_dropped: bool, as_of: AsOf) {
        let history = &shaped.history;
        let rows = |events: &[Event]| events.iter().map(Event::n_rows).sum::<u64>();
        let all = rows(history.events());
        // Mostly nothing is later, and then there is nothing to look for.
        let has_later = history.newest().is_some_and(|newest| newest > as_of.at);
        let seen = if has_later { history.until(as_of) } else { history.events().into() };
        let accepted = if has_later { rows(&seen) } else { all };
        let mut later = all - accepted;
        let mut by_then = |rows: &[Event], count_later: bool| {
            let seen = rows.iter().filter(|row| row.at <= as_of.at).count() as u64;
            later += if count_later { rows.len() as u64 - seen } else { 0 };
            seen
        };
        let counts = &mut self.shaped;
        counts.repeated_ids_dropped += by_then(&shaped.repeated_ids, true);
        let exact = by_then(&shaped.exact_duplicates, duplicates_dropped);
        if duplicates_dropped {
            counts.exact_duplicates_dropped += exact;
        } else {
            counts.exact_duplicates_kept += exact;
        }
        if accepted > seen.len() as u64 {
            for order in seen.iter().filter(|event| event.n_rows() > 1) {
                counts.orders += 1;
                counts.order_lines += order.n_rows();
            }
        }
        self.accepted += accepted;
        self.after_as_of += later;
    }
}

impl AddAssign for HistoryCounts {
    fn add_assign(&mut self, other: HistoryCounts) {
        self.accepted += other.accepted;
        self.after_as_of += other.after_as_of;
        let (ours, theirs) = (&mut self.shaped, other.shaped);
        ours.repeated_ids_dropped += theirs.repeated_ids_dropped;
        ours.exact_duplicates_kept += theirs.exact_duplicates_kept;
        ours.exact_duplicates_dropped += theirs.exact_duplicates_dropped;
        ours.order_lines += theirs.order_lines;
        ours.orders += theirs.orders;
    }
}

/// One row that was rejected or repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    pub file: String,
    /// The line on which the row starts, or the number of a Parquet row, counted from 1.
    pub line: u64,
    /// The row, shortened, without control characters.
    pub text: String,
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// The counts for one as-of with examples: to print, or as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    #[serde(serialize_with = "as_instant")]
    pub as_of: AsOf,
    #[serde(flatten)]
    pub account: Account,
}

/// What became of the rows, with examples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub counts: RowCounts,
    pub rejected_examples: BTreeMap<Rejection, Vec<Example>>,
    pub repaired_examples: BTreeMap<Repair, Vec<Example>>,
    /// The same of the customers file, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customers: Option<CustomersReport>,
}

impl Validation {
    /// The same with examples by file and line alone, for what is kept with a model version, which
    /// holds no customer rows.
    pub fn without_text(&self) -> Validation {
        let mut validation = self.clone();
        let account = &mut validation.account;
        let rejected = account.rejected_examples.values_mut().flatten();
        let repaired = account.repaired_examples.values_mut().flatten();
        rejected.chain(repaired).for_each(|example| example.text.clear());
        account.customers = account.customers.as_ref().map(CustomersReport::without_text);
        validation
    }
}

impl fmt::Display for Validation {
    /// Several lines, without a newline after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { counts, rejected_examples, repaired_examples, customers } = &self.account;
        let mut rejected = counts.rejected.clone();
        let left_out = rejected.remove(&Rejection::Ignored).unwrap_or(0);
        let shaped = &counts.shaped;
        write!(f, "{:>9}  rows read", counts.rows)?;
        write!(f, "\n{:>9}  accepted", counts.accepted)?;
        for (count, what) in [
            (shaped.repeated_ids_dropped, "dropped: an earlier row has the same event id"),
            (shaped.exact_duplicates_dropped, "dropped: another row is equal in every field"),
            (left_out, "left out by a rule"),
        ] {
            if count > 0 {
                write!(f, "\n{count:>9}  {what}")?;
            }
        }
        write!(f, "\n{:>9}  ignored: later than the as-of {}", counts.after_as_of, self.as_of.at)?;
        write!(f, "\n{:>9}  rejected", rejected.values().sum::<u64>())?;
        reasons(f, &rejected, rejected_examples)?;
        write!(f, "\n{:>9}  notes on readable rows", counts.repaired.values().sum::<u64>())?;
        reasons(f, &counts.repaired, repaired_examples)?;
        if shaped.exact_duplicates_kept > 0 {
            let what = "accepted though another row is equal in every field";
            write!(f, "\n{:>9}  {what}", shaped.exact_duplicates_kept)?;
        }
        if shaped.orders > 0 {
            let (lines, orders) = (shaped.order_lines, shaped.orders);
            write!(
                f,
                "\n{lines:>9}  accepted rows are lines of orders with several: {orders} orders"
            )?;
        }
        match customers {
            Some(customers) => write!(f, "\n\nWhat is known of customers:\n{customers}"),
            None => Ok(()),
        }
    }
}

fn reasons<R: Ord + fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    counts: &BTreeMap<R, u64>,
    examples: &BTreeMap<R, Vec<Example>>,
) -> fmt::Result {
    for (reason, count) in counts {
        write!(f, "\n{count:>9}    {reason}")?;
        for example in examples.get(reason).into_iter().flatten() {
            write!(f, "\n               {example}")?;
        }
    }
    Ok(())
}

fn as_instant<S: Serializer>(as_of: &AsOf, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&as_of.at)
}

/// Every rejection and repair of a log by the day of its row, where that can be read, so that counts
/// can be given for any as-of; often it is chosen only after reading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IngestReport {
    rejected: Tally<Rejection>,
    repaired: Tally<Repair>,
}

impl IngestReport {
    pub(super) fn reject(
        &mut self,
        rejection: Rejection,
        day: Option<Day>,
        at: Option<Timestamp>,
        example: impl FnOnce() -> Example,
    ) {
        self.rejected.note(rejection, day, at, example);
    }

    pub(super) fn repair(
        &mut self,
        repair: Repair,
        day: Day,
        at: Timestamp,
        example: impl FnOnce() -> Example,
    ) {
        self.repaired.note(repair, Some(day), Some(at), example);
    }

    /// Takes the notes of rows that were read after these.
    pub(super) fn join(&mut self, later: IngestReport) {
        self.rejected.join(later.rejected);
        self.repaired.join(later.repaired);
    }

    /// The share of rejected rows among all, `n_accepted` being the others; rows that a rule leaves
    /// out are no fault.
    pub(super) fn rejected_share(&self, n_accepted: u64) -> f64 {
        let rejected = self.rejected.totals();
        let faults = rejected.iter().filter(|(reason, _)| reason.is_fault());
        let faults: u64 = faults.map(|(_, count)| count).sum();
        let all = n_accepted + rejected.values().sum::<u64>();
        if all == 0 { 0.0 } else { faults as f64 / all as f64 }
    }

    /// What became of all rows, of which `histories` are the readable ones.
    pub(super) fn counts(&self, as_of: AsOf, histories: &HistoryCounts) -> RowCounts {
        let rejected = self.rejected.counts(as_of);
        let by_then: u64 = rejected.values().sum();
        let rejected_later = self.rejected.totals().values().sum::<u64>() - by_then;
        let after_as_of = histories.after_as_of + rejected_later;
        let shaped = histories.shaped;
        let dropped = shaped.repeated_ids_dropped + shaped.exact_duplicates_dropped;
        RowCounts {
            rows: histories.accepted + dropped + after_as_of + by_then,
            accepted: histories.accepted,
            after_as_of,
            rejected,
            repaired: self.repaired.counts(as_of),
            shaped,
        }
    }

    /// At most three rejected rows per reason.
    pub(super) fn rejected_examples(&self, as_of: AsOf) -> BTreeMap<Rejection, Vec<Example>> {
        self.rejected.examples(as_of)
    }

    /// At most three repaired rows per reason.
    pub(super) fn repaired_examples(&self, as_of: AsOf) -> BTreeMap<Repair, Vec<Example>> {
        self.repaired.examples(as_of)
    }
}

/// Notes of one sort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "R: Ord + Serialize", deserialize = "R: Ord + Deserialize<'de>"))]
struct Tally<R> {
    undated: BTreeMap<R, u64>,
    by_day: BTreeMap<R, BTreeMap<Day, u64>>,
    /// The first by time, the undated before all, ties in the order of reading: whatever the as-of,
    /// those up to it are the first of all up to it.
    examples: BTreeMap<R, Vec<(Option<Timestamp>, Example)>>,
}

// Derived, it would ask for a default reason, which there is not.
impl<R> Default for Tally<R> {
    fn default() -> Tally<R> {
        Tally { undated: BTreeMap::new(), by_day: BTreeMap::new(), examples: BTreeMap::new() }
    }
}

impl<R: Copy + Ord> Tally<R> {
    fn note(
        &mut self,
        reason: R,
        day: Option<Day>,
        at: Option<Timestamp>,
        example: impl FnOnce() -> Example,
    ) {
        let count = match day {
            Some(day) => self.by_day.entry(reason).or_default().entry(day).or_default(),
            None => self.undated.entry(reason).or_default(),
        };
        *count += 1;
        self.keep(reason, at, example);
    }

    fn keep(&mut self, reason: R, at: Option<Timestamp>, example: impl FnOnce() -> Example) {
        let kept = self.examples.entry(reason).or_default();
        let place = kept.partition_point(|(other, _)| *other <= at);
        if place < EXAMPLES_PER_REASON {
            kept.truncate(EXAMPLES_PER_REASON - 1);
            kept.insert(place, (at, example()));
        }
    }

    fn join(&mut self, later: Tally<R>) {
        for (reason, count) in later.undated {
            *self.undated.entry(reason).or_default() += count;
        }
        for (reason, days) in later.by_day {
            let ours = self.by_day.entry(reason).or_default();
            for (day, count) in days {
                *ours.entry(day).or_default() += count;
            }
        }
        for (reason, examples) in later.examples {
            for (at, example) in examples {
                self.keep(reason, at, || example);
            }
        }
    }

    /// All of them, whenever they were.
    fn totals(&self) -> BTreeMap<R, u64> {
        let mut totals = self.undated.clone();
        for (reason, days) in &self.by_day {
            *totals.entry(*reason).or_default() += days.values().sum::<u64>();
        }
        totals
    }

    fn counts(&self, as_of: AsOf) -> BTreeMap<R, u64> {
        let mut counts = self.undated.clone();
        for (reason, days) in &self.by_day {
            let count: u64 = days.range(..=as_of.day).map(|(_, count)| count).sum();
            if count > 0 {
                *counts.entry(*reason).or_default() += count;
            }
        }
        counts
    }

    fn examples(&self, as_of: AsOf) -> BTreeMap<R, Vec<Example>> {
        let mut examples = BTreeMap::new();
        for (reason, kept) in &self.examples {
            let seen: Vec<Example> = kept
                .iter()
                .filter(|(at, _)| at.is_none_or(|at| at <= as_of.at))
                .map(|(_, example)| example.clone())
                .collect();
            if !seen.is_empty() {
                examples.insert(*reason, seen);
            }
        }
        examples
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{as_of, counts, log, validation};
    use super::*;

    #[test]
    fn three_examples_are_kept_whichever_as_of_is_asked() {
        let days = ["05", "02", "04", "01", "03"];
        let rows: String = days.map(|day| format!("1,1997-01-{day},5.005\n")).concat();
        let log = log(&format!("id,date,amount\n{rows}{}", "1,someday,5\n".repeat(5))).unwrap();
        let lines = |as_of: AsOf| -> Vec<u64> {
            let examples = validation(&log, as_of).account.repaired_examples;
            examples[&Repair::AmountRounded].iter().map(|example| example.line).collect()
        };
        assert_eq!(lines(as_of("1997-01-02")), [5, 3]);
        assert_eq!(lines(as_of("1997-01-31")), [5, 3, 6]);
        let late = validation(&log, as_of("1997-01-31"));
        assert_eq!(late.account.counts.rejected[&Rejection::UnreadableTime], 5);
        assert_eq!(late.account.rejected_examples[&Rejection::UnreadableTime].len(), 3);
        let before = validation(&log, as_of("1996-12-31"));
        assert!(
            before.account.repaired_examples.is_empty()
                && before.account.counts.repaired.is_empty()
        );
    }

    #[test]
    fn the_report_reads_as_sentences() {
        let log =
            log("id,date,amount\n1,1997-01-01,5\n1,1997-01-03,5\n2,1997-01-01,\"1,5\"\n").unwrap();
        let expected = "        3  rows read
        1  accepted
        1  ignored: later than the as-of 1997-01-01T23:59:59.999Z
        1  rejected
        1    the amount cannot be read
               log.csv, line 4: 2,1997-01-01,\"1,5\"
        0  notes on readable rows";
        assert_eq!(validation(&log, as_of("1997-01-01")).to_string(), expected);
    }

    #[test]
    fn reasons_are_names_in_json_and_come_back() {
        let log = log("id,date,amount\n1,1997-01-01,5.005\n2\n").unwrap();
        let seen = counts(&log, as_of("1997-01-01"));
        let json = serde_json::to_string(&seen).unwrap();
        assert_eq!(
            json,
            r#"{"rows":2,"accepted":1,"after_as_of":0,"rejected":{"ragged":1},"repaired":{"amount_rounded":1},"repeated_ids_dropped":0,"exact_duplicates_kept":0,"exact_duplicates_dropped":0,"order_lines":0,"orders":0}"#
        );
        assert_eq!(serde_json::from_str::<RowCounts>(&json).unwrap(), seen);
        let validation = serde_json::to_value(validation(&log, as_of("1997-01-01"))).unwrap();
        assert_eq!(validation["as_of"], "1997-01-01T23:59:59.999Z");
    }
}
