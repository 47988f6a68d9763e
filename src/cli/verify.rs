//! `habitus verify`: a version trained again from its manifest, and compared.

use super::Global;
use super::exit::Refusal;
use super::input::{self, LogChoice, ModelChoice};
use super::progress::Progress;
use crate::config::{Config, Overrides};
use crate::registry::{Difference, Examined, Registry};
use habitus_engine::training;
use serde_json::json;

/// Differences that are shown; a changed event changes nearly every number.
const MOST_SHOWN: usize = 10;

/// Train a version again from its manifest and compare every part
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    log: LogChoice,
    #[command(flatten)]
    choice: ModelChoice,
}

impl Verify {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let sources = self.log.sources()?;
        let overrides = Overrides { models: self.choice.models.clone(), ..Overrides::default() };
        let registry = Registry::open(&Config::load(None, &overrides)?.models);
        let (name, reference) = self.choice.named(&registry)?;
        let examined = registry.examine(&name, &reference)?;
        let sealed = &examined.manifest.sealed;
        let settings = &sealed.settings;
        let log = input::read_log(&sources, &sealed.columns, &settings.rules, global)?;
        let progress = Progress::stages(global.quiet);
        let counts = log.counts(sealed.as_of);
        let trained = training::train(&log.histories, settings, sealed.as_of, &|stage| {
            progress.stage(stage);
        })?;
        drop(progress);
        let differences = examined.compare(&trained, &counts)?;
        report(&examined, &differences, global)?;
        match differences.first() {
            None => Ok(()),
            Some(first) => Err(Refusal::Differs { part: first.path.clone() }.into()),
        }
    }
}

fn report(examined: &Examined, differences: &[Difference], global: &Global) -> anyhow::Result<()> {
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
                lines.push(format!("{}@{} is what its log gives", manifest.name, manifest.version));
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
