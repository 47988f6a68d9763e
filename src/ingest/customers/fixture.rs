//! What the tests of the customers file share: a file with every sort of column, and its rules.

use super::super::fixture::rules as plain_rules;
use super::super::{IngestError, Source};
use super::{CustomerColumns, CustomerReading, CustomersReport, read_customers};
use habitus_engine::domain::{Attributes, EventRules, Timestamp};

/// 2023-11-14, after every date that the tests accept.
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(super) const HEADER: &str = "id,since,out,gone,gone_on,age,visits,plan\n";

/// Everyone who was taken, in the order of reading.
pub(super) type Taken = Vec<(String, Attributes)>;

pub(super) fn columns() -> CustomerColumns {
    CustomerColumns {
        customer: "id".into(),
        registered_at: Some("since".into()),
        opt_out: Some("out".into()),
        label: Some("gone".into()),
        label_date: Some("gone_on".into()),
        numbers: vec!["age".into(), "visits".into()],
        categories: vec!["plan".into()],
    }
}

pub(super) fn rules() -> EventRules {
    plain_rules()
}

/// Reads sources that have the columns of [`columns`].
pub(super) fn read(
    sources: &[Source],
    progress: &mut dyn FnMut(u64),
) -> Result<(Taken, CustomersReport), IngestError> {
    let (columns, rules) = (columns(), rules());
    let reading = CustomerReading { columns: &columns, rules: &rules, now: NOW };
    let mut taken = Taken::new();
    let report = read_customers(sources, &reading, progress, &mut |customer, attributes| {
        taken.push((customer.to_owned(), attributes));
        Ok(())
    })?;
    Ok((taken, report))
}

/// A CSV file in memory.
pub(super) fn csv(bytes: &[u8]) -> Source {
    Source::Bytes { name: "customers.csv".into(), bytes: bytes.to_vec().into() }
}

/// Reads the rows of a CSV file under [`HEADER`].
pub(super) fn read_rows(rows: &str) -> (Taken, CustomersReport) {
    read(&[csv(format!("{HEADER}{rows}").as_bytes())], &mut |_| ()).unwrap()
}
