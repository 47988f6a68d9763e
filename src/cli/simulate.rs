//! `habitus simulate`: a log of customers who never were, of any size.

use super::Global;
use super::exit::Refusal;
use super::progress::Progress;
use crate::export::{Column, ColumnKind, Schema, TableWriter};
use crate::report::Table;
use habitus_engine::domain::{EventKind, Money, Seed, Zone};
use habitus_engine::simulation::{self, Life, Shop, SimulatedEvent};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Customers drawn at a time, by all threads together.
const CHUNK: u64 = 2_048;
/// Events per batch, at least, but for the last one. What is in memory is one batch and what one
/// chunk adds to it.
const BATCH: usize = 65_536;

/// The shop trades in one currency, whose minor unit has two digits.
const CURRENCY: &str = "USD";
const MINOR_PER_MAJOR: f64 = 100.0;
/// Names of the first channels; a shop with more has numbers for the rest.
const CHANNELS: [&str; 3] = ["web", "app", "store"];

/// Write a log of simulated customers to a file
#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// How many customers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    customers: u64,
    /// The file to write: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The same seed gives the same customers
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// The first day of the log, in UTC
    #[arg(long, value_name = "DATE", default_value = "2020-01-01")]
    start: String,
    /// How many days the log spans
    #[arg(long, value_name = "N", default_value_t = 730)]
    days: u32,
    /// Purchases per customer, on average; those of the default shop where left out
    #[arg(long, value_name = "X")]
    orders: Option<f64>,
    /// Only purchases: no visits, carts, refunds, ratings and campaign contacts
    #[arg(long)]
    purchases_only: bool,
    /// A second file: what each customer was drawn from
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

impl Simulate {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        if self.truth.as_ref().is_some_and(|truth| is_same(truth, &self.out)) {
            return Err(Refusal::SameFile.into());
        }
        let shop = self.shop()?;
        let seed = Seed(self.seed);
        let mut log = TableWriter::create(&self.out, schema())?;
        let truth = self.truth.as_deref().map(|path| TableWriter::create(path, truth_schema()));
        let mut truth = truth.transpose()?;

        let progress = Progress::of(self.customers, "simulating", false, global.quiet);
        let mut counts: BTreeMap<EventKind, u64> = BTreeMap::new();
        let mut pending: Vec<SimulatedEvent> = Vec::new();
        let mut from = 0;
        while from < self.customers {
            let to = from.saturating_add(CHUNK).min(self.customers);
            let lives: Vec<Life> = (from..to)
                .into_par_iter()
                .map(|index| simulation::customer(&shop, seed, index))
                .collect();
            if let Some(writer) = &mut truth {
                writer.write(truth_batch(from, &lives))?;
            }
            for event in lives.iter().flat_map(|life| &life.events) {
                if self.purchases_only && event.kind != EventKind::Purchase {
                    continue;
                }
                *counts.entry(event.kind).or_default() += 1;
                pending.push(*event);
            }
            if pending.len() >= BATCH {
                log.write(batch(&pending))?;
                pending.clear();
            }
            from = to;
            progress.at(from);
        }
        if !pending.is_empty() {
            log.write(batch(&pending))?;
        }
        drop(progress);
        // The log last: where it stands, all of it does.
        if let Some(writer) = truth {
            writer.finish()?;
        }
        let rows = log.finish()?;
        global.format.print(
            || {
                let (customers, out) = (self.customers, self.out.display());
                format!("{}\n{rows} events of {customers} customers in {out}", table(&counts))
            },
            || {
                json!({
                    "out": self.out,
                    "truth": self.truth,
                    "rows": rows,
                    "customers": self.customers,
                    "events": counts,
                    "seed": self.seed,
                    "shop": shop,
                })
            },
        )
    }

    /// The default shop with what the flags say, settled once for all customers.
    fn shop(&self) -> anyhow::Result<Shop> {
        let utc = Zone::named("UTC")?;
        let start = utc.day_of(utc.parse(&self.start, None)?.at);
        let shop = Shop { start, days: self.days, mean_orders: self.orders, ..Shop::default() };
        let shop = shop.settle()?;
        Ok(if self.purchases_only { shop.only_purchases() } else { shop })
    }
}

fn table(counts: &BTreeMap<EventKind, u64>) -> Table {
    let mut table = Table::new(&["kind", "events"]);
    for (kind, count) in counts {
        table.row(vec![kind.name().to_owned(), count.to_string()]);
    }
    table
}

/// The log's columns, by the names that a configuration's `[data.columns]` would give them.
fn schema() -> Schema {
    use ColumnKind::{Float, Integer, Text};
    Schema::new([
        ("customer_id", Text),
        ("time", Text),
        ("kind", Text),
        ("amount", Float),
        ("quantity", Integer),
        ("discount", Float),
        ("order_id", Text),
        ("event_id", Text),
        ("item", Text),
        ("category", Text),
        ("channel", Text),
        ("currency", Text),
        ("rating", Integer),
    ])
}

/// The columns of a batch, each spelled by all threads. Rows keep their order.
fn batch(events: &[SimulatedEvent]) -> Vec<Column> {
    vec![
        text(events, |event| Some(customer_id(event.customer))),
        text(events, |event| Some(event.at.to_string())),
        text(events, |event| Some(event.kind.name().to_owned())),
        money(events, |event| event.amount),
        integer(events, |event| event.quantity),
        money(events, |event| event.discount),
        text(events, |event| event.order.map(|order| format!("o{:07}-{order}", event.customer))),
        text(events, |event| Some(format!("e{:07}-{}", event.customer, event.number))),
        text(events, |event| event.item.map(|item| format!("i{item:04}"))),
        text(events, |event| event.category.map(|category| format!("k{category:02}"))),
        text(events, |event| event.channel.map(channel)),
        text(events, |event| event.amount.map(|_| CURRENCY.to_owned())),
        integer(events, |event| event.rating.map(i64::from)),
    ]
}

fn text(
    events: &[SimulatedEvent],
    value: impl Fn(&SimulatedEvent) -> Option<String> + Send + Sync,
) -> Column {
    Column::Text(events.par_iter().map(value).collect())
}

/// Cents over a hundred: the float nearest to the two decimals, which is spelled as they are.
fn money(
    events: &[SimulatedEvent],
    value: impl Fn(&SimulatedEvent) -> Option<Money> + Send + Sync,
) -> Column {
    let major =
        |event: &SimulatedEvent| value(event).map(|amount| amount.0 as f64 / MINOR_PER_MAJOR);
    Column::Float(events.par_iter().map(|event| major(event).unwrap_or(f64::NAN)).collect())
}

fn integer(
    events: &[SimulatedEvent],
    value: impl Fn(&SimulatedEvent) -> Option<i64> + Send + Sync,
) -> Column {
    Column::Integer(events.par_iter().map(value).collect())
}

fn customer_id(index: u64) -> String {
    format!("c{index:07}")
}

fn channel(number: u8) -> String {
    match CHANNELS.get(usize::from(number)) {
        Some(name) => (*name).to_owned(),
        None => format!("channel{number}"),
    }
}

/// Whether two names mean one file, which need not exist yet.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(parent.join(path.file_name()?))
    };
    whole(a).is_some_and(|a| Some(a) == whole(b))
}

fn truth_schema() -> Schema {
    use ColumnKind::{Float, Text};
    Schema::new([
        ("customer_id", Text),
        ("lambda", Float),
        ("p", Float),
        ("alive_until", Text),
        ("mean_spend", Float),
    ])
}

/// The truth about customers with successive indices.
fn truth_batch(first: u64, lives: &[Life]) -> Vec<Column> {
    let ids = (first..).zip(lives).map(|(index, _)| Some(customer_id(index)));
    let float = |value: fn(&Life) -> f64| Column::Float(lives.iter().map(value).collect());
    let gone = lives.iter().map(|life| life.truth.alive_until.map(|day| day.to_string()));
    vec![
        Column::Text(ids.collect()),
        float(|life| life.truth.lambda),
        float(|life| life.truth.p),
        Column::Text(gone.collect()),
        float(|life| life.truth.mean_spend),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use std::fs;
    use std::path::Path;

    const QUIET: Global = Global { format: Format::Json, threads: None, quiet: true };

    fn simulate(directory: &Path, customers: u64, purchases_only: bool) -> (String, String) {
        let (out, truth) = (directory.join("log.csv"), directory.join("truth.csv"));
        let command = Simulate {
            customers,
            out: out.clone(),
            seed: 42,
            start: "2021-03-01".into(),
            days: 365,
            orders: Some(3.0),
            purchases_only,
            truth: Some(truth.clone()),
        };
        command.run(&QUIET).unwrap();
        (fs::read_to_string(out).unwrap(), fs::read_to_string(truth).unwrap())
    }

    #[test]
    fn a_log_repeats_itself_and_more_customers_only_add_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let (few, truth) = simulate(directory.path(), 20, false);
        assert_eq!(simulate(directory.path(), 20, false), (few.clone(), truth.clone()));
        let (more, _) = simulate(directory.path(), 40, false);
        assert!(more.starts_with(&few) && more.len() > few.len());
        assert_eq!(truth.lines().count(), 21);
        let first = few.lines().nth(1).unwrap();
        assert!(first.starts_with("c0000000,202") && first.contains(",purchase,"), "{first}");
    }

    #[test]
    fn purchases_alone_are_the_purchases_of_the_whole_log() {
        let directory = tempfile::tempdir().unwrap();
        // Event numbers count all events, so the column is left aside.
        let purchases = |log: &str| -> Vec<String> {
            let rows = log.lines().filter(|line| line.contains(",purchase,"));
            rows.map(|row| row.split(',').filter(|cell| !cell.starts_with('e')).collect()).collect()
        };
        let (all, truth) = simulate(directory.path(), 30, false);
        let (only, same) = simulate(directory.path(), 30, true);
        assert_eq!(purchases(&all), purchases(&only));
        assert_eq!(only.lines().count(), purchases(&only).len() + 1);
        assert_eq!(truth, same);
    }

    #[test]
    fn one_file_cannot_be_both() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("log.csv");
        let command = Simulate {
            customers: 1,
            out: out.clone(),
            seed: 42,
            start: "2020-01-01".into(),
            days: 10,
            orders: None,
            purchases_only: false,
            truth: Some(out),
        };
        assert!(command.run(&QUIET).is_err());
    }
}
