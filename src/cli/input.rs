//! What several subcommands read the same way: a log, an as-of, a model.

use super::Global;
use super::example;
use super::exit::Refusal;
use super::progress::Progress;
use crate::config::Config;
use crate::ingest::{self, Columns, Log, Source};
use crate::registry::{Artefact, PRODUCTION, Registry};
use habitus_engine::domain::{AsOf, EventRules};
use std::path::PathBuf;

/// Reads the log, with a progress bar over its bytes.
pub fn read_log(
    sources: &[Source],
    columns: &Columns,
    rules: &EventRules,
    global: &Global,
) -> anyhow::Result<Log> {
    let total = sources.iter().filter_map(Source::size).sum();
    let progress = Progress::of(total, "reading", true, global.quiet);
    let log = ingest::read(sources, columns, rules, crate::clock::now(), &mut |bytes| {
        progress.at(bytes)
    })?;
    Ok(log)
}

/// The as-of that was asked for, or the end of the newest accepted event's day. A log without an
/// event by then is refused with the account of its rows.
pub fn as_of(log: &Log, asked: Option<&str>, rules: &EventRules) -> anyhow::Result<AsOf> {
    let Some(newest) = log.default_as_of(&rules.zone) else {
        let whenever = rules.zone.as_of(crate::clock::now());
        return Err(Refusal::NoUsableRow { rows: log.validation(whenever).to_string() }.into());
    };
    let as_of = match asked {
        Some(text) => rules.zone.parse_as_of(text)?,
        None => newest,
    };
    // The end of today is fine where the newest event is of today.
    if as_of.at > newest.at.max(crate::clock::now()) {
        return Err(Refusal::FutureAsOf { as_of: as_of.at.to_string() }.into());
    }
    if log.histories.iter().all(|history| history.until(as_of).is_empty()) {
        return Err(Refusal::AsOfTooEarly { as_of: as_of.day.to_string() }.into());
    }
    Ok(as_of)
}

/// Which log is read: `--events` and `--customers`.
#[derive(Debug, Clone, clap::Args)]
pub struct LogChoice {
    /// Event logs: .csv, .ndjson (also .gz, .zst) or .parquet; patterns are expanded
    #[arg(long, value_name = "GLOB", num_args = 1.., required = true)]
    events: Vec<String>,
    /// A customers file; arrives with a later version
    #[arg(long, value_name = "FILE")]
    customers: Option<PathBuf>,
}

impl LogChoice {
    /// The files that the patterns mean.
    pub fn sources(&self) -> anyhow::Result<Vec<Source>> {
        refuse_customers(self.customers.as_ref())?;
        Ok(ingest::sources(&self.events)?)
    }
}

/// Which model version answers: `--models` and `--model`.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelChoice {
    /// The registry's directory
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// NAME, NAME@VERSION or NAME@ALIAS; a name alone means its `production`
    #[arg(long, value_name = "NAME[@VERSION|@ALIAS]")]
    pub model: Option<String>,
}

impl ModelChoice {
    /// Finds and loads the version.
    pub fn load(&self, registry: &Registry) -> anyhow::Result<Artefact> {
        let (name, reference) = self.named(registry)?;
        Ok(registry.load(&name, &reference)?)
    }

    /// The model's name, and the version or alias that is meant.
    pub fn named(&self, registry: &Registry) -> anyhow::Result<(String, String)> {
        let Some(text) = &self.model else {
            return Ok((only_name(registry)?, PRODUCTION.to_owned()));
        };
        match text.split_once('@') {
            Some((name, reference)) if !name.is_empty() && !reference.is_empty() => {
                Ok((name.to_owned(), reference.to_owned()))
            }
            None if !text.is_empty() => Ok((text.clone(), PRODUCTION.to_owned())),
            _ => Err(Refusal::ModelReference { text: text.clone() }.into()),
        }
    }
}

/// The only model; the shipped example does not count where there is one other.
fn only_name(registry: &Registry) -> anyhow::Result<String> {
    let names = registry.names()?;
    let others: Vec<String> = names.iter().filter(|name| *name != example::NAME).cloned().collect();
    match (others.as_slice(), names.as_slice()) {
        ([name], _) | ([], [name]) => Ok(name.clone()),
        ([], _) => Err(Refusal::NoModel { registry: registry.root().display().to_string() }.into()),
        _ => Err(Refusal::SeveralModels { names }.into()),
    }
}

/// The columns to read with a version: the configuration's where one is given, whose rules must
/// then be the version's, and otherwise those that it was trained with.
pub fn columns(artefact: &Artefact, config: Option<&Config>) -> anyhow::Result<Columns> {
    match config {
        Some(config) => {
            artefact.version.rules.check_same(&config.training.rules)?;
            Ok(config.columns.clone())
        }
        None => Ok(artefact.manifest.sealed.columns.clone()),
    }
}

/// Refuses flags whose work arrives later, rather than ignore them.
pub fn refuse_customers(customers: Option<&PathBuf>) -> anyhow::Result<()> {
    match customers {
        Some(_) => Err(Refusal::NotYet { flag: "--customers" }.into()),
        None => Ok(()),
    }
}
