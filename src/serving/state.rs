//! The state of a server, and the questions that it answers.

use super::follow::Obstacle;
use super::recent::Recent;
use super::{Histories, LoadedModel, ServingError, View};
use crate::registry::{GateRecord, Manifest, PRODUCTION, Registry, Versions, pointing_at};
use arc_swap::ArcSwap;
use habitus_engine::domain::{AsOf, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};

/// Customers answered about in one batch, at most.
pub const MAX_BATCH: usize = 10_000;

/// Batches larger than this are spread over the worker pool. At some microseconds an answer, a
/// smaller one takes about a millisecond, which is less than it costs to hand it over.
pub const PARALLEL_FROM: usize = 256;

/// Versions kept beside the served one, at most. The one that was not asked for the longest makes
/// room for the next.
const MAX_OTHERS: usize = 8;

/// What a running server knows. It cannot be printed, because it holds customers.
pub struct Serving {
    pub(super) registry: Registry,
    /// Another version may take its place at any moment, so a call takes it once and keeps it. Its
    /// model's name stays the same.
    pub(super) served: ArcSwap<LoadedModel>,
    pub(super) others: Recent<LoadedModel>,
    /// The alias whose version is served, whatever it comes to mean. Pinned without one.
    pub(super) follows: Option<String>,
    /// Held while the followed alias is looked at.
    pub(super) obstacle: Mutex<Obstacle>,
    /// Held while a version is loaded, so that callers who want the same one load it once.
    loading: Mutex<()>,
    /// Held while an alias is changed, because the registry reads before it writes.
    pub(super) changing: Mutex<()>,
    pub(super) histories: Histories,
}

/// A version in a list: its manifest alone was read.
#[derive(Debug, Clone)]
pub struct Listed {
    pub manifest: Manifest,
    /// The aliases that point at it, sorted.
    pub aliases: Vec<String>,
}

/// A version in full.
#[derive(Debug, Clone)]
pub struct Described {
    pub model: Arc<LoadedModel>,
    /// The aliases that point at it, sorted.
    pub aliases: Vec<String>,
    /// What the gate says of it, if it was asked.
    pub gate: Option<GateRecord>,
}

impl Serving {
    /// Serves `model` over `histories`; `registry` gives the versions that are asked for. The server is
    /// pinned to `model` unless it is told what to follow ([`Serving::following`]).
    pub fn new(registry: Registry, model: LoadedModel, histories: Histories) -> Serving {
        Serving {
            registry,
            served: ArcSwap::from_pointee(model),
            others: Recent::new(MAX_OTHERS),
            follows: None,
            obstacle: Mutex::new(Obstacle::default()),
            loading: Mutex::new(()),
            changing: Mutex::new(()),
            histories,
        }
    }

    /// What is known of customers at `now`. A call takes it once, so that all of its answer is of one
    /// moment.
    pub fn view(&self, now: Timestamp) -> View<'_> {
        self.histories.view(now)
    }

    /// How many customers are known.
    pub fn n_customers(&self) -> u64 {
        self.histories.n_customers()
    }

    /// The newest instant of an event.
    pub fn newest(&self) -> Option<Timestamp> {
        self.histories.newest()
    }

    /// Whether it can do what it is for: a store whose disk failed takes no more events.
    pub fn is_well(&self) -> bool {
        match &self.histories {
            Histories::Memory(_) => true,
            Histories::Live(live) => !live.store.has_failed(),
        }
    }

    /// The store's sequence; `None` without a store.
    pub fn sequence(&self) -> Option<u64> {
        match &self.histories {
            Histories::Memory(_) => None,
            Histories::Live(live) => Some(live.store.snapshot().sequence()),
        }
    }

    /// The version that answers where none is named. A call asks once, so that all of its answer is
    /// of one version.
    pub fn served(&self) -> Arc<LoadedModel> {
        self.served.load_full()
    }

    /// A version of the served model by its own name, where it is in memory.
    pub fn loaded(&self, version: &str) -> Option<Arc<LoadedModel>> {
        let served = self.served();
        if version == served.version() {
            return Some(served);
        }
        self.others.get(version)
    }

    /// A version of the served model by its own name or an alias, out of memory or the registry.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`ServingError::RulesDiffer`] where the histories in memory would have another shape under
    /// that version's rules, [`ServingError::CustomersNeeded`]; [`ServingError::Registry`] and
    /// [`ServingError::Unanswerable`].
    pub fn load(&self, reference: &str) -> Result<Arc<LoadedModel>, ServingError> {
        let served = self.served();
        let version = self.registry.resolve(served.name(), reference)?;
        if let Some(model) = self.loaded(&version) {
            return Ok(model);
        }
        let _turn = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever held the turn before may have loaded the same version.
        if let Some(model) = self.loaded(&version) {
            return Ok(model);
        }
        let model = self.fit(served.name(), &version)?;
        self.others.keep(&version, Arc::clone(&model));
        Ok(model)
    }

    /// The instant that a question to `model` is about: the one asked for, or where none is the end of
    /// the log, and with a store `now`.
    ///
    /// # Errors
    /// [`ServingError::FutureAsOf`] and [`ServingError::AsOfTooOld`].
    pub fn as_of(
        &self,
        model: &LoadedModel,
        asked: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<AsOf, ServingError> {
        self.histories.as_of(model.rules(), asked, now)
    }

    /// Refuses a batch that is too large, before anything is done for it.
    ///
    /// # Errors
    /// [`ServingError::BatchTooLarge`].
    pub fn check_batch(&self, n_customers: usize) -> Result<(), ServingError> {
        if n_customers > MAX_BATCH {
            return Err(ServingError::BatchTooLarge { got: n_customers, limit: MAX_BATCH });
        }
        Ok(())
    }

    /// The versions of a model, newest as-of first; of the served one where none is named. Waits
    /// for the disk.
    ///
    /// # Errors
    /// [`ServingError::Registry`].
    pub fn list(&self, name: Option<&str>) -> Result<Vec<Listed>, ServingError> {
        let served = self.served();
        let name = name.unwrap_or(served.name());
        let Versions { manifests, damaged } = self.registry.versions(name)?;
        for error in damaged {
            tracing::warn!("left out of the list: {error}");
        }
        let aliases = self.registry.aliases(name)?;
        let list = |manifest: Manifest| Listed {
            aliases: pointing_at(&aliases, &manifest.version),
            manifest,
        };
        Ok(manifests.into_iter().map(list).collect())
    }

    /// A version in full, whether or not it could answer here. Waits for the disk.
    ///
    /// Without a name it is of the served model. Without a reference it is `served`, which the caller
    /// took once for the whole answer, or the production version of another model.
    ///
    /// # Errors
    /// [`ServingError::Registry`] and [`ServingError::Unanswerable`].
    pub fn describe(
        &self,
        served: &Arc<LoadedModel>,
        name: Option<&str>,
        reference: Option<&str>,
    ) -> Result<Described, ServingError> {
        let name = name.unwrap_or(served.name());
        let of_served = name == served.name();
        let version = match reference {
            None if of_served => served.version().to_owned(),
            reference => self.registry.resolve(name, reference.unwrap_or(PRODUCTION))?,
        };
        let in_memory = match of_served {
            true if version == served.version() => Some(Arc::clone(served)),
            true => self.loaded(&version),
            false => None,
        };
        let model = match in_memory {
            Some(model) => model,
            None => Arc::new(self.read(name, &version)?),
        };
        let aliases = pointing_at(&self.registry.aliases(name)?, &version);
        let gate = self.registry.verdict(name, &version)?;
        Ok(Described { model, aliases, gate })
    }

    fn read(&self, name: &str, version: &str) -> Result<LoadedModel, ServingError> {
        LoadedModel::try_from(self.registry.load(name, version)?)
    }

    /// Reads a version and refuses one that cannot answer from the histories in memory; from a store
    /// any can. Waits for the disk.
    pub(super) fn fit(&self, name: &str, version: &str) -> Result<Arc<LoadedModel>, ServingError> {
        let model = self.read(name, version)?;
        self.histories.check_attributes(&model)?;
        if let Histories::Memory(memory) = &self.histories {
            memory.rules.check_same(model.rules()).map_err(|conflict| {
                ServingError::RulesDiffer {
                    version: model.version().to_owned(),
                    rule: conflict.rule,
                    asked: conflict.configured,
                    served: conflict.trained,
                }
            })?;
        }
        Ok(Arc::new(model))
    }
}
