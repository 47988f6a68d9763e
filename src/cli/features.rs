//! `habitus features`: the feature matrix as a file for a notebook.

use super::Global;
use super::input::{LogChoice, LogInput, MemoryChoice};
use super::progress::Progress;
use super::sorted::{RowsOfPart, sorted};
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, RunRow, Runs, Schema, TableWriter};
use crate::ingest::{IngestError, Part};
use anyhow::Context;
use habitus_engine::domain::AsOf;
use habitus_engine::features::{Categories, Plan};
use serde_json::json;
use std::path::PathBuf;

/// Customers per batch handed to the writer.
const CHUNK: usize = 8_192;

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
        let made = sorted(
            &log,
            as_of,
            || Ok(Runs::open(directory.path().to_owned())?),
            |part| rows_of(&plan, &part, as_of),
            "features",
            global,
        )?;
        let progress = Progress::of(made.n_rows, "writing", false, global.quiet);
        let mut batch: Vec<RunRow> = Vec::with_capacity(CHUNK);
        let mut n_written = 0;
        for row in made.rows {
            batch.push(row?);
            if batch.len() == CHUNK {
                writer.write(columns_of(&batch, n_features))?;
                n_written += batch.len() as u64;
                progress.at(n_written);
                batch.clear();
            }
        }
        writer.write(columns_of(&batch, n_features))?;
        drop(progress);
        let rows = writer.finish().with_context(|| format!("writing {}", self.out.display()))?;
        let validation = log.validation(as_of, &made.counts);
        global.format.print(
            || format!("{validation}\n{rows} customers in {}", self.out.display()),
            || json!({ "out": self.out, "customers": rows, "features": plan.names(), "rows": validation }),
        )
    }
}

/// A row per customer who has one at the as-of: its features end to end.
fn rows_of(plan: &Plan, part: &Part<'_>, as_of: AsOf) -> Result<RowsOfPart, IngestError> {
    let mut rows = Vec::new();
    let mut values = vec![0.0; plan.names().len()];
    let counts = part.each(|history| {
        if Plan::has_row(&history, as_of) {
            plan.evaluate(&history, as_of, &mut values);
            let mut bytes = Vec::with_capacity(8 * values.len());
            values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            rows.push(RunRow { key: history.into_customer().into(), bytes });
        }
    })?;
    Ok((rows, counts))
}

/// The customers' ids and their features, an undefined one being absent.
fn columns_of(rows: &[RunRow], n_features: usize) -> Vec<Column> {
    let mut columns =
        vec![Column::Text(rows.iter().map(|row| Some(row.key.to_string())).collect())];
    columns.extend((0..n_features).map(|feature| {
        let value = |row: &RunRow| {
            let word = row.bytes.chunks_exact(8).nth(feature)?.first_chunk::<8>()?;
            Some(f64::from_le_bytes(*word)).filter(|value| !value.is_nan())
        };
        Column::Float(rows.iter().map(value).collect())
    }));
    columns
}
