//! `habitus verify`: a version trained again from its manifest, and compared.

use super::Global;
use super::exit::Refusal;
use super::input::{self, Drawn, Everybody, LogInput, ModelChoice, OriginChoice};
use super::progress::Progress;
use super::stored::Held;
use crate::config::{Config, Overrides};
use crate::registry::{Difference, Examined, Manifest, Registry};
use anyhow::Context;
use habitus_engine::training::{self, Input, Predecessor};
use serde_json::json;

/// Differences that are shown; a changed event changes nearly every number.
const MOST_SHOWN: usize = 10;

/// Train a version again from its manifest and compare every part
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    origin: OriginChoice,
    #[command(flatten)]
    choice: ModelChoice,
}

impl Verify {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.origin.sources()?;
        let overrides = Overrides {
            models: self.choice.models.clone(),
            store: self.origin.store.clone(),
            ..Overrides::default()
        };
        let config = Config::load(None, &overrides)?;
        let registry = Registry::open(&config.models);
        let (name, reference) = self.choice.named(&registry)?;
        let examined = registry.examine(&name, &reference)?;
        let held = self.held(&examined.manifest, &config)?;
        let sealed = &examined.manifest.sealed;
        let settings = &sealed.settings;
        let input = LogInput {
            sources: &sources.events,
            columns: &sealed.columns,
            rules: &settings.rules,
            memory: &config.memory,
            customers: sources.customers(&sealed.customer_columns),
            // What was accepted once is not refused here.
            max_rejected_share: 1.0,
            as_of: Some(&sealed.as_of.at.to_string()),
            keep_in: None,
        };
        let (log, _) = match held {
            Some(held) => held.read(&input, &sealed.customer_columns, global)?,
            None => input.read(global)?,
        };
        let Drawn { histories, population, validation } =
            input::draw(&log, sealed.as_of, settings, global)?;
        let incumbent = sealed.incumbent.as_ref();
        let incumbent = incumbent
            .map(|incumbent| registry.load(&name, &incumbent.version))
            .transpose()
            .context("the version that it followed cannot be read")?;
        let predecessor =
            incumbent.as_ref().zip(sealed.incumbent.as_ref()).map(|(artefact, incumbent)| {
                Predecessor {
                    incumbent,
                    version: &artefact.version,
                    as_of: artefact.manifest.sealed.as_of,
                }
            });
        let progress = Progress::stages(global.quiet);
        let everybody = Everybody::of(log, &histories, &population, sealed.as_of);
        let input = Input {
            histories: &histories,
            population: &population,
            as_of: sealed.as_of,
            predecessor,
        };
        let trained =
            training::train(&input, Box::new(everybody), settings, &|stage| progress.stage(stage))?;
        drop(progress);
        let differences = examined.compare(&trained, &validation.account.counts)?;
        let origin = if self.origin.store.is_some() { "store" } else { "log" };
        report(&examined, &differences, origin, global)?;
        match differences.first() {
            None => Ok(()),
            Some(first) => Err(Refusal::Differs { part: first.path.clone() }.into()),
        }
    }
}

impl Verify {
    /// The store to learn from again, where one was named. A version that was trained from a store is
    /// verified by that store alone, at the sequence that it had.
    fn held(&self, manifest: &Manifest, config: &Config) -> anyhow::Result<Option<Held>> {
        let model = format!("{}@{}", manifest.name, manifest.version);
        match (&manifest.store, &self.origin.store) {
            (Some(origin), None) => {
                Err(Refusal::StoreNeeded { model, origin: origin.clone() }.into())
            }
            (None, None) if self.origin.is_empty() => Err(Refusal::FilesNeeded { model }.into()),
            (None, None) => Ok(None),
            (trained_from, Some(_)) => {
                let mut held = Held::open(&config.store)?;
                trained_from.as_ref().map_or(Ok(()), |origin| held.check(origin, model))?;
                Ok(Some(held))
            }
        }
    }
}

fn report(
    examined: &Examined,
    differences: &[Difference],
    origin: &str,
    global: &Global,
) -> anyhow::Result<()> {
    let manifest = &examined.manifest;
    let tolerance = examined.tolerance();
    global.format.print(
        || {
            let mut lines: Vec<String> =
                differences.iter().take(MOST_SHOWN).map(ToString::to_string).collect();
            let rest = differences.len().saturating_sub(MOST_SHOWN);
            if rest > 0 {
                lines.push(format!("and {rest} more"));
            }
            if tolerance > 0.0 {
                lines.push(format!(
                    "trained under another CPU set ({}): numbers were compared to {tolerance:e}",
                    manifest.cpu_features.join(" ")
                ));
            }
            if differences.is_empty() {
                lines.push(format!(
                    "{}@{} is what its {} gives",
                    manifest.name, manifest.version, origin
                ));
            }
            lines.join("\n")
        },
        || {
            json!({
                "name": manifest.name,
                "version": manifest.version,
                "equal": differences.is_empty(),
                "tolerance": tolerance,
                "differences": differences,
            })
        },
    )
}
