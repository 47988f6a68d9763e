//! `habitus train`: a log becomes a model version.

use super::Global;
use super::input::{self, LogChoice};
use super::progress::Progress;
use crate::clock;
use crate::config::{Config, Overrides};
use crate::ingest::{Source, Validation};
use crate::registry::{Draft, PRODUCTION, Published, Registry};
use crate::report;
use habitus_engine::training::{self, Trained};
use serde_json::json;
use std::path::PathBuf;

/// Learn a model version from a log
#[derive(Debug, clap::Args)]
pub struct Train {
    /// Settings; see `src/defaults.toml` for all of them
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    log: LogChoice,
    /// Nothing after this matters: RFC 3339, or a date, which means the end of that day
    #[arg(long, value_name = "T")]
    as_of: Option<String>,
    /// Days ahead that value and churn speak of
    #[arg(long, value_name = "N")]
    horizon_days: Option<u32>,
    /// The registry's directory
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// The model's name in the registry
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Of everything random; the same seed gives the same bits
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Make it the production version; the first version of a name becomes it anyway
    #[arg(long)]
    promote: bool,
}

impl Train {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let overrides = Overrides {
            name: self.name.clone(),
            seed: self.seed,
            horizon_days: self.horizon_days,
            models: self.models.clone(),
            listen: None,
        };
        let config = Config::load(Some(&self.config), &overrides)?;
        let run = train(&config, &sources, self.as_of.as_deref(), self.promote, global)?;
        global.format.print(|| run.text(), || run.json())
    }
}

/// A finished training run.
pub struct Run {
    pub trained: Trained,
    pub published: Published,
    validation: Validation,
    /// The version that answers from now on.
    production: String,
}

/// Reads, trains, publishes, and sets the alias where it is asked for or nothing holds it yet.
pub fn train(
    config: &Config,
    sources: &[Source],
    as_of: Option<&str>,
    promote: bool,
    global: &Global,
) -> anyhow::Result<Run> {
    let settings = &config.training;
    let log = input::read_log(sources, &config.columns, &settings.rules, global)?;
    let as_of = input::as_of(&log, as_of, &settings.rules)?;
    let validation = log.validation(as_of);
    let registry = Registry::open(&config.models);
    registry.check_writable(&config.name)?;
    let progress = Progress::stages(global.quiet);
    let trained = training::train(&log.histories, settings, as_of, &|stage| progress.stage(stage))?;
    progress.stage("publishing");
    for note in &trained.evaluation.notes {
        tracing::warn!("{note}");
    }
    let published = registry.publish(&Draft {
        name: &config.name,
        trained: &trained,
        settings,
        as_of,
        counts: &validation.counts,
        files: sources.iter().map(Source::name).collect(),
        columns: config.columns.clone(),
        created_at: clock::now(),
        threads: rayon::current_num_threads(),
        report: &report::training_report(
            &config.name,
            &trained,
            &validation.without_text().to_string(),
        ),
    })?;
    let version = &published.manifest.version;
    let incumbent = registry.aliases(&config.name)?.remove(PRODUCTION);
    let production = match incumbent {
        Some(incumbent) if !promote => incumbent,
        _ => {
            registry.set_alias(&config.name, PRODUCTION, version, clock::now())?;
            version.clone()
        }
    };
    Ok(Run { trained, published, validation, production })
}

impl Run {
    fn text(&self) -> String {
        let manifest = &self.published.manifest;
        let version = &self.trained.version;
        let (churn, value) = report::trial_tables(&self.trained.evaluation);
        let replaced: String =
            report::replacements(version).iter().map(|line| format!("{line}\n")).collect();
        format!(
            "{}\n{}\n{churn}\n{value}\n{replaced}{}\n\n{} {}@{}{}\nreport  {}",
            self.validation,
            report::segment_table(&version.segment.catalogue, &version.rules.currency),
            clock_line(&self.trained),
            if self.published.created { "version" } else { "equal version exists:" },
            manifest.name,
            manifest.version,
            if self.production == manifest.version {
                " (production)".to_owned()
            } else {
                format!("; {} stays in production", self.production)
            },
            self.published.directory.join("report.md").display(),
        )
    }

    fn json(&self) -> serde_json::Value {
        let manifest = &self.published.manifest;
        json!({
            "name": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
            "created": self.published.created,
            "production": self.production == manifest.version,
            "directory": self.published.directory,
            "rows": self.validation,
            "segments": self.trained.version.segment.catalogue,
            "evaluation": self.trained.evaluation,
        })
    }
}

/// Where the log was cut, in one line.
pub fn clock_line(trained: &Trained) -> String {
    let clock = &trained.evaluation.clock;
    format!(
        "fitted at {}, calibrated at {}, measured at {}, each on the {} days after{}",
        clock.fit,
        clock.calibrate,
        clock.measure,
        clock.window_days,
        if trained.evaluation.bridged {
            format!("; bridged to the horizon of {} days", clock.horizon_days)
        } else {
            String::new()
        }
    )
}
