//! The only reader of settings: compiled-in defaults, then a file, then the environment, then
//! flags. What comes out has no impossible values.

mod model;
mod serve;
mod store;
mod written;

pub use serve::ServeSettings;

use crate::ingest::{Columns, CustomerColumns, Memory};
use habitus_engine::training::{GateParams, TrainingSettings};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;
use written::RawConfig;

pub use store::StoreConfig;

const DEFAULTS: &str = include_str!("../defaults.toml");
const PREFIX: &str = "HABITUS_";
/// Read by [`crate::telemetry`], not a setting of the program.
pub const LOG_VARIABLE: &str = "HABITUS_LOG";

/// Settings that hold together.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub name: String,
    pub columns: Columns,
    pub customers: CustomerColumns,
    /// The share of rejected rows, in `[0, 1]`, beyond which a log is refused.
    pub max_rejected_share: f64,
    pub training: TrainingSettings,
    pub gate: GateParams,
    pub memory: Memory,
    pub models: PathBuf,
    pub serve: ServeSettings,
    pub store: StoreConfig,
}

/// What flags may override.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub name: Option<String>,
    pub seed: Option<u64>,
    pub horizon_days: Option<u32>,
    pub models: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub memory_mb: Option<u64>,
    pub store: Option<PathBuf>,
    /// Keys of `[segments]`, checked as if a file had them.
    pub segments: toml::Table,
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{} cannot be read", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{origin}: {message}")]
    Syntax { origin: String, message: String },
    #[error("`{key}`: {message}")]
    Key { key: String, message: String },
    #[error("the variable {variable} is not valid UTF-8")]
    NotUtf8 { variable: String },
}

impl Config {
    /// Reads the defaults, the file where there is one, the environment and the flags.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file or the key's path.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?,
            None => String::new(),
        };
        let origin = file.map_or_else(String::new, |path| path.display().to_string());
        Config::from_texts(&text, &origin, environment()?, overrides)
    }

    /// The same from a text in memory, without the environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_text(text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
        Config::from_texts(text, "the configuration", Vec::new(), overrides)
    }

    fn from_texts(
        text: &str,
        origin: &str,
        environment: Vec<(String, String)>,
        overrides: &Overrides,
    ) -> Result<Config, ConfigError> {
        let mut merged = table(DEFAULTS, "the defaults")?;
        merge(&mut merged, table(text, origin)?);
        for (variable, value) in &environment {
            merge(&mut merged, variable_as_table(variable, value));
        }
        let flags = toml::Value::Table(overrides.segments.clone());
        merge(&mut merged, toml::Table::from_iter([("segments".to_owned(), flags)]));
        let raw = serde_path_to_error::deserialize(toml::Value::Table(merged));
        let raw: RawConfig = raw.map_err(|error| {
            let key = error.path().to_string();
            let message = error.inner().message();
            let message = match environment.iter().find(|(name, _)| names_key(name, &key)) {
                Some((variable, _)) => format!("{message} (the variable {variable} sets it)"),
                None => message.to_owned(),
            };
            ConfigError::Key { key, message }
        })?;
        raw.check(overrides)
    }
}

fn table(text: &str, origin: &str) -> Result<toml::Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        origin: origin.to_owned(),
        message: error.to_string(),
    })
}

/// Overrides key by key; tables are merged, everything else is replaced.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The variables that name a setting, in a fixed order.
#[expect(clippy::disallowed_methods, reason = "this is the only reader of the environment")]
fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (variable, value) in std::env::vars_os() {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        // Others may come from elsewhere: Kubernetes sets HABITUS_PORT for a service of that name.
        if variable.contains("__") {
            let value = value
                .into_string()
                .map_err(|_| ConfigError::NotUtf8 { variable: variable.to_owned() })?;
            variables.push((variable.to_owned(), value));
        }
    }
    variables.sort();
    Ok(variables)
}

/// The filter of the log, where one is set.
#[expect(clippy::disallowed_methods, reason = "this is the only reader of the environment")]
pub fn log_filter() -> Option<String> {
    std::env::var(LOG_VARIABLE).ok()
}

/// Whether a variable sets this key, or something in it.
fn names_key(variable: &str, key: &str) -> bool {
    let path = variable.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", ".");
    path == key || path.starts_with(&format!("{key}."))
}

/// `HABITUS_MODEL__HORIZON_DAYS=30` as `{ model = { horizon_days = 30 } }`. A value that is not
/// TOML is a plain string.
fn variable_as_table(variable: &str, text: &str) -> toml::Table {
    let value = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()));
    let path = variable.trim_start_matches(PREFIX).to_ascii_lowercase();
    let mut keys = path.split("__").collect::<Vec<_>>().into_iter().rev();
    let innermost = keys.next().unwrap_or_default().to_owned();
    keys.fold(toml::Table::from_iter([(innermost, value)]), |table, key| {
        toml::Table::from_iter([(key.to_owned(), toml::Value::Table(table))])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::{Kinds, Seed};
    use habitus_engine::training::HeadSettings;
    use habitus_engine::version::ChurnIs;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(text, &Overrides::default())
    }

    #[test]
    fn the_defaults_are_possible() {
        let config = load("").unwrap();
        assert_eq!(config.training.horizon_days, 90);
        assert_eq!(config.training.noise_quantile, 0.01);
        assert_eq!(load("[segments]\nnoise_quantile = 0").unwrap().training.noise_quantile, 0.0);
        assert!(config.training.spec.0.len() <= 12);
        assert_eq!(config.training.heads, HeadSettings::default());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (text, key) in [
            ("[data]\nzome = 'UTC'", "data.zome"),
            ("[data]\nzone = 'Mars'", "data.zone"),
            ("[data]\ncurrency = 'dollars'", "data.currency"),
            ("[data]\ntime_format = '%Q'", "data.time_format"),
            ("[data.columns]\ncustomer = 7", "data.columns.customer"),
            ("[model]\nhorizon_days = 0", "model.horizon_days"),
            ("[model]\nname = '../up'", "model.name"),
            ("[segments]\nk = 0", "segments.k"),
            ("[segments]\nk = { min = 5, max = 2 }", "segments.k"),
            ("[segments]\nfeatures = ['shoe_size']", "segments.features"),
            ("[segments]\ntol = nan", "segments.tol"),
            ("[segments]\nnoise_quantile = 0.5", "segments.noise_quantile"),
            ("[segments]\nnoise_quantile = -0.01", "segments.noise_quantile"),
            ("[segments]\nnoise_quantile = nan", "segments.noise_quantile"),
            ("[heads]\npurchases = ['bg_nbd']", "mbg_nbd"),
            ("[heads]\npurchases = ['prophet']", "heads.purchases"),
            ("[heads]\nvalue = 'purchases'\npurchases = []", "heads.purchases"),
            ("[heads]\ncovariates = ['spend_mean']", "heads.covariates"),
            ("[heads]\npenalty = -1.0", "heads.penalty"),
            ("[heads]\nl1_ratio = 1.5", "heads.l1_ratio"),
            ("[features]\npack = 'none'", "features"),
            ("surprise = 1", "surprise"),
            ("[model]\nchurn = 'boredom'", "model.churn"),
            ("[model]\nchurn = 'inactivity'", "model.inactive_days"),
            ("[model]\nchurn = 'inactivity'\ninactive_days = 0", "model.inactive_days"),
            ("[model]\nchurn = 'inactivity'\ninactive_days = 91", "model.inactive_days"),
            ("[model]\ninactive_days = 30", "model.inactive_days"),
            ("[model]\nactivity = ['visit']", "model.activity"),
            ("[model]\nchurn = 'inactivity'\ninactive_days = 9\nactivity = []", "model.activity"),
            (
                "[model]\nchurn = 'inactivity'\ninactive_days = 9\nlost_after_days = 9",
                "model.lost_after_days",
            ),
            (
                "[model]\nchurn = 'inactivity'\ninactive_days = 9\n[heads]\nchurn = 'blend'",
                "heads.churn",
            ),
            (
                "[model]\nchurn = 'inactivity'\ninactive_days = 9\n[heads]\nchurn = 'purchases'",
                "heads.churn",
            ),
            (
                "[model]\nchurn = 'inactivity'\ninactive_days = 9\n[[features.list]]\n\
                 name = 'days_since_activity'\naggregate = 'count'",
                "features",
            ),
            (
                "[[features.list]]\nname = 'units'\naggregate = 'sum'\nof = 'quantity'",
                "data.columns",
            ),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn inactivity_adds_its_inputs_to_the_heads_alone() {
        let plain = load("").unwrap().training;
        let text = "[model]\nchurn = 'inactivity'\ninactive_days = 90";
        let inactive = load(text).unwrap().training;
        let ChurnIs::Inactivity(inactivity) = inactive.churn_is else { panic!("{text}") };
        assert_eq!((inactivity.days, inactivity.activity), (90, Kinds::OF_CUSTOMERS));
        assert_eq!(inactive.spec.0[..plain.spec.0.len()], plain.spec.0);
        assert_eq!(inactive.spec.0.len(), plain.spec.0.len() + 3);
        assert_eq!(inactive.segment_features, plain.spec.names());
        // Of purchases alone the default pack has them all.
        let same = load(&format!("{text}\nactivity = ['purchase']")).unwrap().training;
        assert_eq!((same.spec, same.segment_features), (plain.spec, plain.segment_features));
    }

    #[test]
    fn flags_and_variables_win_over_the_file() {
        let variables = vec![("HABITUS_MODEL__SEED".to_owned(), "7".to_owned())];
        let overrides = Overrides { horizon_days: Some(30), ..Overrides::default() };
        let text = "[model]\nseed = 1\nhorizon_days = 60\nname = 'shop'";
        let config = Config::from_texts(text, "test", variables, &overrides).unwrap();
        assert_eq!(config.training.seed, Seed(7));
        assert_eq!(config.training.horizon_days, 30);
        assert_eq!(config.name, "shop");
        let unknown = vec![("HABITUS_MODLE__SEED".to_owned(), "7".to_owned())];
        let error = Config::from_texts("", "test", unknown, &overrides).unwrap_err();
        assert!(error.to_string().contains("HABITUS_MODLE__SEED"), "{error}");
    }
}
