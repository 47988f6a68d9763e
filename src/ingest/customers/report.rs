//! What became of the rows of a customers file, by reason and with examples.

use super::super::Example;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// How many rows per reason are kept to be shown.
const EXAMPLES_PER_REASON: usize = 3;

/// Why a row of a customers file was not taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Error,
)]
#[serde(rename_all = "snake_case")]
pub enum CustomerRejection {
    #[error("the row does not have the form of its file")]
    Ragged,
    #[error("the row is not valid UTF-8")]
    NotUtf8,
    #[error("the customer is missing")]
    MissingCustomer,
    #[error("the time of registration cannot be read")]
    UnreadableRegistration,
    #[error("the time of registration lies in the future")]
    FutureRegistration,
}

/// What was mended in a row of a customers file that was taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Error,
)]
#[serde(rename_all = "snake_case")]
pub enum CustomerRepair {
    #[error("the local time does not exist, or exists twice; the ordinary reading was taken")]
    LocalTimeAdjusted,
    #[error("the opt-out is neither yes nor no; the customer was taken to have opted out")]
    OptOutUnreadable,
    #[error("the registration cannot be taken and was left out, for the sake of the opt-out")]
    RegistrationDropped,
    #[error("the label is neither yes nor no and was left out")]
    LabelUnreadable,
    #[error("the date of the label cannot be read; the label was left out")]
    LabelDateUnreadable,
    #[error("the date of the label lies in the future; the customer was taken as not churned")]
    LabelInFuture,
}

/// How many rows came to what. `rows` is the sum of the accepted and the rejected ones; a repaired
/// row is an accepted one, and counts under each of its repairs and each of its unreadable numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerCounts {
    pub rows: u64,
    pub accepted: u64,
    pub rejected: BTreeMap<CustomerRejection, u64>,
    pub repaired: BTreeMap<CustomerRepair, u64>,
    /// Numbers that cannot be read, or are not finite, and were left out, by their column.
    pub unreadable_numbers: BTreeMap<String, u64>,
}

/// What became of the rows of a customers file: to print, or as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CustomersReport {
    pub counts: CustomerCounts,
    /// At most three rows per reason, the first in the order of reading, as in the other examples.
    pub rejected_examples: BTreeMap<CustomerRejection, Vec<Example>>,
    pub repaired_examples: BTreeMap<CustomerRepair, Vec<Example>>,
    pub number_examples: BTreeMap<String, Vec<Example>>,
}

impl CustomersReport {
    /// Counts a row that is taken, with what was mended in it: `unreadable_numbers` names columns.
    pub(super) fn accept<'c>(
        &mut self,
        repairs: impl IntoIterator<Item = CustomerRepair>,
        unreadable_numbers: impl IntoIterator<Item = &'c str>,
        example: &dyn Fn() -> Example,
    ) {
        self.counts.rows += 1;
        self.counts.accepted += 1;
        for repair in repairs {
            *self.counts.repaired.entry(repair).or_default() += 1;
            keep(self.repaired_examples.entry(repair).or_default(), example);
        }
        for column in unreadable_numbers {
            *self.counts.unreadable_numbers.entry(column.to_owned()).or_default() += 1;
            keep(self.number_examples.entry(column.to_owned()).or_default(), example);
        }
    }

    /// Counts a row that cannot be taken.
    pub(super) fn reject(&mut self, rejection: CustomerRejection, example: &dyn Fn() -> Example) {
        self.counts.rows += 1;
        *self.counts.rejected.entry(rejection).or_default() += 1;
        keep(self.rejected_examples.entry(rejection).or_default(), example);
    }

    /// The share of rejected rows among all, in `[0, 1]`.
    pub fn rejected_share(&self) -> f64 {
        let rejected: u64 = self.counts.rejected.values().sum();
        if rejected == 0 { 0.0 } else { rejected as f64 / self.counts.rows as f64 }
    }

    /// The same with examples by file and line alone, for what is kept with a model version, which
    /// holds no customer rows.
    pub fn without_text(&self) -> CustomersReport {
        let mut report = self.clone();
        let rejected = report.rejected_examples.values_mut().flatten();
        let repaired = report.repaired_examples.values_mut().flatten();
        let numbers = report.number_examples.values_mut().flatten();
        rejected.chain(repaired).chain(numbers).for_each(|example| example.text.clear());
        report
    }
}

/// Makes the example only if it is one of the first.
fn keep(kept: &mut Vec<Example>, example: &dyn Fn() -> Example) {
    if kept.len() < EXAMPLES_PER_REASON {
        kept.push(example());
    }
}

impl fmt::Display for CustomersReport {
    /// Several lines, without a newline after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let unread = &counts.unreadable_numbers;
        let notes = counts.repaired.values().chain(unread.values()).sum::<u64>();
        write!(f, "{:>9}  rows of customers read", counts.rows)?;
        write!(f, "\n{:>9}  accepted", counts.accepted)?;
        write!(f, "\n{:>9}  rejected", counts.rejected.values().sum::<u64>())?;
        for (reason, &count) in &counts.rejected {
            told(f, count, reason, self.rejected_examples.get(reason))?;
        }
        write!(f, "\n{notes:>9}  notes on accepted rows")?;
        for (repair, &count) in &counts.repaired {
            told(f, count, repair, self.repaired_examples.get(repair))?;
        }
        for (column, &count) in unread {
            let what = format!("the number in `{column}` cannot be read and was left out");
            told(f, count, &what, self.number_examples.get(column))?;
        }
        Ok(())
    }
}

fn told(
    f: &mut fmt::Formatter<'_>,
    count: u64,
    what: &dyn fmt::Display,
    examples: Option<&Vec<Example>>,
) -> fmt::Result {
    write!(f, "\n{count:>9}    {what}")?;
    for example in examples.into_iter().flatten() {
        write!(f, "\n               {example}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::read_rows;
    use super::*;

    const ROWS: &str = "1,2020-01-01,,,,40,,gold
2,someday,,,,,,
,,,,,,,
3,,perhaps,,,old,,
4,,,,,,many,
5,,perhaps,,,,,
6,x,,,,,,
7,x,,,,,,
8,x,,,,,,
9
";

    #[test]
    fn counts_add_up_and_three_examples_are_kept() {
        let (taken, report) = read_rows(ROWS);
        let CustomerCounts { rows, accepted, rejected, repaired, unreadable_numbers } =
            &report.counts;
        assert_eq!((*rows, *accepted, taken.len()), (10, 4, 4));
        assert_eq!(accepted + rejected.values().sum::<u64>(), *rows);
        let expected = BTreeMap::from([
            (CustomerRejection::Ragged, 1),
            (CustomerRejection::MissingCustomer, 1),
            (CustomerRejection::UnreadableRegistration, 4),
        ]);
        assert_eq!(*rejected, expected);
        assert_eq!(*repaired, BTreeMap::from([(CustomerRepair::OptOutUnreadable, 2)]));
        assert_eq!(unreadable_numbers.values().sum::<u64>(), 2);
        assert_eq!(report.rejected_share(), 0.6);
        let lines: Vec<u64> = report.rejected_examples[&CustomerRejection::UnreadableRegistration]
            .iter()
            .map(|example| example.line)
            .collect();
        assert_eq!(lines, [3, 8, 9]);
        assert_eq!(CustomersReport::default().rejected_share(), 0.0);
    }

    #[test]
    fn the_report_reads_as_sentences() {
        let (_, report) = read_rows("1,x,,,,,,\n2,,perhaps,,,old,,\n");
        let expected = "        2  rows of customers read
        1  accepted
        1  rejected
        1    the time of registration cannot be read
               customers.csv, line 2: 1,x,,,,,,
        2  notes on accepted rows
        1    the opt-out is neither yes nor no; the customer was taken to have opted out
               customers.csv, line 3: 2,,perhaps,,,old,,
        1    the number in `age` cannot be read and was left out
               customers.csv, line 3: 2,,perhaps,,,old,,";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn what_is_kept_with_a_version_holds_no_rows() {
        let (_, report) = read_rows(ROWS);
        let kept = report.without_text();
        let examples = || {
            let rejected = kept.rejected_examples.values().flatten();
            let repaired = kept.repaired_examples.values().flatten();
            rejected.chain(repaired).chain(kept.number_examples.values().flatten())
        };
        assert_eq!(examples().count(), 9);
        assert!(examples().all(|example| example.text.is_empty() && example.line > 0));
        assert_eq!(kept.counts, report.counts);
    }

    #[test]
    fn reasons_are_names_in_json_and_come_back() {
        let (_, report) = read_rows("1,x,,,,,,\n2,,perhaps,,,old,,\n");
        let json = serde_json::to_string(&report.counts).unwrap();
        assert_eq!(
            json,
            r#"{"rows":2,"accepted":1,"rejected":{"unreadable_registration":1},"repaired":{"opt_out_unreadable":1},"unreadable_numbers":{"age":1}}"#
        );
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<CustomersReport>(&json).unwrap(), report);
    }
}
