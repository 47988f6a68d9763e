//! `habitus models`: what the registry holds, and which version answers.

use super::Global;
use super::exit::Refusal;
use super::input::ModelChoice;
use super::output;
use crate::clock;
use crate::config::{Config, Overrides};
use crate::registry::{Artefact, Manifest, PRODUCTION, Registry, pointing_at};
use crate::report::{self, Table, VersionDiff, segment_table};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

/// Look after the registry of model versions
#[derive(Debug, clap::Args)]
pub struct Models {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All versions of all models, or of one
    List {
        #[arg(long, value_name = "DIR")]
        models: Option<PathBuf>,
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// One version: what went in and what came out
    Show {
        #[command(flatten)]
        choice: ModelChoice,
    },
    /// Two versions side by side: metrics, segments and how the features moved
    Diff {
        /// NAME@VERSION, or NAME@ALIAS
        #[arg(value_name = "A")]
        a: String,
        /// The same
        #[arg(value_name = "B")]
        b: String,
        #[arg(long, value_name = "DIR")]
        models: Option<PathBuf>,
    },
    /// Make a version the production version, if the gate lets it
    Promote {
        /// NAME@VERSION
        #[arg(value_name = "NAME@VERSION")]
        version: String,
        /// Whatever the gate says; the registry keeps what was overruled
        #[arg(long)]
        force: bool,
        #[arg(long, value_name = "DIR")]
        models: Option<PathBuf>,
    },
    /// Make the previous production version answer again
    Rollback {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(long, value_name = "DIR")]
        models: Option<PathBuf>,
    },
}

impl Models {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.action {
            Action::List { models, name } => list(&open(models)?, name.as_deref(), global),
            Action::Show { choice } => show(choice, global),
            Action::Diff { a, b, models } => diff(&open(models)?, [a, b], global),
            Action::Promote { version, force, models } => {
                promote(&open(models)?, version, *force, global)
            }
            Action::Rollback { name, models } => {
                let registry = open(models)?;
                let version = registry.roll_back(name, PRODUCTION, clock::now())?;
                answer(name, &version, global)
            }
        }
    }
}

fn open(models: &Option<PathBuf>) -> anyhow::Result<Registry> {
    let overrides = Overrides { models: models.clone(), ..Overrides::default() };
    Ok(Registry::open(&Config::load(None, &overrides)?.models))
}

fn list(registry: &Registry, only: Option<&str>, global: &Global) -> anyhow::Result<()> {
    let names = match only {
        Some(name) => vec![name.to_owned()],
        None => registry.names()?,
    };
    let mut entries: Vec<(Manifest, Vec<String>)> = Vec::new();
    let mut damaged = Vec::new();
    for name in names {
        let aliases = registry.aliases(&name)?;
        let versions = registry.versions(&name)?;
        damaged.extend(versions.damaged);
        for manifest in versions.manifests {
            let pointing = pointing_at(&aliases, &manifest.version);
            entries.push((manifest, pointing));
        }
    }
    global.format.print(
        || {
            let mut table = Table::new(&[
                "name",
                "version",
                "alias",
                "as of",
                "customers",
                "horizon",
                "window",
                "trained at",
            ]);
            for (manifest, aliases) in &entries {
                let sealed = &manifest.sealed;
                table.row(vec![
                    manifest.name.clone(),
                    manifest.version.clone(),
                    aliases.join(", "),
                    sealed.as_of.day.to_string(),
                    sealed.n_customers.to_string(),
                    format!("{} d", sealed.clock.horizon_days),
                    format!("{} d", sealed.clock.window_days),
                    manifest.created_at.to_string(),
                ]);
            }
            table.to_string()
        },
        || {
            let rows = entries
                .iter()
                .map(|(manifest, aliases)| json!({ "manifest": manifest, "aliases": aliases }));
            rows.collect()
        },
    )?;
    // The whole list first, and then the bad news, so that one bad version hides no other.
    for error in damaged.iter().skip(1) {
        output::stderr(&format!("error: {error}"));
    }
    damaged.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

fn show(choice: &ModelChoice, global: &Global) -> anyhow::Result<()> {
    let registry = open(&choice.models)?;
    let artefact = choice.load(&registry)?;
    let gate = registry.verdict(&artefact.manifest.name, &artefact.manifest.version)?;
    let (manifest, version) = (&artefact.manifest, &artefact.version);
    global.format.print(
        || {
            let sealed = &manifest.sealed;
            let mut table = Table::new(&["", "value"]);
            for (label, value) in [
                ("model", format!("{}@{}", manifest.name, manifest.version)),
                ("digest", manifest.digest.clone()),
                ("as of", sealed.as_of.at.to_string()),
                ("events", sealed.population.fingerprint.clone()),
                ("rows accepted", sealed.rows.accepted.to_string()),
                ("customers", sealed.population.n_customers.to_string()),
                ("of them trained on", sealed.population.n_sampled.to_string()),
                (
                    "incumbent",
                    sealed.incumbent.as_ref().map_or("none".into(), |old| old.version.clone()),
                ),
                ("horizon", format!("{} days", sealed.clock.horizon_days)),
                ("label window", format!("{} days", sealed.clock.window_days)),
                ("segments", version.segment.family().to_owned()),
                ("noise", report::noise(version).unwrap_or_else(|| "not told".to_owned())),
                ("purchases", report::purchases(version)),
                ("churn", version.forecast.churn.model.family().to_owned()),
                ("churn is", report::churn_meaning(version.churn_is)),
                ("value", version.forecast.value.model.family().to_owned()),
                ("seed", sealed.settings.seed.0.to_string()),
                ("trained from", trained_from(manifest)),
                ("trained at", manifest.created_at.to_string()),
                ("by habitus", manifest.crate_version.clone()),
            ] {
                table.row(vec![label.to_owned(), value]);
            }
            let segments = segment_table(&version.segment.catalogue, &version.rules.currency);
            let lineage = report::lineage(version).unwrap_or_default();
            let gate = gate.as_ref().map(report::gate).unwrap_or_default();
            format!("{table}\n{segments}\n{lineage}{gate}")
        },
        || {
            json!({
                "manifest": manifest,
                "parameters": version,
                "metrics": artefact.metrics,
                "gate": gate,
            })
        },
    )
}

fn promote(registry: &Registry, version: &str, force: bool, global: &Global) -> anyhow::Result<()> {
    let (name, reference) = named(version)?;
    let version = registry.resolve(name, reference)?;
    registry.promote(name, &version, force, clock::now())?;
    answer(name, &version, global)
}

fn diff(registry: &Registry, versions: [&String; 2], global: &Global) -> anyhow::Result<()> {
    let load = |text: &String| -> anyhow::Result<Artefact> {
        let (name, reference) = named(text)?;
        Ok(registry.load(name, reference)?)
    };
    let [a, b] = [load(versions[0])?, load(versions[1])?];
    let comparison = VersionDiff::of(&a, &b);
    global.format.print(|| comparison.to_string(), || json!(comparison))
}

/// A model's name and the version or alias behind the `@`.
fn named(text: &str) -> anyhow::Result<(&str, &str)> {
    let parts = text.split_once('@');
    let named = parts.filter(|(name, reference)| !name.is_empty() && !reference.is_empty());
    Ok(named.ok_or_else(|| Refusal::ModelReference { text: text.to_owned() })?)
}

fn answer(name: &str, version: &str, global: &Global) -> anyhow::Result<()> {
    global.format.print(
        || format!("{name}@{PRODUCTION} is {version}"),
        || json!({ "name": name, "alias": PRODUCTION, "version": version }),
    )
}

/// The files that a version was trained from, or the store.
fn trained_from(manifest: &Manifest) -> String {
    match (&manifest.store, manifest.files.as_slice()) {
        (Some(store), _) => store.to_string(),
        (None, [file]) => file.clone(),
        (None, files) => format!("{} files", files.len()),
    }
}
