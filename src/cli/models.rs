//! `habitus models`: what the registry holds, and which version answers.

use super::Global;
use super::exit::Refusal;
use super::input::ModelChoice;
use super::output;
use crate::clock;
use crate::config::{Config, Overrides};
use crate::registry::{Manifest, PRODUCTION, Registry, pointing_at};
use crate::report::{Table, segment_table};
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
    /// Two versions side by side; arrives with a later version
    #[command(hide = true)]
    Diff {
        #[arg(num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
        versions: Vec<String>,
    },
    /// Make a version the production version
    Promote {
        /// NAME@VERSION
        #[arg(value_name = "NAME@VERSION")]
        version: String,
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
            Action::Diff { .. } => Err(Refusal::NotYet { flag: "models diff" }.into()),
            Action::Promote { version, models } => promote(&open(models)?, version, global),
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
    let artefact = choice.load(&open(&choice.models)?)?;
    let (manifest, version) = (&artefact.manifest, &artefact.version);
    global.format.print(
        || {
            let sealed = &manifest.sealed;
            let mut table = Table::new(&["", "value"]);
            for (label, value) in [
                ("model", format!("{}@{}", manifest.name, manifest.version)),
                ("digest", manifest.digest.clone()),
                ("as of", sealed.as_of.at.to_string()),
                ("events", sealed.fingerprint.clone()),
                ("rows accepted", sealed.rows.accepted.to_string()),
                ("customers", sealed.n_customers.to_string()),
                ("horizon", format!("{} days", sealed.clock.horizon_days)),
                ("label window", format!("{} days", sealed.clock.window_days)),
                ("segments", version.segment.model.family().to_owned()),
                ("churn", version.forecast.churn.model.family().to_owned()),
                ("value", version.forecast.value.model.family().to_owned()),
                ("seed", sealed.settings.seed.0.to_string()),
                ("trained at", manifest.created_at.to_string()),
                ("by habitus", manifest.crate_version.clone()),
            ] {
                table.row(vec![label.to_owned(), value]);
            }
            let segments = segment_table(&version.segment.catalogue, &version.rules.currency);
            format!("{table}\n{segments}")
        },
        || json!({ "manifest": manifest, "parameters": version, "metrics": artefact.metrics }),
    )
}

fn promote(registry: &Registry, version: &str, global: &Global) -> anyhow::Result<()> {
    let (name, reference) = version
        .split_once('@')
        .filter(|(name, reference)| !name.is_empty() && !reference.is_empty())
        .ok_or_else(|| Refusal::ModelReference { text: version.to_owned() })?;
    let artefact = registry.load(name, reference)?;
    registry.set_alias(name, PRODUCTION, &artefact.manifest.version, clock::now())?;
    answer(name, &artefact.manifest.version, global)
}

fn answer(name: &str, version: &str, global: &Global) -> anyhow::Result<()> {
    global.format.print(
        || format!("{name}@{PRODUCTION} is {version}"),
        || json!({ "name": name, "alias": PRODUCTION, "version": version }),
    )
}
