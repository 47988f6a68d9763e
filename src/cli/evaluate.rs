//! `habitus evaluate`: every model against what happened after cut-offs of a log.

use super::Global;
use super::exit::Refusal;
use super::input::{LogChoice, LogInput, MemoryChoice};
use super::progress::Progress;
use crate::config::{Config, Overrides};
use crate::export::AtomicFile;
use crate::ingest::{HistoryCounts, IngestError, Log, Validation};
use crate::report::{self, Evaluated};
use anyhow::Context;
use habitus_engine::domain::{AsOf, Fingerprint, History, Zone};
use habitus_engine::training::{
    Population, Resampled, Sampler, TrainError, TrainingSettings, Who, backtest,
};
use habitus_engine::version::ChurnIs;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Hold every model against what happened after cut-offs of a log
///
/// At each cut-off every model learns from what was known by then, the one that `train` would serve
/// among them, and answers about the days after it. Nothing is published.
#[derive(Debug, clap::Args)]
pub struct Evaluate {
    /// Settings; see `src/defaults.toml` for all of them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogChoice,
    /// Dates, at whose end models learn and answer; the horizon after each must end within the log
    #[arg(long, value_name = "DATE", num_args = 1.., required = true)]
    cutoff: Vec<String>,
    /// Days after each cut-off that models are asked about
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    horizon_days: Option<u32>,
    /// Of everything random; the same seed gives the same numbers
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Draws of customers for standard errors and intervals; 0 for none
    #[arg(
        long,
        value_name = "N",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(..=100_000)
    )]
    bootstrap: u32,
    #[command(flatten)]
    memory: MemoryChoice,
    /// A directory for evaluation.json, evaluation.md and the plots
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A cut-off and the end of its horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    cutoff: AsOf,
    until: AsOf,
}

impl Evaluate {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let overrides = Overrides {
            seed: self.seed,
            horizon_days: self.horizon_days,
            memory_mb: self.memory.memory_mb,
            ..Overrides::default()
        };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        let settings = &config.training;
        // What cannot be evaluated is refused before the log is read.
        if settings.churn_is == ChurnIs::Label {
            return Err(TrainError::LabelsNotEvaluated.into());
        }
        let spans = self.spans(&settings.rules.zone, settings.horizon_days)?;
        let input = LogInput {
            sources: &sources.events,
            columns: &config.columns,
            rules: &settings.rules,
            memory: &config.memory,
            customers: sources.customers(&config.customers),
            max_rejected_share: config.max_rejected_share,
            as_of: None,
            keep_in: None,
        };
        let (log, newest) = input.read(global)?;
        for span in &spans {
            span.check(newest, settings.horizon_days)?;
        }
        if let Some(directory) = &self.out {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        let mut evaluated = Vec::new();
        let mut counts = HistoryCounts::default();
        for span in &spans {
            let (histories, population, read) = span.draw(&log, settings, global)?;
            counts = read;
            evaluated.push(self.evaluate(span, &histories, &population, settings, global)?);
        }
        // Of the last cut-off, whose horizon reaches furthest.
        let until = spans.last().map_or(newest, |span| span.until);
        let rows = log.validation(until, &counts);
        let json = || self.json(&config, &evaluated, &rows);
        let written = self
            .out
            .as_deref()
            .map(|directory| self.write(directory, &config.name, &evaluated, &rows, &json()));
        let written = written.transpose()?;
        let text = || {
            let tables: Vec<String> = evaluated.iter().map(Evaluated::text).collect();
            let place = written.as_ref().map(|report| format!("\nreport  {}", report.display()));
            format!("{rows}\n{}{}", tables.join("\n"), place.unwrap_or_default())
        };
        global.format.print(text, json)
    }

    /// The cut-offs in their order, each once.
    fn spans(&self, zone: &Zone, horizon_days: u32) -> anyhow::Result<Vec<Span>> {
        let days = i32::try_from(horizon_days)?;
        let span = |text: &String| {
            let date = zone.parse(text, None).ok().filter(|parsed| parsed.date_only);
            let date = date.ok_or_else(|| Refusal::CutoffNoDate { text: text.clone() })?;
            let cutoff = zone.end_of(zone.day_of(date.at));
            Ok(Span { cutoff, until: zone.end_of(cutoff.day.plus(days)) })
        };
        let spans: Result<Vec<Span>, Refusal> = self.cutoff.iter().map(span).collect();
        let mut spans = spans?;
        spans.sort_unstable();
        spans.dedup();
        Ok(spans)
    }

    /// Lets every model answer and measures it.
    fn evaluate(
        &self,
        span: &Span,
        histories: &[History],
        population: &Population,
        settings: &TrainingSettings,
        global: &Global,
    ) -> anyhow::Result<Evaluated> {
        let progress = Progress::stages(global.quiet);
        let told = |stage: &str| progress.stage(&format!("{}: {stage}", span.cutoff.day));
        let backtest = backtest(histories, settings, span.cutoff, span.until, &told)
            .with_context(|| format!("the cut-off {}", span.cutoff.day))?;
        told("bootstrap over customers");
        let measure = |who| backtest.scorecard(who, self.bootstrap, settings.seed);
        let (all, eligible) = (measure(Who::All), measure(Who::Eligible));
        let Population { n_customers, n_sampled, .. } = population;
        let sampled = (n_sampled < n_customers).then(|| {
            format!(
                "a sample of {n_sampled} of {n_customers} customers (`model.max_customers`), of whom alone \
                 the models of purchases learned too"
            )
        });
        Ok(Evaluated { backtest, all, eligible, notes: sampled.into_iter().collect() })
    }

    fn json(
        &self,
        config: &Config,
        evaluated: &[Evaluated],
        rows: &Validation,
    ) -> serde_json::Value {
        json!({
            "name": config.name,
            "currency": config.training.rules.currency.code,
            "seed": config.training.seed,
            "bootstrap": { "replicates": self.bootstrap, "level": Resampled::LEVEL },
            "rows": rows,
            "cutoffs": evaluated.iter().map(Evaluated::json).collect::<Vec<_>>(),
        })
    }

    /// Writes the document, the report and the plots; gives the place of the report.
    fn write(
        &self,
        directory: &Path,
        name: &str,
        evaluated: &[Evaluated],
        rows: &Validation,
        json: &serde_json::Value,
    ) -> anyhow::Result<PathBuf> {
        let mut chapters = Vec::new();
        for evaluated in evaluated {
            let cutoff = evaluated.backtest.cutoff;
            let plots = report::backtest_plots(&evaluated.backtest).unwrap_or_else(|error| {
                tracing::warn!("no plots of the cut-off {cutoff}: {error}");
                Vec::new()
            });
            let mut files = Vec::new();
            for (file, svg) in plots {
                let file = format!("{cutoff}-{file}");
                replace(&directory.join(&file), &svg)?;
                files.push(file);
            }
            chapters.push((evaluated, files));
        }
        replace(&directory.join("evaluation.json"), &serde_json::to_string_pretty(json)?)?;
        let place = directory.join("evaluation.md");
        let rows = rows.without_text().to_string();
        replace(&place, &report::evaluation_report(name, self.bootstrap, &rows, &chapters))?;
        Ok(place)
    }
}

impl Span {
    /// The horizon must be over within the log, or customers would seem silent who are not.
    fn check(&self, newest: AsOf, days: u32) -> Result<(), Refusal> {
        if self.until <= newest {
            return Ok(());
        }
        let [cutoff, until, newest] =
            [self.cutoff, self.until, newest].map(|instant| instant.day.to_string());
        Err(Refusal::HorizonBeyondLog { days, cutoff, until, newest })
    }

    /// The customers that training at the cut-off would draw, with what they did up to the end of the
    /// horizon.
    fn draw(
        &self,
        log: &Log,
        settings: &TrainingSettings,
        global: &Global,
    ) -> anyhow::Result<(Vec<History>, Population, HistoryCounts)> {
        let progress = Progress::of(log.n_rows(), "histories", false, global.quiet);
        let most = usize::try_from(settings.max_customers)?;
        let mut sampler = Sampler::new(most, false, settings.seed, self.cutoff);
        let mut counts = HistoryCounts::default();
        log.each_part(
            self.until,
            |part| part.histories(),
            |(histories, of_part)| {
                counts += of_part;
                progress.at(counts.accepted + counts.after_as_of);
                // Nothing is published, so nobody asks for the fingerprint.
                sampler.see(histories, Fingerprint::default());
                Ok::<_, IngestError>(())
            },
        )?;
        let (histories, population) = sampler.finish();
        Ok((histories, population, counts))
    }
}

/// Replaces a file by another content in one step.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = || {
        let file = AtomicFile::create(path)?;
        file.handle()?.write_all(text.as_bytes())?;
        file.publish()
    };
    written().with_context(|| format!("writing {}", path.display()))
}
