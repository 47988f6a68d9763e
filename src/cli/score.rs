//! `habitus score`: one row of answers per customer.

use super::Global;
use super::input::{self, LogChoice, ModelChoice};
use super::progress::Progress;
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, Schema, TableWriter};
use crate::registry::Registry;
use crate::report::Table;
use habitus_engine::domain::{Answer, Prediction};
use habitus_engine::scoring::Scorer;
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Customers per batch: what is in memory besides the histories.
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
    /// The file to write: .csv, .parquet or .ndjson
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Score {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let overrides = Overrides { models: self.choice.models.clone(), ..Overrides::default() };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        let artefact = self.choice.load(&Registry::open(&config.models))?;
        let columns = input::columns(&artefact, self.config.as_ref().map(|_| &config))?;
        let mut writer = TableWriter::create(&self.out, schema())?;
        let rules = artefact.version.rules.clone();
        let version = artefact.manifest.version;
        let scorer = Scorer::new(artefact.version)?;
        let log = input::read_log(&sources, &columns, &rules, global)?;
        let as_of = input::as_of(&log, self.as_of.as_deref(), &rules)?;

        let progress = Progress::of(log.histories.len() as u64, "scoring", false, global.quiet);
        let mut counts = HeadCounts::default();
        for (chunk, histories) in log.histories.chunks(CHUNK).enumerate() {
            // Customers who only come later would tell of events after the as-of.
            let predictions: Vec<Prediction> = histories
                .par_iter()
                .filter(|history| !history.until(as_of).is_empty())
                .map(|history| scorer.predict(history, as_of))
                .collect();
            predictions.iter().for_each(|prediction| counts.add(prediction));
            writer.write(batch(&predictions, &scorer, &version))?;
            progress.at(((chunk + 1) * CHUNK) as u64);
        }
        drop(progress);
        let customers = writer.finish()?;
        let validation = log.validation(as_of);
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
                    "heads": counts.0,
                    "rows": validation,
                })
            },
        )
    }
}

/// How often each head gave which status.
#[derive(Debug, Default)]
struct HeadCounts(BTreeMap<&'static str, BTreeMap<&'static str, u64>>);

impl HeadCounts {
    fn add(&mut self, prediction: &Prediction) {
        for (head, status) in [
            ("segment", prediction.segment.status()),
            ("value", prediction.value.status()),
            ("churn", prediction.churn.status()),
        ] {
            *self.0.entry(head).or_default().entry(status).or_default() += 1;
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["head", "status", "customers"]);
        for (head, statuses) in &self.0 {
            for (status, count) in statuses {
                table.row(vec![(*head).to_owned(), (*status).to_owned(), count.to_string()]);
            }
        }
        table
    }
}

/// The columns that scripts rely on.
fn schema() -> Schema {
    use ColumnKind::{Float, Integer, Text};
    Schema::new([
        ("customer_id", Text),
        ("segment_status", Text),
        ("value_status", Text),
        ("churn_status", Text),
        ("segment_id", Text),
        ("segment_name", Text),
        ("segment_probability", Float),
        ("churn_probability", Float),
        ("churn_percentile", Float),
        ("expected_purchases", Float),
        ("ltv", Float),
        ("ltv_low", Float),
        ("ltv_high", Float),
        ("p_alive", Float),
        ("horizon_days", Integer),
        ("as_of", Text),
        ("model_version", Text),
    ])
}

fn batch(predictions: &[Prediction], scorer: &Scorer, version: &str) -> Vec<Column> {
    let text = |value: &dyn Fn(&Prediction) -> Option<String>| {
        Column::Text(predictions.iter().map(value).collect())
    };
    let float = |value: &dyn Fn(&Prediction) -> Option<f64>| {
        Column::Float(predictions.iter().map(value).collect())
    };
    fn given<T, V>(answer: &Answer<T>, value: impl Fn(&T) -> V) -> Option<V> {
        answer.given().map(value)
    }
    let horizon_days = i64::from(scorer.version().forecast.bridge.horizon_days);
    vec![
        text(&|p| Some(p.customer.to_string())),
        text(&|p| Some(p.segment.status().to_owned())),
        text(&|p| Some(p.value.status().to_owned())),
        text(&|p| Some(p.churn.status().to_owned())),
        text(&|p| given(&p.segment, |segment| segment.id.to_string())),
        text(&|p| given(&p.segment, |segment| segment.name.clone())),
        float(&|p| p.segment.given()?.probability),
        float(&|p| given(&p.churn, |churn| churn.probability)),
        float(&|p| given(&p.churn, |churn| churn.percentile)),
        // Filled by the probability models, which count purchases and tell the living.
        float(&|_| None),
        float(&|p| given(&p.value, |value| value.ltv)),
        float(&|p| given(&p.value, |value| value.ltv_low)),
        float(&|p| given(&p.value, |value| value.ltv_high)),
        float(&|_| None),
        Column::Integer(vec![Some(horizon_days); predictions.len()]),
        text(&|p| Some(p.as_of.to_string())),
        text(&|_| Some(version.to_owned())),
    ]
}
