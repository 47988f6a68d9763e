//! `habitus features`: the feature matrix as a file for a notebook.

use super::Global;
use super::input::{LogChoice, LogInput, MemoryChoice};
use super::progress::Progress;
use super::sorted::{RowsOfPart, sorted};
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, RunRows, Runs, Schema, TableWriter};
use crate::ingest::{IngestError, Part};
use anyhow::Context;
use habitus_engine::domain::AsOf;
use habitus_engine::features::{Categories, Plan};
use serde_json::json;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values per batch handed to the writer, roughly.
const BATCH_VALUES: usize = 1 << 19;

/// Customers per batch, at least and at most.
const BATCH_ROWS: RangeInclusive<usize> = 1 << 13..=1 << 15;

/// Write the feature matrix, before transforms, to a file
#[derive(Debug, clap::Args)]
pub struct Features {
    /// Settings: the columns of the log and the features wanted
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    log: LogChoice,
    /// Nothing after this matters: RFC 3339, or a date, which means the end of that day
    #[arg(long, value_name = "T")]
    as_of: String,
    #[command(flatten)]
    memory: MemoryChoice,
    /// The file to write: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Features {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let config = Config::load(
            Some(&self.config),
            &Overrides { memory_mb: self.memory.memory_mb, ..Overrides::default() },
        )?;
        let settings = &config.training;
        let input = LogInput {
            sources: &sources.events,
            columns: &config.columns,
            rules: &settings.rules,
            memory: &config.memory,
            customers: sources.customers(&config.customers),
            max_rejected_share: config.max_rejected_share,
            as_of: Some(&self.as_of),
            keep_in: None,
        };
        // What cannot be computed is refused before the log is read.
        let mut categories = Categories::of(&settings.spec);
        if categories.is_empty() {
            Plan::compile(&settings.spec, &settings.rules)?;
        }
        let (log, as_of) = input.read(global)?;
        if !categories.is_empty() {
            log.each_part(
                as_of,
                |part| part.histories(),
                |(histories, _)| {
                    categories.see(&histories);
                    Ok::<_, IngestError>(())
                },
            )?;
        }
        let plan = Plan::compile(&settings.spec.resolved(&categories), &settings.rules)?;
        let columns = [("customer_id".to_owned(), ColumnKind::Text)]
            .into_iter()
            .chain(plan.names().iter().map(|name| (name.clone(), ColumnKind::Float)));
        let mut writer = TableWriter::create(&self.out, Schema::new(columns))?;
        let n_features = plan.names().len();
        let directory = match &config.memory.directory {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::tempdir(),
        };
        let directory = directory.context("making a temporary directory")?;
        let most = AtomicUsize::new(0);
        let made = sorted(
            &log,
            as_of,
            || Ok(Runs::open(directory.path().to_owned())?),
            |part| rows_of(&plan, &part, as_of, &most),
            "features",
            global,
        )?;
        let validation = log.validation(as_of, &made.counts);
        // What is no longer needed goes while the first rows are encoded.
        drop(log);
        let progress = Progress::of(made.n_rows, "writing", false, global.quiet);
        let mut batch = Batch::new(n_features);
        let mut n_written = 0;
        made.rows.each(|customer, bytes| {
            batch.add(customer, bytes);
            if batch.customers.len() == batch.n_rows {
                n_written += batch.n_rows as u64;
                progress.at(n_written);
                writer.write(batch.take())?;
            }
            Ok(())
        })?;
        writer.write(batch.take())?;
        drop(progress);
        let rows = writer.finish().with_context(|| format!("writing {}", self.out.display()))?;
        global.format.print(
            || format!("{validation}\n{rows} customers in {}", self.out.display()),
            || json!({ "out": self.out, "customers": rows, "features": plan.names(), "rows": validation }),
        )
    }
}

/// A row per customer who has one at the as-of: its features end to end. Parts are about equally
/// large, so that there is room for as many as any part before had, and some more.
fn rows_of(
    plan: &Plan,
    part: &Part<'_>,
    as_of: AsOf,
    most: &AtomicUsize,
) -> Result<RowsOfPart, IngestError> {
    let usual = most.load(Ordering::Relaxed);
    let mut rows = RunRows::with_room(usual + usual / 16, 8 * plan.names().len());
    let mut values = vec![0.0; plan.names().len()];
    let counts = part.each(|history| {
        if Plan::has_row(&history, as_of) {
            plan.evaluate(&history, as_of, &mut values);
            rows.push(history.customer().as_str(), |bytes| {
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            });
        }
    })?;
    most.fetch_max(rows.len(), Ordering::Relaxed);
    Ok((rows, counts))
}

/// Customers and their features on the way to the writer.
struct Batch {
    /// How many customers there is room for.
    n_rows: usize,
    customers: Vec<Option<String>>,
    /// By feature; NaN where it is undefined.
    features: Vec<Vec<f64>>,
}

impl Batch {
    fn new(n_features: usize) -> Batch {
        let n_rows = BATCH_VALUES / n_features.max(1);
        let n_rows = n_rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
        let features = (0..n_features).map(|_| Vec::with_capacity(n_rows)).collect();
        Batch { n_rows, customers: Vec::with_capacity(n_rows), features }
    }

    /// Adds a row of [`rows_of`].
    fn add(&mut self, customer: &str, bytes: &[u8]) {
        self.customers.push(Some(customer.to_owned()));
        let (words, _) = bytes.as_chunks();
        for (feature, word) in self.features.iter_mut().zip(words) {
            feature.push(f64::from_le_bytes(*word));
        }
    }

    /// The columns so far, and begins again.
    fn take(&mut self) -> Vec<Column> {
        let Batch { customers, features, .. } =
            std::mem::replace(self, Batch::new(self.features.len()));
        let features = features.into_iter().map(Column::Float);
        std::iter::once(Column::Text(customers)).chain(features).collect()
    }
}
