//! `habitus features`: the feature matrix as a file for a notebook.

use super::Global;
use super::input::{self, LogChoice};
use super::progress::Progress;
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, Schema, TableWriter};
use anyhow::Context;
use habitus_engine::features::Plan;
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
    /// The file to write: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Features {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let config = Config::load(Some(&self.config), &Overrides::default())?;
        let settings = &config.training;
        let plan = Plan::compile(&settings.spec, &settings.rules.currency)?;
        let columns = [("customer_id".to_owned(), ColumnKind::Text)]
            .into_iter()
            .chain(plan.names().iter().map(|name| (name.clone(), ColumnKind::Float)));
        let mut writer = TableWriter::create(&self.out, Schema::new(columns))?;
        let log = input::read_log(&sources, &config.columns, &settings.rules, global)?;
        let as_of = input::as_of(&log, Some(&self.as_of), &settings.rules)?;
        let progress = Progress::of(log.histories.len() as u64, "features", false, global.quiet);
        for (chunk, histories) in log.histories.chunks(CHUNK).enumerate() {
            let table = plan.table(histories, as_of);
            let ids = table.rows.iter().map(|&row| Some(histories[row].customer().to_string()));
            let mut batch = vec![Column::Text(ids.collect())];
            batch.extend((0..plan.names().len()).map(|feature| {
                let values = table.matrix.rows().map(|row| row[feature]);
                Column::Float(values.map(|value| Some(value).filter(|v| !v.is_nan())).collect())
            }));
            writer.write(batch)?;
            progress.at(((chunk + 1) * CHUNK) as u64);
        }
        drop(progress);
        let rows = writer.finish().with_context(|| format!("writing {}", self.out.display()))?;
        let validation = log.validation(as_of);
        global.format.print(
            || format!("{validation}\n{rows} customers in {}", self.out.display()),
            || json!({ "out": self.out, "customers": rows, "features": plan.names(), "rows": validation }),
        )
    }
}
