//! The state of a server, and the questions that it answers.

use super::recent::Recent;
use super::{LoadedModel, ServingError};
use crate::registry::{GateRecord, Manifest, PRODUCTION, Registry, Versions, pointing_at};
use habitus_engine::domain::{AsOf, CustomerId, History, Prediction, Timestamp};
use rayon::prelude::*;
use std::collections::HashMap;
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
    served: Arc<LoadedModel>,
    others: Recent<LoadedModel>,
    /// Held while a version is loaded, so that callers who want the same one load it once.
    loading: Mutex<()>,
    /// Held while an alias is changed, because the registry reads before it writes.
    pub(super) changing: Mutex<()>,
    /// Sorted by customer id.
    pub(super) histories: Vec<History>,
    /// Where each customer's history stands.
    places: HashMap<CustomerId, usize>,
    as_of: AsOf,
    /// Of all histories.
    pub(super) newest_event: Option<Timestamp>,
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
    /// Serves `model` over `histories`, which the version's own rules must have shaped. Questions
    /// that name no instant are about `as_of`; `registry` gives the versions that are asked for.
    pub fn new(
        registry: Registry,
        model: LoadedModel,
        mut histories: Vec<History>,
        as_of: AsOf,
    ) -> Serving {
        // A log's histories are sorted already, which this finds out in one pass.
        histories.sort_unstable_by(|a, b| a.customer().cmp(b.customer()));
        let customers = histories.iter().map(|history| history.customer().clone());
        Serving {
            registry,
            served: Arc::new(model),
            others: Recent::new(MAX_OTHERS),
            loading: Mutex::new(()),
            changing: Mutex::new(()),
            places: customers.zip(0..).collect(),
            newest_event: histories.iter().filter_map(History::newest).max(),
            histories,
            as_of,
        }
    }

    /// How many customers have a history here.
    pub fn n_customers(&self) -> usize {
        self.histories.len()
    }

    /// The version that answers where none is named.
    pub fn served(&self) -> Arc<LoadedModel> {
        Arc::clone(&self.served)
    }

    /// A version of the served model by its own name, where it is in memory.
    pub fn loaded(&self, version: &str) -> Option<Arc<LoadedModel>> {
        if version == self.served.version() {
            return Some(self.served());
        }
        self.others.get(version)
    }

    /// A version of the served model by its own name or an alias, out of memory or the registry.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`ServingError::RulesDiffer`] where the histories in memory would have another shape under
    /// that version's rules; [`ServingError::Registry`] and [`ServingError::Unanswerable`].
    pub fn load(&self, reference: &str) -> Result<Arc<LoadedModel>, ServingError> {
        let version = self.registry.resolve(self.served.name(), reference)?;
        if let Some(model) = self.loaded(&version) {
            return Ok(model);
        }
        let _turn = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever held the turn before may have loaded the same version.
        if let Some(model) = self.loaded(&version) {
            return Ok(model);
        }
        let model = Arc::new(self.read(self.served.name(), &version)?);
        self.check_rules(&model)?;
        self.others.keep(&version, Arc::clone(&model));
        Ok(model)
    }

    /// The instant that a question is about: the one asked for, or the server's.
    ///
    /// The server's own as-of is the end of a day and may itself lie some hours ahead of the clock;
    /// whoever gives it back as it stands in an answer is not refused.
    ///
    /// # Errors
    /// [`ServingError::FutureAsOf`].
    pub fn as_of(&self, asked: Option<Timestamp>, now: Timestamp) -> Result<AsOf, ServingError> {
        match asked {
            None => Ok(self.as_of),
            Some(as_of) if as_of > now.max(self.as_of.at) => {
                Err(ServingError::FutureAsOf { as_of, now })
            }
            Some(as_of) => Ok(self.served.rules().zone.as_of(as_of)),
        }
    }

    /// Answers about one customer. Somebody who is in no log has no history, which is an answer.
    ///
    /// # Errors
    /// [`ServingError::EmptyCustomer`].
    pub fn predict(
        &self,
        model: &LoadedModel,
        customer: &str,
        as_of: AsOf,
    ) -> Result<Prediction, ServingError> {
        // As in a log, blanks around an id are not part of it.
        let customer = customer.trim();
        if customer.is_empty() {
            return Err(ServingError::EmptyCustomer);
        }
        Ok(match self.places.get(customer) {
            Some(&place) => model.scorer.predict(&self.histories[place], as_of),
            None => {
                let stranger = History::new(CustomerId::new(customer), Vec::new());
                model.scorer.predict(&stranger, as_of)
            }
        })
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

    /// Answers about each customer as [`Serving::predict`] does, in the same order. More than
    /// [`PARALLEL_FROM`] are spread over the worker pool, and the caller waits.
    pub fn predict_batch(
        &self,
        model: &LoadedModel,
        customers: &[String],
        as_of: AsOf,
    ) -> Vec<Result<Prediction, ServingError>> {
        let answer = |customer: &String| self.predict(model, customer, as_of);
        if customers.len() > PARALLEL_FROM {
            customers.par_iter().map(answer).collect()
        } else {
            customers.iter().map(answer).collect()
        }
    }

    /// The versions of a model, newest as-of first; of the served one where none is named. Waits
    /// for the disk.
    ///
    /// # Errors
    /// [`ServingError::Registry`].
    pub fn list(&self, name: Option<&str>) -> Result<Vec<Listed>, ServingError> {
        let name = name.unwrap_or(self.served.name());
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
    /// Without a name it is of the served model. Without a reference it is the served version, or
    /// the production version of another model.
    ///
    /// # Errors
    /// [`ServingError::Registry`] and [`ServingError::Unanswerable`].
    pub fn describe(
        &self,
        name: Option<&str>,
        reference: Option<&str>,
    ) -> Result<Described, ServingError> {
        let name = name.unwrap_or(self.served.name());
        let of_served = name == self.served.name();
        let version = match reference {
            None if of_served => self.served.version().to_owned(),
            reference => self.registry.resolve(name, reference.unwrap_or(PRODUCTION))?,
        };
        let in_memory = if of_served { self.loaded(&version) } else { None };
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

    fn check_rules(&self, model: &LoadedModel) -> Result<(), ServingError> {
        self.served.rules().check_same(model.rules()).map_err(|conflict| {
            ServingError::RulesDiffer {
                version: model.version().to_owned(),
                rule: conflict.rule,
                asked: conflict.configured,
                served: conflict.trained,
            }
        })
    }
}
