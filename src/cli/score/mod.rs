//! `habitus score`: one row of answers per customer.

mod job;
mod row;

use super::Global;
use super::input::{HowToRead, LogChoice, LogInput, MemoryChoice, ModelChoice};
use super::progress::Progress;
use super::sorted::sorted;
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, RunRows, Schema, TableWriter};
use crate::registry::Registry;
use crate::report::Table;
use habitus_engine::domain::AsOf;
use habitus_engine::scoring::Scorer;
use job::Job;
use row::Row;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Customers per batch handed to the writer.
const CHUNK: usize = 8_192;

/// Score every customer of a log into a file
#[derive(Debug, clap::Args)]
pub struct Score {
    #[command(flatten)]
    log: LogChoice,
    /// Settings for reading the log, where they are not those that the version was trained with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Nothing after this matters; the end of the newest event's day where left out
    #[arg(long, value_name = "T")]
    as_of: Option<String>,
    #[command(flatten)]
    choice: ModelChoice,
    #[command(flatten)]
    memory: MemoryChoice,
    /// The file to write: .csv, .parquet or .ndjson
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Score {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let overrides = Overrides {
            models: self.choice.models.clone(),
            memory_mb: self.memory.memory_mb,
            ..Overrides::default()
        };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        let artefact = self.choice.load(&Registry::open(&config.models))?;
        let config_given = self.config.as_ref().map(|_| &config);
        let how = HowToRead::of(&artefact, config_given, sources.has_customers())?;
        // Whatever stands in the way of the file is told before hours go into it.
        let mut writer = TableWriter::create(&self.out, schema())?;
        let rules = artefact.version.rules.clone();
        let job =
            Job::of(&self.out, &sources.all(), &how, self.as_of.as_deref(), &artefact.manifest)?;
        let version = artefact.manifest.version;
        let scorer = Scorer::new(artefact.version)?;
        let rows = job.rows();
        let input = LogInput {
            sources: &sources.events,
            columns: &how.columns,
            rules: &rules,
            memory: &config.memory,
            customers: sources.customers(&how.customers),
            max_rejected_share: how.max_rejected_share,
            as_of: self.as_of.as_deref(),
            keep_in: Some(&rows),
        };
        let (log, as_of) = job.read(&input, global)?;
        let scored = sorted(
            &log,
            as_of,
            || job.runs(),
            |part| {
                let mut rows = RunRows::default();
                let counts = part.each(|history| {
                    // Customers who only come later would tell of events after the as-of.
                    if history.is_known_at(as_of) {
                        Row::of(&scorer.predict(&history, as_of)).put(&mut rows);
                    }
                })?;
                Ok((rows, counts))
            },
            "scoring",
            global,
        )?;

        let progress = Progress::of(scored.n_rows, "writing", false, global.quiet);
        let mut counts = HeadCounts::default();
        let mut batch: Vec<Row> = Vec::with_capacity(CHUNK);
        let frame = Frame { scorer: &scorer, as_of, version: &version };
        scored.rows.each(|customer, bytes| {
            batch.push(Row::of_run(customer, bytes)?);
            if batch.len() == CHUNK {
                counts.add(&batch);
                writer.write(frame.columns(&batch))?;
                batch.clear();
                progress.at(counts.n_customers);
            }
            Ok(())
        })?;
        counts.add(&batch);
        writer.write(frame.columns(&batch))?;
        drop(progress);
        let customers = writer.finish()?;
        let validation = log.validation(as_of, &scored.counts);
        // The file stands; what led to it is no longer needed.
        drop(log);
        job.finish();
        global.format.print(
            || {
                let out = self.out.display();
                format!(
                    "{validation}\n\n{}\n{customers} customers by {version} in {out}",
                    counts.table()
                )
            },
            || {
                json!({
                    "out": self.out,
                    "customers": customers,
                    "model_version": version,
                    "heads": counts.heads,
                    "rows": validation,
                })
            },
        )
    }
}

/// How often each head gave which status.
#[derive(Debug, Default)]
struct HeadCounts {
    heads: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    n_customers: u64,
}

impl HeadCounts {
    fn add(&mut self, rows: &[Row]) {
        self.n_customers += rows.len() as u64;
        for row in rows {
            for (head, status) in ["segment", "value", "churn"].into_iter().zip(row.statuses()) {
                *self.heads.entry(head).or_default().entry(status).or_default() += 1;
            }
        }
    }

    /// Every customer once per head: with an answer, or with the reason why there is none.
    fn table(&self) -> Table {
        let mut table = Table::new(&["head", "status", "customers"]);
        for (head, statuses) in &self.heads {
            for (status, count) in statuses {
                table.row(vec![(*head).to_owned(), (*status).to_owned(), count.to_string()]);
            }
            table.row(vec![(*head).to_owned(), "in all".to_owned(), self.n_customers.to_string()]);
        }
        table
    }
}

/// The columns that scripts rely on.
fn schema() -> Schema {
    use ColumnKind::{Boolean, Float, Integer, Text};
    Schema::new([
        ("customer_id", Text),
        ("segment_status", Text),
        ("value_status", Text),
        ("churn_status", Text),
        ("segment_id", Text),
        ("segment_name", Text),
        ("segment_probability", Float),
        ("segment_noise", Boolean),
        ("tier", Text),
        ("rfm", Text),
        ("churn_probability", Float),
        ("churn_percentile", Float),
        ("expected_purchases", Float),
        ("purchases_low", Float),
        ("purchases_high", Float),
        ("ltv", Float),
        ("ltv_low", Float),
        ("ltv_high", Float),
        ("p_alive", Float),
        ("horizon_days", Integer),
        ("as_of", Text),
        ("model_version", Text),
    ])
}

/// What all rows of a file share.
struct Frame<'a> {
    scorer: &'a Scorer,
    as_of: AsOf,
    version: &'a str,
}

impl Frame<'_> {
    /// The columns of some rows.
    fn columns(&self, rows: &[Row]) -> Vec<Column> {
        let text =
            |value: &dyn Fn(&Row) -> Option<String>| Column::Text(rows.iter().map(value).collect());
        let float = |value: fn(&Row) -> f64| Column::Float(rows.iter().map(value).collect());
        let version = self.scorer.version();
        let segment = |row: &Row| version.segment.catalogue.get(row.cluster()?);
        let horizon_days = i64::from(version.forecast.bridge.horizon_days);
        let as_of = self.as_of.at.to_string();
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        vec![
            text(&|row| Some(row.customer.to_string())),
            text(&|row| Some(row.statuses()[0].to_owned())),
            text(&|row| Some(row.statuses()[1].to_owned())),
            text(&|row| Some(row.statuses()[2].to_owned())),
            text(&|row| segment(row).map(|segment| segment.id.to_string())),
            text(&|row| segment(row).map(|segment| segment.name.clone())),
            float(|row| row.segment_probability),
            Column::Boolean(rows.iter().map(Row::noise).collect()),
            text(&|row| given(row.tier())),
            text(&|row| given(&row.rfm())),
            float(|row| row.churn_probability),
            float(|row| row.churn_percentile),
            float(|row| row.expected_purchases),
            float(|row| row.purchases_low),
            float(|row| row.purchases_high),
            float(|row| row.ltv),
            float(|row| row.ltv_low),
            float(|row| row.ltv_high),
            float(|row| row.p_alive),
            Column::Integer(vec![Some(horizon_days); rows.len()]),
            text(&|_| Some(as_of.clone())),
            text(&|_| Some(self.version.to_owned())),
        ]
    }
}
