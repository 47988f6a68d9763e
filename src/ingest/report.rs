//! What became of the rows of a log, by reason and with examples, as seen from an as-of.

use habitus_engine::domain::{AsOf, Rejection, Repair, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// How many rows per reason are kept to be shown.
const EXAMPLES_PER_REASON: usize = 3;

/// What became of the rows. `rows` is the sum of the accepted, the later and the rejected ones; a
/// repaired row is an accepted one, and counts under each of its repairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    pub rows: u64,
    pub accepted: u64,
    pub after_as_of: u64,
    pub rejected: BTreeMap<Rejection, u64>,
    pub repaired: BTreeMap<Repair, u64>,
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
    pub counts: RowCounts,
    pub rejected_examples: BTreeMap<Rejection, Vec<Example>>,
    pub repaired_examples: BTreeMap<Repair, Vec<Example>>,
}

impl Validation {
    /// The same with examples by file and line alone, for what is kept with a model version, which
    /// holds no customer rows.
    pub fn without_text(&self) -> Validation {
        let mut validation = self.clone();
        let rejected = validation.rejected_examples.values_mut().flatten();
        let repaired = validation.repaired_examples.values_mut().flatten();
        rejected.chain(repaired).for_each(|example| example.text.clear());
        validation
    }
}

impl fmt::Display for Validation {
    /// Several lines, without a newline after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        write!(f, "{:>9}  rows read", counts.rows)?;
        write!(f, "\n{:>9}  accepted", counts.accepted)?;
        write!(f, "\n{:>9}  ignored: later than the as-of {}", counts.after_as_of, self.as_of.at)?;
        write!(f, "\n{:>9}  rejected", counts.rejected.values().sum::<u64>())?;
        reasons(f, &counts.rejected, &self.rejected_examples)?;
        write!(f, "\n{:>9}  repairs in accepted rows", counts.repaired.values().sum::<u64>())?;
        reasons(f, &counts.repaired, &self.repaired_examples)
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

/// Every rejection and repair of a log, with its time where the row had one that can be read, so
/// that counts can be given for any as-of; often it is chosen only after reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IngestReport {
    rejected: Tally<Rejection>,
    repaired: Tally<Repair>,
}

impl IngestReport {
    pub(super) fn reject(
        &mut self,
        rejection: Rejection,
        at: Option<Timestamp>,
        example: impl FnOnce() -> Example,
    ) {
        self.rejected.note(rejection, at, example);
    }

    pub(super) fn repair(
        &mut self,
        repair: Repair,
        at: Timestamp,
        example: impl FnOnce() -> Example,
    ) {
        self.repaired.note(repair, Some(at), example);
    }

    /// Rows that were rejected, without those dated after the as-of.
    pub fn rejected(&self, as_of: AsOf) -> BTreeMap<Rejection, u64> {
        self.rejected.counts(as_of)
    }

    /// Repairs of rows up to the as-of.
    pub fn repaired(&self, as_of: AsOf) -> BTreeMap<Repair, u64> {
        self.repaired.counts(as_of)
    }

    /// Rows that were rejected but are dated after the as-of, where nothing matters.
    pub fn rejected_after(&self, as_of: AsOf) -> u64 {
        self.rejected.dated.iter().filter(|(at, _)| *at > as_of.at).count() as u64
    }

    /// At most three rejected rows per reason.
    pub fn rejected_examples(&self, as_of: AsOf) -> BTreeMap<Rejection, Vec<Example>> {
        self.rejected.examples(as_of)
    }

    /// At most three repaired rows per reason.
    pub fn repaired_examples(&self, as_of: AsOf) -> BTreeMap<Repair, Vec<Example>> {
        self.repaired.examples(as_of)
    }
}

/// Notes of one sort.
#[derive(Debug, Clone, PartialEq)]
struct Tally<R> {
    undated: BTreeMap<R, u64>,
    dated: Vec<(Timestamp, R)>,
    /// The first by time, the undated before all, ties in the order of reading: whatever the as-of,
    /// those up to it are the first of all up to it.
    examples: BTreeMap<R, Vec<(Option<Timestamp>, Example)>>,
}

// Derived, it would ask for a default reason, which there is not.
impl<R> Default for Tally<R> {
    fn default() -> Tally<R> {
        Tally { undated: BTreeMap::new(), dated: Vec::new(), examples: BTreeMap::new() }
    }
}

impl<R: Copy + Ord> Tally<R> {
    fn note(&mut self, reason: R, at: Option<Timestamp>, example: impl FnOnce() -> Example) {
        match at {
            Some(at) => self.dated.push((at, reason)),
            None => *self.undated.entry(reason).or_default() += 1,
        }
        let kept = self.examples.entry(reason).or_default();
        let place = kept.partition_point(|(other, _)| *other <= at);
        if place < EXAMPLES_PER_REASON {
            kept.truncate(EXAMPLES_PER_REASON - 1);
            kept.insert(place, (at, example()));
        }
    }

    fn counts(&self, as_of: AsOf) -> BTreeMap<R, u64> {
        let mut counts = self.undated.clone();
        for (_, reason) in self.dated.iter().filter(|(at, _)| *at <= as_of.at) {
            *counts.entry(*reason).or_default() += 1;
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
    use super::super::fixture::{as_of, log};
    use super::*;

    #[test]
    fn three_examples_are_kept_whichever_as_of_is_asked() {
        let days = ["05", "02", "04", "01", "03"];
        let rows: String = days.map(|day| format!("1,1997-01-{day},5.005\n")).concat();
        let log = log(&format!("id,date,amount\n{rows}{}", "1,someday,5\n".repeat(5))).unwrap();
        let lines = |as_of: AsOf| -> Vec<u64> {
            let examples = log.validation(as_of).repaired_examples;
            examples[&Repair::AmountRounded].iter().map(|example| example.line).collect()
        };
        assert_eq!(lines(as_of("1997-01-02")), [5, 3]);
        assert_eq!(lines(as_of("1997-01-31")), [5, 3, 6]);
        let validation = log.validation(as_of("1997-01-31"));
        assert_eq!(validation.counts.rejected[&Rejection::UnreadableTime], 5);
        assert_eq!(validation.rejected_examples[&Rejection::UnreadableTime].len(), 3);
        let before = log.validation(as_of("1996-12-31"));
        assert!(before.repaired_examples.is_empty() && before.counts.repaired.is_empty());
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
        0  repairs in accepted rows";
        assert_eq!(log.validation(as_of("1997-01-01")).to_string(), expected);
    }

    #[test]
    fn reasons_are_names_in_json_and_come_back() {
        let log = log("id,date,amount\n1,1997-01-01,5.005\n2\n").unwrap();
        let counts = log.counts(as_of("1997-01-01"));
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(
            json,
            r#"{"rows":2,"accepted":1,"after_as_of":0,"rejected":{"ragged":1},"repaired":{"amount_rounded":1}}"#
        );
        assert_eq!(serde_json::from_str::<RowCounts>(&json).unwrap(), counts);
        let validation = serde_json::to_value(log.validation(as_of("1997-01-01"))).unwrap();
        assert_eq!(validation["as_of"], "1997-01-01T23:59:59.999Z");
    }
}
