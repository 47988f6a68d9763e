//! `habitus serve`: answers over gRPC for the customers of a log in memory, or of a store.

use super::Global;
use super::example;
use super::exit::Refusal;
use super::input::{self, HowToRead, LogInput, ModelChoice};
use crate::config::{Config, Overrides, ServeSettings};
use crate::ingest::{self, Source};
use crate::registry::{Artefact, Registry};
use crate::rpc;
use crate::serving::{Histories, LoadedModel, Serving};
use crate::store::Store;
use anyhow::Context;
use habitus_engine::domain::{AsOf, History, fingerprint};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Answer over gRPC
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Event logs whose customers are answered for: .csv, .ndjson (also .gz, .zst) or .parquet
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    events: Vec<String>,
    /// A store of histories to answer from and to keep events in, instead of a log; it is made where
    /// there is none
    #[arg(long, value_name = "DIR", conflicts_with_all = ["events", "customers"])]
    store: Option<PathBuf>,
    /// Customers files in the same formats
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    customers: Vec<String>,
    /// Settings for reading the log and listening
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    choice: ModelChoice,
    /// Where to listen; loopback unless told otherwise
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where to show the metrics, at /metrics over HTTP; nowhere where left out
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

impl Serve {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let overrides = Overrides {
            models: self.choice.models.clone(),
            listen: self.listen,
            store: self.store.clone(),
            metrics: self.metrics,
            ..Overrides::default()
        };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        // Before anything is read, which may take minutes.
        let mut settings = settings(&config.serve);
        settings.check(config.serve.listen)?;
        let registry = Registry::open(&config.models);
        let (artefact, alias) = self.choice(&registry)?.load_followed(&registry)?;
        let (model, histories) = match self.store {
            Some(_) => (LoadedModel::try_from(artefact)?, stored(&config)?),
            None => self.read(artefact, &config, global)?,
        };
        if histories.check_attributes(&model).is_err() {
            let model = format!("{}@{}", model.name(), model.version());
            return Err(Refusal::AttributesNeeded { model }.into());
        }
        let mut serving = Serving::new(registry, model, histories);
        if let Some(alias) = &alias {
            serving = serving.following(alias);
        }
        let serving = Arc::new(serving);
        let runtime = runtime()?;
        runtime.block_on(async {
            let listener = bind(config.serve.listen).await?;
            let address = listener.local_addr()?;
            if let Some(metrics) = config.serve.metrics {
                settings.metrics = Some(bind(metrics).await?);
            }
            let metrics = settings.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
            let shutdown = rpc::shutdown_signal()?;
            announce(&serving, address, metrics, global)?;
            Ok(rpc::serve(serving, listener, settings, shutdown).await?)
        })
    }

    /// The version, and the histories of the log that it is to answer from.
    fn read(
        &self,
        artefact: Artefact,
        config: &Config,
        global: &Global,
    ) -> anyhow::Result<(LoadedModel, Histories)> {
        let customers = input::customers(&self.customers)?;
        let config_given = self.config.as_ref().map(|_| config);
        let how = HowToRead::of(&artefact, config_given, customers.is_some())?;
        let sources = self.sources()?;
        let model = LoadedModel::try_from(artefact)?;
        let input = LogInput {
            sources: &sources,
            columns: &how.columns,
            rules: model.rules(),
            memory: &config.memory,
            customers: customers.as_deref().map(|sources| (sources, &how.customers)),
            max_rejected_share: how.max_rejected_share,
            as_of: None,
            keep_in: None,
        };
        let (histories, as_of) = self.histories(&input, &model, global)?;
        let rules = model.rules().clone();
        let histories = Histories::of_log(histories, rules, as_of, customers.is_some());
        Ok((model, histories))
    }

    /// Without a log and a model, the example is served wherever it ships.
    fn choice(&self, registry: &Registry) -> anyhow::Result<ModelChoice> {
        let bare = self.events.is_empty()
            && self.customers.is_empty()
            && self.store.is_none()
            && self.choice.model.is_none();
        let shipped = bare && registry.names()?.iter().any(|name| name == example::NAME);
        let model =
            if shipped { Some(example::NAME.to_owned()) } else { self.choice.model.clone() };
        Ok(ModelChoice { model, ..self.choice.clone() })
    }

    fn sources(&self) -> anyhow::Result<Vec<Source>> {
        match self.events.as_slice() {
            [] if !self.customers.is_empty() => Ok(Vec::new()),
            [] => Ok(vec![example::orders()]),
            events => Ok(ingest::sources(events)?),
        }
    }

    /// Reads the log. The bundled one answers only for versions that were trained on it.
    fn histories(
        &self,
        input: &LogInput<'_>,
        model: &LoadedModel,
        global: &Global,
    ) -> anyhow::Result<(Vec<History>, AsOf)> {
        let read = || {
            let (log, as_of) = input.read(global)?;
            let (histories, counts) = log.histories(as_of)?;
            if !global.quiet {
                tracing::info!("the log:\n{}", log.validation(as_of, &counts));
            }
            anyhow::Ok((histories, as_of))
        };
        if !self.events.is_empty() || !self.customers.is_empty() {
            return read();
        }
        let sealed = &model.manifest.sealed;
        let own = |histories: &[History]| {
            fingerprint(histories, sealed.as_of) == sealed.population.fingerprint
        };
        match read() {
            Ok((histories, as_of)) if own(&histories) => Ok((histories, as_of)),
            _ => Err(Refusal::EventsNeeded { model: model.name().to_owned() }.into()),
        }
    }
}

/// The histories of the configured store.
fn stored(config: &Config) -> anyhow::Result<Histories> {
    let store = Store::open_or_create(&config.store.path, &config.store.settings.for_answers())?;
    if store.snapshot().n_customers() == 0 {
        tracing::warn!("the store in {} knows nobody", config.store.path.display());
    }
    Histories::of_store(Arc::new(store)).context("starting the store's writer")
}

/// A runtime for what is beside the calls, which have threads of their own.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("starting the runtime")
}

/// Binds the address, naming it where that fails.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// What the configuration says of a server, in the server's own words. The metrics' address is yet
/// to be bound.
pub fn settings(serve: &ServeSettings) -> rpc::Settings {
    rpc::Settings {
        token_digests: serve.token_digests.clone(),
        threads: rayon::current_num_threads(),
        max_request_bytes: serve.max_message_bytes,
        max_concurrent_calls: serve.max_concurrent_calls,
        max_concurrent_streams: serve.max_concurrent_streams,
        metrics: None,
    }
}

/// Says that clients may connect. Scripts wait for this line.
fn announce(
    serving: &Serving,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    global: &Global,
) -> anyhow::Result<()> {
    let model = serving.served();
    let customers = serving.n_customers();
    global.format.print(
        || {
            let (name, version) = (model.name(), model.version());
            let shown = metrics.map(|at| format!(", metrics on http://{at}/metrics"));
            let shown = shown.unwrap_or_default();
            format!("listening on {address}: {name}@{version} for {customers} customers{shown}")
        },
        || {
            json!({
                "listening": address.to_string(),
                "metrics": metrics.map(|at| at.to_string()),
                "name": model.name(),
                "version": model.version(),
                "customers": customers,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_configuration_is_the_default_one() {
        let config = Config::from_text("", &Overrides::default()).unwrap();
        let (ours, default) = (settings(&config.serve), rpc::Settings::default());
        assert_eq!(format!("{ours:?}"), format!("{default:?}"));
    }
}
