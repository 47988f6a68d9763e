//! What several subcommands read the same way: a log, an as-of, a model.

use super::Global;
use super::example;
use super::exit::Refusal;
use super::progress::Progress;
use crate::config::Config;
use crate::ingest::{
    self, Columns, CustomerColumns, CustomersReport, HistoryCounts, IngestError, Log, Memory,
    Reading, Source, Validation,
};
use crate::registry::{Artefact, PRODUCTION, Registry};
use habitus_engine::domain::{AsOf, EventRules, Fingerprint, History};
use habitus_engine::training::{Customers, Population, Sampler, TrainError, TrainingSettings};
use std::path::{Path, PathBuf};

/// How a log is read and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub struct LogInput<'a> {
    pub sources: &'a [Source],
    pub columns: &'a Columns,
    pub rules: &'a EventRules,
    pub memory: &'a Memory,
    /// The customers file and its columns, where there is one.
    pub customers: Option<(&'a [Source], &'a CustomerColumns)>,
    pub max_rejected_share: f64,
    /// As the user wrote it; the end of the newest event's day where left out.
    pub as_of: Option<&'a str>,
    /// Where rows beyond the bound are kept for another run.
    pub keep_in: Option<&'a Path>,
}

impl LogInput<'_> {
    /// Reads the log, with a progress bar over its bytes. One without a usable row by the as-of, or
    /// with too many that were rejected, is refused with the account of its rows.
    pub fn read(&self, global: &Global) -> anyhow::Result<(Log, AsOf)> {
        let zone = &self.rules.zone;
        let asked = self.as_of.map(|text| zone.parse_as_of(text)).transpose()?;
        let now = crate::clock::now();
        let reading = Reading {
            columns: self.columns,
            rules: self.rules,
            now,
            as_of: asked,
            memory: self.memory,
            customers: self.customers,
            keep_in: self.keep_in,
        };
        let more = self.customers.map_or(&[][..], |(sources, _)| sources);
        let total = self.sources.iter().chain(more).filter_map(Source::size).sum();
        let progress = Progress::of(total, "reading", true, global.quiet);
        let log = ingest::read(self.sources, &reading, &mut |bytes| progress.at(bytes))?;
        drop(progress);
        let as_of = self.check(&log, asked)?;
        Ok((log, as_of))
    }

    /// The as-of of a log, which must have an event by then and not too many rejected rows.
    pub fn check(&self, log: &Log, asked: Option<AsOf>) -> anyhow::Result<AsOf> {
        let zone = &self.rules.zone;
        let now = crate::clock::now();
        let rows = || {
            let counts = HistoryCounts { accepted: log.n_rows(), ..HistoryCounts::default() };
            log.validation(zone.as_of(now), &counts).to_string()
        };
        let none = || anyhow::Error::from(Refusal::NoUsableRow { rows: rows() });
        if log.n_rows() == 0 && log.customers().is_none_or(|report| report.counts.accepted == 0) {
            return Err(none());
        }
        let of_customers = log.customers().map_or(0.0, CustomersReport::rejected_share);
        let share = log.rejected_share().max(of_customers);
        if share > self.max_rejected_share {
            let (share, most) = (100.0 * share, 100.0 * self.max_rejected_share);
            return Err(Refusal::TooManyRejected { share, most, rows: rows() }.into());
        }
        let newest = log.default_as_of(zone);
        let as_of = asked.or(newest).ok_or(Refusal::AsOfNeeded)?;
        // The end of today is fine where the newest event is of today.
        if as_of.at > newest.map_or(now, |newest| newest.at.max(now)) {
            return Err(Refusal::FutureAsOf { as_of: as_of.at.to_string() }.into());
        }
        // Who is known by the customers file is known without an event.
        let too_early = log.span().is_some_and(|span| span.oldest > as_of.at);
        if too_early && log.customers().is_none() {
            return Err(Refusal::AsOfTooEarly { as_of: as_of.day.to_string() }.into());
        }
        Ok(as_of)
    }
}

/// The customers that heads are learned from.
pub struct Drawn {
    pub histories: Vec<History>,
    pub population: Population,
    pub validation: Validation,
}

/// Everybody in a log: the histories drawn of it, where those are all, and otherwise the log, part by
/// part. The order of customers then depends on their number alone, never on the memory at hand.
pub enum Everybody<'a> {
    Drawn(&'a [History]),
    Log(Box<Log>, AsOf),
}

impl<'a> Everybody<'a> {
    /// Lets go of the log where the histories are all.
    pub fn of(
        log: Log,
        histories: &'a [History],
        population: &Population,
        as_of: AsOf,
    ) -> Everybody<'a> {
        if population.n_sampled == population.n_customers {
            Everybody::Drawn(histories)
        } else {
            Everybody::Log(Box::new(log), as_of)
        }
    }
}

impl Customers for Everybody<'_> {
    fn each(
        self: Box<Self>,
        see: &mut dyn FnMut(&[History]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        match *self {
            Everybody::Drawn(histories) => see(histories),
            Everybody::Log(log, as_of) => log
                .each_part(as_of, |part| part.histories(), |(histories, _)| Ok(see(&histories)?))
                .map_err(|Stopped(error)| error),
        }
    }
}

/// Why a walk through a log stopped.
struct Stopped(TrainError);

impl From<TrainError> for Stopped {
    fn from(error: TrainError) -> Stopped {
        Stopped(error)
    }
}

impl From<IngestError> for Stopped {
    fn from(error: IngestError) -> Stopped {
        Stopped(TrainError::Unreadable(format!("{:#}", anyhow::Error::from(error))))
    }
}

/// Draws the customers of a log that heads are learned from, and accounts for its rows on the way.
pub fn draw(
    log: &Log,
    as_of: AsOf,
    settings: &TrainingSettings,
    global: &Global,
) -> anyhow::Result<Drawn> {
    let progress = Progress::of(log.n_rows(), "histories", false, global.quiet);
    let most = usize::try_from(settings.max_customers)?;
    let silent = settings.churn_is.knows_silent();
    let mut sampler = Sampler::new(most, silent, settings.seed, as_of);
    let mut counts = HistoryCounts::default();
    log.each_part(
        as_of,
        |part| {
            let (histories, counts) = part.histories()?;
            Ok((Fingerprint::of(&histories, as_of), histories, counts))
        },
        |(fingerprint, histories, of_part)| {
            counts += of_part;
            progress.at(counts.accepted + counts.after_as_of);
            sampler.see(histories, fingerprint);
            Ok::<_, IngestError>(())
        },
    )?;
    let (histories, population) = sampler.finish();
    Ok(Drawn { histories, population, validation: log.validation(as_of, &counts) })
}

/// What is learned from: files, or a store as it stands.
#[derive(Debug, Clone, clap::Args)]
pub struct OriginChoice {
    /// Event logs: .csv, .ndjson (also .gz, .zst) or .parquet; patterns are expanded
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    events: Vec<String>,
    /// Customers files in the same formats: attributes, opting out, labels of contracts
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    customers: Vec<String>,
    /// A store of histories instead, with all that it knows of customers; no server may hold it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["events", "customers"])]
    pub store: Option<PathBuf>,
}

impl OriginChoice {
    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.customers.is_empty() && self.store.is_none()
    }

    /// Finds the files; there are none beside a store.
    pub fn sources(&self) -> anyhow::Result<Chosen> {
        Ok(Chosen {
            events: ingest::sources(&self.events)?,
            customers: customers(&self.customers)?,
        })
    }
}

/// Which log is read: `--events` and `--customers`.
#[derive(Debug, Clone, clap::Args)]
pub struct LogChoice {
    /// Event logs: .csv, .ndjson (also .gz, .zst) or .parquet; patterns are expanded
    #[arg(long, value_name = "GLOB", num_args = 1.., required_unless_present = "customers")]
    events: Vec<String>,
    /// Customers files in the same formats: attributes, opting out, labels of contracts
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    customers: Vec<String>,
}

/// The files that the patterns mean.
pub struct Chosen {
    pub events: Vec<Source>,
    customers: Option<Vec<Source>>,
}

impl LogChoice {
    /// Finds the files.
    pub fn sources(&self) -> anyhow::Result<Chosen> {
        Ok(Chosen {
            events: ingest::sources(&self.events)?,
            customers: customers(&self.customers)?,
        })
    }
}

impl Chosen {
    /// The customers file with its columns, where there is one.
    pub fn customers<'a>(
        &'a self,
        columns: &'a CustomerColumns,
    ) -> Option<(&'a [Source], &'a CustomerColumns)> {
        self.customers.as_deref().map(|sources| (sources, columns))
    }

    /// Whether there is a customers file.
    pub fn has_customers(&self) -> bool {
        self.customers.is_some()
    }

    /// All files.
    pub fn all(&self) -> Vec<Source> {
        self.events.iter().chain(self.customers.iter().flatten()).cloned().collect()
    }
}

/// The customers files that the patterns mean; `None` without a pattern.
pub fn customers(patterns: &[String]) -> anyhow::Result<Option<Vec<Source>>> {
    if patterns.is_empty() { Ok(None) } else { Ok(Some(ingest::sources(patterns)?)) }
}

/// How much memory a run may take: `--memory-mb`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct MemoryChoice {
    /// The bound for rows and histories; what is beyond it waits on disk
    #[arg(long, value_name = "MB")]
    pub memory_mb: Option<u64>,
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

    /// The same, and the alias that meant the version where none was named by its own name. What the
    /// alias means may change.
    pub fn load_followed(&self, registry: &Registry) -> anyhow::Result<(Artefact, Option<String>)> {
        let (name, reference) = self.named(registry)?;
        let artefact = registry.load(&name, &reference)?;
        let alias = (reference != artefact.manifest.version).then_some(reference);
        Ok((artefact, alias))
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

/// How to read a log for a version: as the configuration says where one is given, whose rules must
/// then be the version's, and otherwise as the version was trained.
pub struct HowToRead {
    pub columns: Columns,
    pub customers: CustomerColumns,
    pub max_rejected_share: f64,
}

impl HowToRead {
    /// `has_customers` says whether a customers file is at hand, without which a version that was
    /// trained with one would answer about people who opted out, and about nobody's attributes.
    pub fn of(
        artefact: &Artefact,
        config: Option<&Config>,
        has_customers: bool,
    ) -> anyhow::Result<HowToRead> {
        let manifest = &artefact.manifest;
        if manifest.account.customers.is_some() && !has_customers {
            let model = format!("{}@{}", manifest.name, manifest.version);
            return Err(Refusal::CustomersNeeded { model }.into());
        }
        Ok(match config {
            Some(config) => {
                artefact.version.rules.check_same(&config.training.rules)?;
                HowToRead {
                    columns: config.columns.clone(),
                    customers: config.customers.clone(),
                    max_rejected_share: config.max_rejected_share,
                }
            }
            None => HowToRead {
                columns: manifest.sealed.columns.clone(),
                customers: manifest.sealed.customer_columns.clone(),
                max_rejected_share: manifest.max_rejected_share,
            },
        })
    }
}
