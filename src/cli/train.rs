//! `habitus train`: a log, or a store, becomes a model version.

use super::Global;
use super::input::{self, Drawn, Everybody, LogInput, MemoryChoice, OriginChoice};
use super::progress::Progress;
use super::stored::Held;
use crate::clock;
use crate::config::{Config, Overrides, StoreConfig};
use crate::ingest::{CustomerColumns, Log, Source, Validation};
use crate::registry::{
    Artefact, Draft, GateRecord, PRODUCTION, Published, Registry, RegistryError, StoreOrigin,
    reference_to,
};
use crate::report;
use anyhow::Context;
use clap::ArgGroup;
use habitus_engine::domain::AsOf;
use habitus_engine::models::churn::ChurnModel;
use habitus_engine::models::value::ValueModel;
use habitus_engine::training::{self, Input, Predecessor, Trained};
use habitus_engine::version::Incumbent;
use serde_json::json;
use std::path::PathBuf;

/// Learn a model version from a log or a store
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("given")
    .args(["events", "customers", "store"])
    .required(true)
    .multiple(true))]
pub struct Train {
    /// Settings; see `src/defaults.toml` for all of them
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    choice: OriginChoice,
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
    /// The version whose segments are taken over and that the gate compares with: a version, an
    /// alias, or `none`
    #[arg(long, value_name = "VERSION", default_value = PRODUCTION)]
    incumbent: String,
    #[command(flatten)]
    memory: MemoryChoice,
    /// Make it the production version if the gate lets it; the first version of a name becomes it
    /// anyway
    #[arg(long)]
    promote: bool,
    /// Make it the production version whatever the gate says; the registry keeps what was overruled
    #[arg(long, requires = "promote")]
    force: bool,
}

impl Train {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.choice.sources()?;
        let overrides = Overrides {
            name: self.name.clone(),
            seed: self.seed,
            horizon_days: self.horizon_days,
            models: self.models.clone(),
            listen: None,
            metrics: None,
            memory_mb: self.memory.memory_mb,
            store: self.choice.store.clone(),
            segments: toml::Table::new(),
        };
        let config = Config::load(Some(&self.config), &overrides)?;
        let task = Task {
            config: &config,
            given: match &self.choice.store {
                Some(_) => Given::Store(&config.store),
                None => Given::Files {
                    sources: &sources.events,
                    customers: sources.customers(&config.customers),
                },
            },
            as_of: self.as_of.as_deref(),
            incumbent: &self.incumbent,
        };
        let mut run = task.run(global)?;
        let promoted = if self.promote { run.promote(self.force) } else { Ok(()) };
        global.format.print(|| run.text(), || run.json())?;
        Ok(promoted?)
    }
}

/// What is to be trained.
pub struct Task<'a> {
    pub config: &'a Config,
    pub given: Given<'a>,
    pub as_of: Option<&'a str>,
    /// A version, an alias, or `none`.
    pub incumbent: &'a str,
}

/// What is given to learn from.
#[derive(Clone, Copy)]
pub enum Given<'a> {
    /// A log, and the customers file with its columns where there is one.
    Files {
        sources: &'a [Source],
        customers: Option<(&'a [Source], &'a CustomerColumns)>,
    },
    Store(&'a StoreConfig),
}

/// A finished training run.
pub struct Run {
    pub trained: Trained,
    pub published: Published,
    validation: Validation,
    gate: Option<GateRecord>,
    registry: Registry,
    /// The version that answers from now on.
    production: String,
    /// Where it learned from a store.
    store: Option<StoreOrigin>,
}

impl Task<'_> {
    /// Reads, trains, publishes, asks the gate, and sets the alias where nothing holds it yet.
    pub fn run(&self, global: &Global) -> anyhow::Result<Run> {
        let Task { config, .. } = *self;
        let settings = &config.training;
        let registry = Registry::open(&config.models);
        registry.check_writable(&config.name)?;
        let incumbent = self.incumbent(&registry)?;
        let (log, as_of, store) = self.read(global)?;
        let Drawn { histories, population, validation } =
            input::draw(&log, as_of, settings, global)?;

        let account = validation.without_text().account;
        let columns = (&config.columns, &config.customers);
        let again = |artefact: &Artefact| {
            let sealed = &artefact.manifest.sealed;
            sealed.is_of(&population, as_of, columns, settings, &account.counts)
        };
        let origin = self.origin(&registry, incumbent.as_ref(), as_of, again)?;
        let reference = origin.as_ref().map(reference_to);
        let predecessor = predecessor(&origin, &reference);
        let progress = Progress::stages(global.quiet);
        let everybody = Everybody::of(log, &histories, &population, as_of);
        let input = Input { histories: &histories, population: &population, as_of, predecessor };
        let trained =
            training::train(&input, Box::new(everybody), settings, &|stage| progress.stage(stage))?;
        for note in &trained.evaluation.notes {
            tracing::warn!("{note}");
        }
        progress.stage("publishing");
        let plots = plots(&trained);
        let published = registry.publish(&Draft {
            name: &config.name,
            trained: &trained,
            settings,
            as_of,
            account: &account,
            incumbent: reference.clone(),
            files: self.files(),
            store: store.clone(),
            columns: config.columns.clone(),
            customer_columns: config.customers.clone(),
            max_rejected_share: config.max_rejected_share,
            created_at: clock::now(),
            threads: rayon::current_num_threads(),
            report: &report::training_report(
                &config.name,
                &trained,
                &validation.without_text().to_string(),
                &plots,
            ),
            plots: &plots,
        })?;
        let version = &published.manifest.version;
        let reference = incumbent.as_ref().map(reference_to);
        let gate = match predecessor_other_than(&incumbent, &reference, version) {
            None => None,
            Some(against) => {
                progress.stage("gate");
                let relabelled = relabelled(&trained, &against);
                let params = &config.gate;
                let verdict =
                    training::judge(&histories, settings, &against, as_of, relabelled, params)?;
                let incumbent = against.incumbent.version.clone();
                let record = GateRecord { at: clock::now(), incumbent, verdict };
                registry.record_verdict(&config.name, version, &record)?;
                Some(record)
            }
        };
        let production = match registry.aliases(&config.name)?.remove(PRODUCTION) {
            Some(production) => production,
            None => {
                registry.promote(&config.name, version, false, clock::now())?;
                version.clone()
            }
        };
        Ok(Run { trained, published, validation, gate, registry, production, store })
    }

    /// The version whose segments are taken over: the incumbent, or what it followed where training is
    /// given the same `again`, so that the same version results.
    fn origin(
        &self,
        registry: &Registry,
        incumbent: Option<&Artefact>,
        as_of: AsOf,
        again: impl Fn(&Artefact) -> bool,
    ) -> anyhow::Result<Option<Artefact>> {
        let Some(incumbent) = incumbent else { return Ok(None) };
        if again(incumbent) {
            let earlier = incumbent.manifest.sealed.incumbent.as_ref();
            let earlier = earlier.map(|earlier| registry.load(&self.config.name, &earlier.version));
            return earlier
                .transpose()
                .context("the version that this one followed cannot be read");
        }
        // One that cannot be compared, such as one of a later as-of, is none.
        let reference = reference_to(incumbent);
        let as_of_then = incumbent.manifest.sealed.as_of;
        let predecessor =
            Predecessor { incumbent: &reference, version: &incumbent.version, as_of: as_of_then };
        match training::check_comparable(&predecessor, &self.config.training, as_of) {
            Ok(()) => Ok(Some(incumbent.clone())),
            Err(reason) => {
                tracing::warn!("{} is left aside: {reason}", reference.version);
                Ok(None)
            }
        }
    }

    fn files(&self) -> Vec<String> {
        let Given::Files { sources, customers } = self.given else { return Vec::new() };
        let customers = customers.map_or(&[][..], |(sources, _)| sources);
        sources.iter().chain(customers).map(Source::name).collect()
    }

    /// Reads what is learned from, and says which store it was where it was one.
    fn read(&self, global: &Global) -> anyhow::Result<(Log, AsOf, Option<StoreOrigin>)> {
        let config = self.config;
        let (sources, customers) = match self.given {
            Given::Files { sources, customers } => (sources, customers),
            Given::Store(_) => (&[][..], None),
        };
        let input = LogInput {
            sources,
            columns: &config.columns,
            rules: &config.training.rules,
            memory: &config.memory,
            customers,
            max_rejected_share: config.max_rejected_share,
            as_of: self.as_of,
            keep_in: None,
        };
        match self.given {
            Given::Files { .. } => {
                let (log, as_of) = input.read(global)?;
                Ok((log, as_of, None))
            }
            Given::Store(store) => {
                let held = Held::open(store)?;
                let origin = held.origin().clone();
                let (log, as_of) = held.read(&input, &config.customers, global)?;
                Ok((log, as_of, Some(origin)))
            }
        }
    }

    /// The version that is followed, where there is one.
    fn incumbent(&self, registry: &Registry) -> anyhow::Result<Option<Artefact>> {
        let name = &self.config.name;
        if self.incumbent == "none" {
            return Ok(None);
        }
        let is_default = self.incumbent == PRODUCTION;
        if is_default && !registry.aliases(name)?.contains_key(PRODUCTION) {
            return Ok(None);
        }
        match registry.load(name, self.incumbent) {
            Ok(artefact) => Ok(Some(artefact)),
            Err(error) => Err(anyhow::Error::from(error).context(
                "the incumbent cannot be read; --incumbent none trains without it and mints new \
                 segment ids",
            )),
        }
    }
}

/// The share of customers whom a version puts into another segment than the incumbent does; `None`
/// where its segments do not descend from that one's.
fn relabelled(trained: &Trained, against: &Predecessor<'_>) -> Option<f64> {
    let lineage = trained.version.segment.lineage.as_ref()?;
    let is_known = lineage.incumbent == *against.incumbent && lineage.n_common > 0;
    is_known.then(|| lineage.moved_by_model as f64 / lineage.n_common as f64)
}

/// A loaded version as training wants it.
fn predecessor<'a>(
    artefact: &'a Option<Artefact>,
    reference: &'a Option<Incumbent>,
) -> Option<Predecessor<'a>> {
    let (artefact, incumbent) = artefact.as_ref().zip(reference.as_ref())?;
    let as_of = artefact.manifest.sealed.as_of;
    Some(Predecessor { incumbent, version: &artefact.version, as_of })
}

/// The same, unless it is the version itself.
fn predecessor_other_than<'a>(
    artefact: &'a Option<Artefact>,
    reference: &'a Option<Incumbent>,
    version: &str,
) -> Option<Predecessor<'a>> {
    predecessor(artefact, reference).filter(|other| other.incumbent.version != version)
}

impl Run {
    /// Makes it the production version, if the gate lets it or is forced.
    fn promote(&mut self, force: bool) -> Result<(), RegistryError> {
        let manifest = &self.published.manifest;
        self.registry.promote(&manifest.name, &manifest.version, force, clock::now())?;
        self.production = manifest.version.clone();
        Ok(())
    }
}

/// The pictures of the model of purchases. A training does not fail for want of one.
fn plots(trained: &Trained) -> Vec<(&'static str, String)> {
    let plots = trained.evaluation.tracking.as_ref().map_or(Ok(Vec::new()), report::plots);
    plots.unwrap_or_else(|error| {
        tracing::warn!("no plots: {error}");
        Vec::new()
    })
}

impl Run {
    fn text(&self) -> String {
        let manifest = &self.published.manifest;
        let version = &self.trained.version;
        let trials = report::trial_tables(&self.trained.evaluation);
        let replaced: String =
            report::replacements(version).iter().map(|line| format!("{line}\n")).collect();
        let notes: String =
            self.trained.evaluation.notes.iter().map(|note| format!("note: {note}\n")).collect();
        let lineage = report::lineage(version).map(|text| format!("{text}\n")).unwrap_or_default();
        let gate = self.gate.as_ref().map(report::gate).unwrap_or_default();
        let store = self.store.as_ref().map(|store| format!("from the {store}\n"));
        let store = store.unwrap_or_default();
        format!(
            "{}\n{notes}{}\n{lineage}{trials}{replaced}{}\n\n{gate}{} {}@{}{}\n{store}report  {}",
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
            "lineage": self.trained.version.segment.lineage,
            "gate": self.gate,
            "store": self.store,
        })
    }
}

/// Where the log was cut, in one line.
pub fn clock_line(trained: &Trained) -> String {
    let clock = &trained.evaluation.clock;
    if clock.fit == clock.measure {
        return format!("fitted, calibrated and measured on customers drawn as of {}", clock.as_of);
    }
    format!(
        "fitted at {}, calibrated at {}, measured at {}, each on the {} days after{}",
        clock.fit,
        clock.calibrate,
        clock.measure,
        clock.window_days,
        bridge(trained)
    )
}

/// How the answers reach from the label windows to the horizon, where that is longer. The blend needs
/// no bridge.
fn bridge(trained: &Trained) -> String {
    let forecast = &trained.version.forecast;
    let days = forecast.bridge.horizon_days;
    let by_blend =
        (forecast.value.model == ValueModel::Blend, forecast.churn.model == ChurnModel::Blend);
    match by_blend {
        _ if !trained.evaluation.bridged => String::new(),
        (true, true) => format!("; the blend is asked about the horizon of {days} days itself"),
        (true, false) => format!(
            "; churn is bridged to the horizon of {days} days, and the blend, which tells value, is asked \
             about it itself"
        ),
        (false, true) => format!(
            "; value is bridged to the horizon of {days} days, and the blend, which tells churn, is asked \
             about it itself"
        ),
        (false, false) => format!("; bridged to the horizon of {days} days"),
    }
}
