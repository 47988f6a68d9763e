//! The rows of a log in Parquet, window by window.

use super::columns::Layout;
use super::log::Collector;
use super::parquet_cells::{Cells, is_readable};
use super::parquet_table::{Table, Window};
use super::plain::{PlainRows, Spelled};
use super::rows::RowVisitor;
use super::{Columns, IngestError};
use rayon::prelude::*;
use std::path::Path;

/// Several windows for each thread, so that none waits long for the others. What was collected of
/// them is small; where it is rows that wait to be shown, there is one for each thread.
const WINDOWS_PER_THREAD: usize = 4;

/// Fewer rows stand in records: what columns have beside their rows would be more than they save.
const FEWEST_IN_COLUMNS: usize = 1_000;

/// Reads one file into the collector, each window by a fork of it; what the forks collected is
/// joined in the order of the rows.
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty or no Parquet file, or lacks a mapped
/// column or has it in a type that is neither text, number nor time.
pub(super) fn read(
    path: &Path,
    columns: &Columns,
    collector: &mut Collector<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), IngestError> {
    let fork = collector.forks();
    let collect = |rows: Rows<'_>| {
        let mut fork = fork();
        rows.collect(&mut fork).map(|()| fork)
    };
    let log = OpenLog::open(path, columns)?;
    log.each_window(WINDOWS_PER_THREAD, progress, collect, |fork| collector.join(fork))?;
    collector.settle();
    Ok(())
}

/// Shows the rows of one file, in their order and on this thread; windows are decoded on others.
///
/// # Errors
/// As [`read`], and the first error of the visitor.
pub(super) fn read_in_order<V: RowVisitor>(
    path: &Path,
    columns: &Columns,
    visitor: &mut V,
    progress: &mut dyn FnMut(u64),
) -> Result<(), V::Error> {
    OpenLog::open(path, columns)?.each_window(1, progress, Ok, |rows| rows.read(visitor))
}

/// A file whose mapped columns have been found and are readable.
struct OpenLog {
    table: Table,
    /// The mapped columns, each once.
    names: Vec<String>,
    /// Where the fields stand among them.
    layout: Layout,
}

impl OpenLog {
    fn open(path: &Path, columns: &Columns) -> Result<OpenLog, IngestError> {
        let table = Table::open(path)?;
        columns.locate(&table.names(), &table.file)?;
        table.check(&columns.mapped(), is_readable)?;
        let names = columns.names();
        let layout = columns.locate(&names, &table.file)?;
        Ok(OpenLog { table, names, layout })
    }

    /// Decodes windows, of which each is a file of its own to the reader, so that several are read
    /// at once: `work` sees each on one of several threads, and `take` gets what came of it in the
    /// order of the rows.
    fn each_window<'t, T: Send, E: From<IngestError>>(
        &'t self,
        per_thread: usize,
        progress: &mut dyn FnMut(u64),
        work: impl Fn(Rows<'t>) -> Result<T, IngestError> + Sync,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = &self.table;
        for several in table.windows.chunks(per_thread * rayon::current_num_threads()) {
            let decoded = |window: &'t Window| {
                let cells = table.cells(window, &self.names)?;
                work(Rows { table, layout: &self.layout, window, cells })
            };
            let done: Vec<Result<T, IngestError>> =
                several.par_iter().with_max_len(1).map(decoded).collect();
            for result in done {
                take(result?)?;
            }
            progress(several.last().map_or(0, |window| table.bytes_through(window)));
        }
        progress(table.n_bytes);
        Ok(())
    }
}

/// The rows of one window, decoded.
struct Rows<'t> {
    table: &'t Table,
    layout: &'t Layout,
    window: &'t Window,
    cells: Vec<Cells>,
}

impl Rows<'_> {
    /// Shows them in their order.
    fn read<V: RowVisitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
        (0..self.window.length).try_for_each(|index| self.show(index, visitor))
    }

    /// Hands them to a collector in their order, the plain ones as they are.
    fn collect(&self, collector: &mut Collector<'_>) -> Result<(), IngestError> {
        let (rules, now) = collector.rules();
        let Some(plain) = PlainRows::of(self.layout, &self.cells, rules, now) else {
            return self.read(collector);
        };
        let draft = match self.window.length {
            ..FEWEST_IN_COLUMNS => None,
            n_rows => plain.draft(n_rows).filter(|draft| draft.n_plain() >= n_rows / 2),
        };
        let is_drafted = |index: usize| draft.as_ref().is_some_and(|draft| draft.is_plain[index]);
        let mut spelled = Spelled::default();
        for index in (0..self.window.length).filter(|&index| !is_drafted(index)) {
            match plain.row(index, &mut spelled) {
                Some((customer, at, fields)) => collector.keep(customer, at, &fields)?,
                None => self.show(index, collector)?,
            }
        }
        draft.map_or(Ok(()), |draft| collector.keep_all(draft))
    }

    fn show<V: RowVisitor>(&self, index: usize, visitor: &mut V) -> Result<(), V::Error> {
        let raw = self.layout.raw_of(|place| self.cells[place].at(index));
        visitor.visit(Ok(&raw), || self.table.example(self.window, &self.cells, index))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        as_of, columns, counts, histories, log_in, parquet, read_with, rules, validation,
    };
    use super::super::parquet_table::WINDOW_ROWS;
    use super::super::{Log, Source};
    use super::*;
    use habitus_engine::domain::{EventRules, Money, Rejection, Repair, Zone};
    use polars::prelude::{
        Categories, DataType, IntoSeries, NamedFrom, Series, TimeUnit, TimeZone,
    };
    use std::fs;

    /// The log that these columns give under these rules, written in row groups of two.
    fn log_under(rules: &EventRules, series: Vec<Series>) -> Result<Log, IngestError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        parquet(&path, series, Some(2));
        read_with(&[Source::Path(path)], &columns(), rules, &mut |_| ())
    }

    fn log(series: Vec<Series>) -> Result<Log, IngestError> {
        log_under(&rules(), series)
    }

    fn ids() -> Series {
        Series::new("id".into(), &["a", "b", "c", "d", "e"][..])
    }

    fn dates() -> Series {
        Series::new("date".into(), &["1997-01-01"; 5][..])
    }

    fn amounts() -> Series {
        Series::new("amount".into(), &[5i64; 5][..])
    }

    /// The same time in every row.
    fn times(ticks: i64, unit: TimeUnit, zone: Option<TimeZone>) -> Series {
        let ticks = Series::new("date".into(), &[ticks; 5][..]);
        ticks.i64().unwrap().clone().into_datetime(unit, zone).into_series()
    }

    fn days(day: i32) -> Series {
        Series::new("date".into(), &[day; 5][..]).cast(&DataType::Date).unwrap()
    }

    /// When the first customer came under these rules, if these are the times.
    fn first_time(rules: &EventRules, times: Series) -> String {
        let log = log_under(rules, vec![ids(), times, amounts()]).unwrap();
        histories(&log)[0].events()[0].at.to_string()
    }

    #[test]
    fn times_of_every_unit_are_read() {
        const MS: i64 = 852_163_200_500; // 1997-01-02T00:00:00.500Z
        for (unit, ticks_per_ms) in [
            (TimeUnit::Milliseconds, 1),
            (TimeUnit::Microseconds, 1_000),
            (TimeUnit::Nanoseconds, 1_000_000),
        ] {
            for zone in [None, Some(TimeZone::UTC)] {
                let times = times(MS * ticks_per_ms, unit, zone);
                assert_eq!(first_time(&rules(), times), "1997-01-02T00:00:00.5Z", "{unit:?}");
            }
        }
        assert_eq!(first_time(&rules(), days(9_863)), "1997-01-02T00:00:00Z");
    }

    #[test]
    fn only_times_without_a_zone_are_taken_in_that_of_the_rules() {
        const MS: i64 = 867_753_000_000; // 1997-07-01T10:30:00Z
        let unit = TimeUnit::Milliseconds;
        let london = EventRules { zone: Zone::named("Europe/London").unwrap(), ..rules() };
        assert_eq!(first_time(&london, times(MS, unit, None)), "1997-07-01T09:30:00Z");
        let known = times(MS, unit, Some(TimeZone::UTC));
        assert_eq!(first_time(&london, known), "1997-07-01T10:30:00Z");
        assert_eq!(first_time(&london, days(10_043)), "1997-06-30T23:00:00Z");

        const GAP: i64 = 859_685_400_000; // 1997-03-30T01:30:00, when clocks went from 1 to 2
        let log = log_under(&london, vec![ids(), times(GAP, unit, None), amounts()]).unwrap();
        let repaired = counts(&log, as_of("2020-01-01")).repaired;
        assert_eq!(repaired.into_iter().collect::<Vec<_>>(), [(Repair::LocalTimeAdjusted, 5)]);
    }

    #[test]
    fn a_format_is_for_texts_alone() {
        let rules = EventRules { time_format: Some("%d.%m.%Y".into()), ..rules() };
        let texts = Series::new("date".into(), &["02.01.1997"; 5][..]);
        let typed = times(852_163_200_000, TimeUnit::Milliseconds, None);
        for times in [texts, typed, days(9_863)] {
            assert_eq!(first_time(&rules, times), "1997-01-02T00:00:00Z");
        }
    }

    #[test]
    fn numbers_of_every_type_and_categories_are_read() {
        let categories = DataType::from_categories(Categories::global());
        let ids = ids().cast(&categories).unwrap();
        for number in [
            DataType::Int8,
            DataType::UInt16,
            DataType::Int32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal(12, 2),
        ] {
            let amounts = amounts().cast(&number).unwrap();
            let histories = histories(&log(vec![ids.clone(), dates(), amounts]).unwrap());
            assert_eq!(histories[4].customer().as_str(), "e");
            assert_eq!(histories[4].events()[0].amount, Some(Money(500)), "{number:?}");
        }
    }

    #[test]
    fn floats_of_either_width_are_their_shortest_decimals() {
        let read = |amounts: Series| {
            let log = log(vec![ids(), dates(), amounts]).unwrap();
            let rounded = counts(&log, as_of("2020-01-01")).repaired.into_values().sum::<u64>();
            (histories(&log)[0].events()[0].amount, rounded)
        };
        let singles = Series::new("amount".into(), &[0.1f32; 5][..]);
        assert_eq!(read(singles), (Some(Money(10)), 0));
        let doubles = Series::new("amount".into(), &[0.1f64 + 0.2; 5][..]);
        assert_eq!(read(doubles), (Some(Money(30)), 5));
    }

    #[test]
    fn customers_may_be_numbers() {
        let ids = Series::new("id".into(), &[1, 2, 3, 4, u64::MAX][..]);
        let histories = histories(&log(vec![ids, dates(), amounts()]).unwrap());
        let customers: Vec<&str> = histories.iter().map(|h| h.customer().as_str()).collect();
        assert_eq!(customers, ["1", "18446744073709551615", "2", "3", "4"]);
    }

    #[test]
    fn rows_are_numbered_over_groups_and_nulls_are_absent() {
        let ids = Series::new("id".into(), &[Some("a"), None, Some("c"), Some("d"), None][..]);
        let amounts = [Some(1.5f64), Some(1.0), None, Some(f64::NAN), Some(0.1)];
        let amounts = Series::new("amount".into(), &amounts[..]);
        let log = log(vec![amounts, dates(), ids]).unwrap();
        assert_eq!(counts(&log, as_of("2020-01-01")).accepted, 1);
        let examples = validation(&log, as_of("2020-01-01")).account.rejected_examples;
        let lines = |rejection| -> Vec<u64> {
            examples[&rejection].iter().map(|example| example.line).collect()
        };
        assert_eq!(lines(Rejection::MissingCustomer), [2, 5]);
        assert_eq!(lines(Rejection::MissingAmount), [3]);
        assert_eq!(lines(Rejection::NonFiniteAmount), [4]);
        assert_eq!(examples[&Rejection::MissingAmount][0].text, "c,1997-01-01,");
        assert_eq!(examples[&Rejection::NonFiniteAmount][0].text, "d,1997-01-01,NaN");
    }

    #[test]
    fn a_group_longer_than_a_window_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        let n_rows = WINDOW_ROWS + 1_000;
        let mut amounts = vec![1i64; n_rows];
        amounts[n_rows - 1] = -1;
        let ids: Vec<i64> = (0..n_rows as i64).collect();
        let columns = vec![
            Series::new("id".into(), ids),
            Series::new("date".into(), vec!["1997-01-01"; n_rows]),
            Series::new("amount".into(), amounts),
        ];
        parquet(&path, columns, None);
        let log = log_in(&path, &mut |_| ()).unwrap();
        assert_eq!(histories(&log).len(), n_rows - 1);
        let examples = validation(&log, as_of("2020-01-01")).account.rejected_examples;
        assert_eq!(examples[&Rejection::NegativeAmount][0].line, n_rows as u64);
    }

    #[test]
    fn a_missing_column_or_another_type_is_named() {
        let missing = log(vec![ids(), amounts()]).unwrap_err();
        match missing {
            IngestError::MissingColumn { field: "time", column, present, .. } => {
                assert_eq!((column.as_str(), present.join(" ")), ("date", "id amount".into()));
            }
            other => panic!("{other:?}"),
        }
        let flags = Series::new("amount".into(), &[true; 5][..]);
        assert!(matches!(
            log(vec![ids(), dates(), flags]),
            Err(IngestError::ColumnType { field: "amount", found, .. }) if found == "Boolean"
        ));
    }

    #[test]
    fn no_rows_are_no_error_but_a_foreign_or_cut_file_is() {
        let none = [ids(), dates(), amounts()].map(|column| column.head(Some(0)));
        assert!(histories(&log(Vec::from(none)).unwrap()).is_empty());

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        parquet(&path, vec![ids(), dates(), amounts()], None);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 9], &whole[..10], b"id,date,amount\n"] {
            fs::write(&path, bytes).unwrap();
            match log_in(&path, &mut |_| ()) {
                Err(IngestError::Parquet { file, .. }) => assert!(file.ends_with("log.parquet")),
                other => panic!("{other:?}"),
            }
        }
    }
}
