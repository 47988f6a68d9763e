//! A log of rows that come from elsewhere than files, by the same rules and with the same account.

use super::customers::CustomersReport;
use super::log::Collector;
use super::partitions::{Partitions, Spill};
use super::rows::RowVisitor;
use super::{Example, IngestError, Log, Reading, excerpt};
use habitus_engine::domain::{Attributes, RawEvent};
use std::sync::Arc;

/// A log while its rows come in, customer by customer or in any other order.
pub struct Gathering<'a> {
    collector: Collector<'a>,
    customers: CustomersReport,
    /// Where rows come from, for messages.
    place: String,
    n_rows: u64,
}

impl<'a> Gathering<'a> {
    /// An empty log. `names` are those of the attributes of all customers; sources and a directory in
    /// `reading` do not matter.
    pub fn new(reading: &Reading<'a>, names: Arc<[String]>, place: String) -> Gathering<'a> {
        let spill = Spill::Temporary(None, reading.memory.directory.clone());
        let rows = Partitions::new(reading.memory.waiting_rows(), spill, names);
        let collector = Collector::new(reading, rows);
        Gathering { collector, customers: CustomersReport::default(), place, n_rows: 0 }
    }

    /// Takes a row with its customer. What the rules refuse is counted.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub fn row(&mut self, raw: &RawEvent<'_>) -> Result<(), IngestError> {
        self.n_rows += 1;
        let (file, line) = (&self.place, self.n_rows);
        let example = || Example { file: file.clone(), line, text: text(raw) };
        self.collector.visit(Ok(raw), example)
    }

    /// Takes what is known of a customer besides, once for each.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub fn customer(&mut self, customer: &str, attributes: &Attributes) -> Result<(), IngestError> {
        self.customers.counts.rows += 1;
        self.customers.counts.accepted += 1;
        self.collector.take_customer(customer, attributes)
    }

    /// The log. `knows_customers` says whether anything could be known of customers besides rows.
    pub fn finish(self, knows_customers: bool) -> Log {
        self.collector.finish(knows_customers.then_some(self.customers))
    }
}

/// The fields that there are.
fn text(raw: &RawEvent<'_>) -> String {
    excerpt::fields(raw.fields().into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::super::fixture::{as_of, columns, counts, histories, log, rules, validation};
    use super::*;
    use habitus_engine::domain::{RawValue, Rejection, Timestamp};

    const ROWS: [[&str; 3]; 4] = [
        ["2", "1997-06-01", "5"],
        ["1", "1997-01-01", "5.005"],
        ["1", "1997-01-02", "free"],
        ["1", "1997-01-01", "7"],
    ];

    #[test]
    fn rows_are_what_they_would_be_in_a_file() {
        let file = ROWS.map(|row| row.join(",") + "\n").concat();
        let expected = log(&format!("id,date,amount\n{file}")).unwrap();
        let (columns, rules, memory) = (&columns(), &rules(), &Memory::default());
        let (now, as_of_asked, customers, keep_in) = (Timestamp(i64::MAX), None, None, None);
        let reading =
            Reading { columns, rules, now, as_of: as_of_asked, memory, customers, keep_in };
        let mut gathering = Gathering::new(&reading, Arc::new([]), "the store".into());
        for [customer, time, amount] in ROWS.map(|row| row.map(|cell| Some(RawValue::Text(cell)))) {
            gathering.row(&RawEvent { customer, time, amount, ..RawEvent::default() }).unwrap();
        }
        let gathered = gathering.finish(false);
        let end = as_of("1997-12-31");
        assert_eq!(histories(&gathered), histories(&expected));
        assert_eq!(counts(&gathered, end), counts(&expected, end));
        assert_eq!(gathered.span(), expected.span());
        assert!(gathered.customers().is_none());
        let told = validation(&gathered, end).account.rejected_examples;
        let example = &told[&Rejection::UnreadableAmount][0];
        assert_eq!(example.to_string(), "the store, line 3: 1,1997-01-02,free");
    }
}
