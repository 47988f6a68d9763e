//! `habitus store`: what a store takes, whether it is whole, and what is in it.

use super::Global;
use super::exit::Refusal;
use crate::clock;
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, Schema, TableWriter};
use crate::registry::{Deed, Registry};
use crate::report::Table;
use crate::store::{Kept, Settings, Stats, Store};
use anyhow::Context;
use clap::Subcommand;
use habitus_engine::domain::{RawEvent, RawValue};
use serde_json::json;
use std::path::PathBuf;

/// Rows written at once.
const CHUNK: usize = 50_000;

/// Look after a store of histories
#[derive(Debug, clap::Args)]
pub struct Stores {
    #[command(subcommand)]
    what: What,
    /// The store's directory
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Settings, of which `[store]` counts
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say how many customers and events there are, and what they take
    Stats,
    /// Read everything and compare it with its checksums and counts
    Check,
    /// Write the store anew, without freed pages and without what is older than the retention
    Compact,
    /// Write every event as it came to a file
    Export {
        /// .csv, .ndjson or .parquet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl Stores {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let overrides = Overrides { store: self.store.clone(), ..Overrides::default() };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        let store = Store::open(&config.store.path, &config.store.settings)?;
        match &self.what {
            What::Stats => {
                let stats = store.stats()?;
                global.format.print(|| table(&stats), || json!(stats))
            }
            What::Check => check(store, global),
            What::Compact => {
                let place = config.store.path.display().to_string();
                Registry::open(&config.models)
                    .note(&Deed::Compact { store: place }, clock::now())?;
                compact(store, &config.store.settings, global)
            }
            What::Export { out } => export(&store, out, global),
        }
    }
}

fn check(store: Store, global: &Global) -> anyhow::Result<()> {
    let checked = store.check()?;
    global.format.print(
        || match checked.faults.as_slice() {
            [] => {
                let (lines, customers) = (checked.lines, checked.customers);
                let mended = match checked.mended {
                    true => "; the account of free pages was out of date and was written anew",
                    false => "",
                };
                format!("{lines} events of {customers} customers are as they were written{mended}")
            }
            faults => faults.join("\n"),
        },
        || json!(checked),
    )?;
    match checked.faults.first() {
        None => Ok(()),
        Some(_) => Err(Refusal::DamagedStore { faults: checked.faults.len() }.into()),
    }
}

fn compact(store: Store, settings: &Settings, global: &Global) -> anyhow::Result<()> {
    let before = store.stats()?;
    let store = store.compact(clock::now())?;
    let after = store.stats()?;
    global.format.print(
        || {
            let gone = before.lines.saturating_sub(after.lines);
            let aged = match settings.retention_days {
                Some(days) => format!("; {gone} events were older than {days} days"),
                None => String::new(),
            };
            format!("{} bytes are {} now{aged}", before.file_bytes, after.file_bytes)
        },
        || json!({ "before": before, "after": after }),
    )
}

fn export(store: &Store, out: &std::path::Path, global: &Global) -> anyhow::Result<()> {
    let names = FIELDS.map(|(name, _)| name);
    let columns = std::iter::once("customer_id").chain(names);
    let mut writer =
        TableWriter::create(out, Schema::new(columns.map(|name| (name, ColumnKind::Text))))?;
    let mut rows: Vec<Vec<Option<String>>> = vec![Vec::new(); FIELDS.len() + 1];
    let mut flush = |rows: &mut Vec<Vec<Option<String>>>| -> anyhow::Result<()> {
        let columns = rows.iter_mut().map(|column| Column::Text(std::mem::take(column)));
        Ok(writer.write(columns.collect())?)
    };
    store.snapshot().each(|customer, kept| -> anyhow::Result<()> {
        let Kept::Line(raw) = kept else { return Ok(()) };
        rows[0].push(Some(customer.to_owned()));
        for (column, (_, field)) in rows[1..].iter_mut().zip(FIELDS) {
            column.push(field(raw).map(|value| value.text().into_owned()));
        }
        if rows[0].len() == CHUNK { flush(&mut rows) } else { Ok(()) }
    })?;
    flush(&mut rows)?;
    let n = writer.finish().context("finishing the file")?;
    global
        .format
        .print(|| format!("{n} events in {}", out.display()), || json!({ "out": out, "events": n }))
}

type Field = for<'r> fn(&RawEvent<'r>) -> Option<RawValue<'r>>;

/// The columns besides the customer, by the names that the configuration has for them.
const FIELDS: [(&str, Field); 12] = [
    ("time", |raw| raw.time),
    ("amount", |raw| raw.amount),
    ("kind", |raw| raw.kind),
    ("quantity", |raw| raw.quantity),
    ("discount", |raw| raw.discount),
    ("currency", |raw| raw.currency),
    ("rating", |raw| raw.rating),
    ("order_id", |raw| raw.order_id),
    ("event_id", |raw| raw.event_id),
    ("item", |raw| raw.item),
    ("category", |raw| raw.category),
    ("channel", |raw| raw.channel),
];

fn table(stats: &Stats) -> String {
    let none = || "none".to_owned();
    let mut table = Table::new(&["what", "value"]);
    for (name, value) in [
        ("customers", stats.customers.to_string()),
        ("events", stats.lines.to_string()),
        ("of them waiting", stats.waiting_lines.to_string()),
        ("newest event", stats.newest.clone().unwrap_or_else(none)),
        ("erased customers", stats.erased_customers.to_string()),
        ("sequence", stats.sequence.to_string()),
        ("kept from", stats.kept_from.clone().unwrap_or_else(none)),
        ("bytes of the file", stats.file_bytes.to_string()),
        ("bytes of records", stats.stored_bytes.to_string()),
        ("format", stats.format.to_string()),
        ("id", stats.id.clone()),
    ] {
        table.row(vec![name.to_owned(), value]);
    }
    table.to_string()
}
