//! The customers file: what is known of customers besides events, with an account of every row.
//!
//! `rows` reads it as logs are read, by the same readers, `columns` finds the fields, `row` makes
//! attributes of them, and `report` counts what could not be read. A bad row is counted and never
//! fatal.

mod columns;
#[cfg(test)]
mod fixture;
mod report;
mod row;
mod rows;

pub use columns::CustomerColumns;
pub use report::{CustomerCounts, CustomerRejection, CustomerRepair, CustomersReport};

use self::rows::Collector;
use super::{IngestError, Source, each_source};
use habitus_engine::domain::{Attributes, EventRules, Timestamp};

/// How customers files are read.
#[derive(Debug, Clone, Copy)]
pub struct CustomerReading<'a> {
    pub columns: &'a CustomerColumns,
    /// Their zone and their format are those of dates here too.
    pub rules: &'a EventRules,
    /// The clock at the start of the run: nobody has registered later.
    pub now: Timestamp,
}

/// Reads all sources. `take` gets every customer whose row is readable, in the order of reading;
/// `progress` hears, from time to time, how many bytes have been read over all sources (of a
/// compressed file: compressed ones).
///
/// A customer of several rows is taken several times: only whoever has all rows of a customer
/// together can tell, so the caller says what becomes of them. The report counts rows.
///
/// # Errors
/// [`IngestError`] where a file cannot be read, is empty, or lacks a mapped column, and the first
/// error of `take`.
pub fn read_customers(
    sources: &[Source],
    reading: &CustomerReading<'_>,
    progress: &mut dyn FnMut(u64),
    take: &mut dyn FnMut(&str, Attributes) -> Result<(), IngestError>,
) -> Result<CustomersReport, IngestError> {
    let mut collector = Collector::new(reading, take);
    each_source(sources, progress, |source, progress| collector.read(source, progress))?;
    Ok(collector.report)
}

/// Shows every customer of one source whose row is readable, in the order of the rows; the report
/// counts the others with them. A customer of several rows is shown several times. `progress` is
/// that of [`each_row`](super::each_row).
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty, or lacks a mapped column, and the first
/// error of `visit`.
pub fn each_customer<E: From<IngestError>>(
    source: &Source,
    reading: &CustomerReading<'_>,
    visit: &mut dyn FnMut(&str, Attributes) -> Result<(), E>,
    progress: &mut dyn FnMut(u64),
) -> Result<CustomersReport, E> {
    let mut collector = Collector::new(reading, visit);
    collector.read(source, progress)?;
    Ok(collector.report)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{gzip, parquet, zstd};
    use super::fixture::{HEADER, NOW, columns, csv, read, read_rows, rules};
    use super::*;
    use polars::prelude::{DataType, IntoSeries, NamedFrom, Series, TimeUnit};
    use std::fs;
    use std::sync::Arc;

    const CSV: &str = "id,since,out,gone,gone_on,age,visits,plan
1,2020-01-01,true,false,,40,1.5,gold
2,2020-01-02 10:30:00,no,1,2020-03-01,,2,
,,,,,,,
3,2999-01-01,,,,,,
4,,maybe,,,x,,\" tea, green \"
";

    const NDJSON: &str = r#"
{"id":1,"since":"2020-01-01","out":true,"gone":false,"age":40,"visits":1.5,"plan":"gold"}
{"id":"2","since":"2020-01-02 10:30:00","out":"no","gone":1,"gone_on":"2020-03-01","visits":2}
{"id":null}
{"id":3,"since":"2999-01-01","extra":[]}
{"id":4,"out":"maybe","age":"x","plan":" tea, green "}
"#;

    #[test]
    fn one_file_in_every_format_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.csv"), CSV).unwrap();
        fs::write(path("a.csv.gz"), gzip(CSV.as_bytes())).unwrap();
        fs::write(path("a.ndjson"), NDJSON).unwrap();
        fs::write(path("a.jsonl.zst"), zstd(NDJSON.as_bytes())).unwrap();
        let days = ["2020-01-01", "2020-01-02 10:30:00", "", "2999-01-01", ""];
        let gone_on = Series::new("gone_on".into(), &[None, Some(18_322i32), None, None, None][..]);
        let plans = [Some("gold"), None, None, None, Some(" tea, green ")];
        let series = vec![
            Series::new("plan".into(), &plans[..]),
            Series::new("id".into(), &[Some(1i64), Some(2), None, Some(3), Some(4)][..]),
            Series::new("since".into(), &days[..]),
            Series::new("out".into(), &["true", "no", "", "", "maybe"][..]),
            Series::new("gone".into(), &[Some(false), Some(true), None, None, None][..]),
            gone_on.cast(&DataType::Date).unwrap(),
            Series::new("age".into(), &[Some("40"), None, None, None, Some("x")][..]),
            Series::new("visits".into(), &[Some(1.5f64), Some(2.0), None, None, None][..]),
        ];
        parquet(&path("a.parquet"), series, Some(2));

        let (expected, report) = read_rows(CSV.strip_prefix(HEADER).unwrap());
        assert_eq!((expected.len(), report.counts.rows), (3, 5));
        assert_eq!(expected[2].1.category("plan"), Some("tea, green"));
        for name in ["a.csv", "a.csv.gz", "a.ndjson", "a.jsonl.zst", "a.parquet"] {
            let source = Source::Path(path(name));
            let mut told = 0;
            let sources = std::slice::from_ref(&source);
            let (taken, found) = read(sources, &mut |bytes| told = bytes).unwrap();
            assert_eq!(taken, expected, "{name}");
            assert_eq!(found.counts, report.counts, "{name}");
            // The rows of CSV stand below a header, and those of JSON here below a blank line.
            let first = if name.contains("parquet") { 0 } else { 1 };
            let future = &found.rejected_examples[&CustomerRejection::FutureRegistration][0];
            assert_eq!(future.line, 4 + first, "{name}");
            assert_eq!(found.number_examples["age"][0].line, 5 + first, "{name}");
            assert_eq!(Some(told), source.size(), "{name}");
        }
    }

    #[test]
    fn typed_columns_of_parquet_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("customers.parquet");
        let times = Series::new("since".into(), &[1_577_836_800_000i64; 2][..]);
        let times = times.i64().unwrap().clone();
        let series = vec![
            Series::new("id".into(), &[u64::MAX, 7][..]),
            times.into_datetime(TimeUnit::Milliseconds, None).into_series(),
            Series::new("out".into(), &[1.0f64, 0.0][..]),
            Series::new("gone".into(), &[0i32, 1][..]),
            Series::new("gone_on".into(), &["", "2020-01-01"][..]),
            Series::new("age".into(), &[f64::NAN, 40.0][..]),
            Series::new("visits".into(), &[0.1f32, 2.0][..]),
            Series::new("plan".into(), &[true, false][..]),
        ];
        parquet(&path, series, None);
        let (taken, report) = read(&[Source::Path(path)], &mut |_| ()).unwrap();
        let (id, first) = &taken[0];
        assert_eq!((id.as_str(), taken[1].0.as_str()), ("18446744073709551615", "7"));
        assert_eq!(first.registered, Some(Timestamp(1_577_836_800_000)));
        assert_eq!((first.opted_out, taken[1].1.opted_out), (true, false));
        assert_eq!(taken[1].1.label.unwrap().at, first.registered);
        assert_eq!((first.number("age"), first.number("visits")), (None, Some(0.1)));
        assert_eq!(first.category("plan"), Some("true"));
        assert_eq!(report.counts.unreadable_numbers.values().sum::<u64>(), 1);
    }

    #[test]
    fn a_column_of_another_type_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("customers.parquet");
        let ids = Series::new("id".into(), &["1"][..]);
        let lists = Series::new("age".into(), &[ids.clone()][..]);
        parquet(&path, vec![ids, lists], None);
        let columns = CustomerColumns {
            customer: "id".into(),
            numbers: vec!["age".into()],
            ..CustomerColumns::default()
        };
        let rules = rules();
        let reading = CustomerReading { columns: &columns, rules: &rules, now: NOW };
        let sources = [Source::Path(path)];
        let result = read_customers(&sources, &reading, &mut |_| (), &mut |_, _| Ok(()));
        let column = match result {
            Err(IngestError::ColumnType { field: "attribute", column, .. }) => column,
            other => panic!("{other:?}"),
        };
        assert_eq!(column, "age");
    }

    #[test]
    fn a_faulty_row_costs_only_itself() {
        let rows = b"\xff,,,,,,,\n1,,\n2,,,,,,,\n";
        let bytes = [HEADER.as_bytes(), rows].concat();
        let (taken, report) = read(&[csv(&bytes)], &mut |_| ()).unwrap();
        assert_eq!((taken.len(), taken[0].0.as_str()), (1, "2"));
        let rejected: Vec<_> = report.counts.rejected.into_iter().collect();
        let expected = [(CustomerRejection::Ragged, 1), (CustomerRejection::NotUtf8, 1)];
        assert_eq!(rejected, expected);
    }

    #[test]
    fn faulty_lines_of_json_cost_only_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("customers.ndjson");
        let lines = [
            r#"{"id":1,"out":["no"]}"#,
            r#"{"id":1,"out":false,"out":true}"#,
            r#"[1]"#,
            r#"{"id":2,"out":false,"plan":true}"#,
        ];
        let mut bytes = lines.join("\n").into_bytes();
        bytes.extend_from_slice(b"\n{\"id\":\"\xff\"}\n");
        fs::write(&path, bytes).unwrap();
        let (taken, report) = read(&[Source::Path(path)], &mut |_| ()).unwrap();
        assert_eq!((taken.len(), taken[0].1.category("plan")), (1, Some("true")));
        assert_eq!(report.counts.rejected[&CustomerRejection::Ragged], 3);
        assert_eq!(report.counts.rejected[&CustomerRejection::NotUtf8], 1);
    }

    #[test]
    fn a_json_file_may_lack_attributes_but_not_the_opt_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("customers.ndjson");
        let sources = [Source::Path(path.clone())];
        fs::write(&path, "{\"id\":1,\"out\":null}\n{\"id\":2}\n").unwrap();
        assert_eq!(read(&sources, &mut |_| ()).unwrap().0.len(), 2);
        for (line, missing) in [("{\"id\":1}", "opt out"), ("{\"out\":1}", "customer")] {
            fs::write(&path, line).unwrap();
            match read(&sources, &mut |_| ()) {
                Err(IngestError::MissingColumn { field, .. }) => assert_eq!(field, missing),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_no_customers_file_is_refused() {
        let refused = |text: &str| read(&[csv(text.as_bytes())], &mut |_| ()).unwrap_err();
        assert!(matches!(refused(""), IngestError::Empty { .. }));
        assert!(matches!(refused("id,date\n"), IngestError::MissingColumn { .. }));
        let open = format!("{HEADER}1,,,,,,,\"gold\n2,,,,,,,\n");
        assert!(matches!(refused(&open), IngestError::UnclosedQuote { line: 2, .. }));
        assert_eq!(read_rows("").1, CustomersReport::default());
    }

    #[test]
    fn every_row_of_a_customer_is_handed_on_and_names_are_shared() {
        let sources = [csv(CSV.as_bytes()), csv(CSV.as_bytes())];
        let mut told = Vec::new();
        let (taken, report) = read(&sources, &mut |bytes| told.push(bytes)).unwrap();
        assert_eq!((taken.len(), report.counts.rows, report.counts.accepted), (6, 10, 6));
        assert_eq!(taken[0], taken[3]);
        assert!(taken.iter().all(|(_, a)| Arc::ptr_eq(a.names(), taken[0].1.names())));
        assert_eq!(told.last(), Some(&(2 * CSV.len() as u64)));
    }

    #[test]
    fn one_source_shows_its_customers_in_order_and_counts_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.csv"), CSV).unwrap();
        fs::write(path("a.ndjson.gz"), gzip(NDJSON.as_bytes())).unwrap();
        let (columns, rules) = (columns(), rules());
        let reading = CustomerReading { columns: &columns, rules: &rules, now: NOW };
        let (expected, report) = read(&[csv(CSV.as_bytes())], &mut |_| ()).unwrap();
        for name in ["a.csv", "a.ndjson.gz"] {
            let source = Source::Path(path(name));
            let (mut shown, mut told) = (Vec::new(), 0);
            let visit = &mut |customer: &str, attributes| {
                shown.push((customer.to_owned(), attributes));
                Ok::<_, IngestError>(())
            };
            let found = each_customer(&source, &reading, visit, &mut |bytes| told = bytes).unwrap();
            assert_eq!((&shown, &found.counts), (&expected, &report.counts), "{name}");
            assert_eq!(Some(told), source.size(), "{name}");
        }
    }

    #[test]
    fn an_error_of_the_visitor_may_be_its_own() {
        #[derive(Debug)]
        struct Refused(String);
        impl From<IngestError> for Refused {
            fn from(error: IngestError) -> Refused {
                Refused(error.to_string())
            }
        }
        let (columns, rules) = (columns(), rules());
        let reading = CustomerReading { columns: &columns, rules: &rules, now: NOW };
        let visit =
            &mut |customer: &str, _: Attributes| Err(Refused(format!("no room for {customer}")));
        let mut refused =
            |bytes: &[u8]| each_customer(&csv(bytes), &reading, visit, &mut |_| ()).unwrap_err().0;
        assert_eq!(refused(CSV.as_bytes()), "no room for 1");
        assert!(refused(b"").contains("is empty"));
    }

    #[test]
    fn an_error_of_the_taker_ends_the_reading() {
        let (columns, rules) = (columns(), rules());
        let reading = CustomerReading { columns: &columns, rules: &rules, now: NOW };
        let mut n_taken = 0;
        let result = read_customers(&[csv(CSV.as_bytes())], &reading, &mut |_| (), &mut |_, _| {
            n_taken += 1;
            Err(IngestError::Empty { file: "disk".into() })
        });
        assert!(matches!(result, Err(IngestError::Empty { file }) if file == "disk"));
        assert_eq!(n_taken, 1);
    }
}
