//! Where the histories are that answers are computed from: of a log in memory, or in a store.

use super::{LoadedModel, PARALLEL_FROM, ServingError};
use crate::store::{Snapshot, Store, Writer};
use habitus_engine::domain::{AsOf, CustomerId, EventRules, History, Prediction, Timestamp};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Histories that questions are answered from.
pub enum Histories {
    /// Of a log that was read once. Boxed, since it is the larger.
    Memory(Box<InMemory>),
    /// Kept while events come in.
    Live(Live),
}

/// The histories of a log.
pub struct InMemory {
    /// Sorted by customer id.
    histories: Vec<History>,
    /// Where each customer's history stands.
    places: HashMap<CustomerId, usize>,
    /// What shaped them, which is the same for every version that answers from them.
    pub(super) rules: EventRules,
    /// Whether a customers file was read with them.
    pub(super) knows_customers: bool,
    as_of: AsOf,
    /// The newest instant of an event.
    newest: Option<Timestamp>,
}

/// Histories in a store, and the way into it.
pub struct Live {
    pub(super) store: Arc<Store>,
    pub(super) writer: Writer,
}

impl Histories {
    /// Histories that `rules` shaped out of a log, and the as-of of questions that name none.
    /// `knows_customers` says whether a customers file was read with them.
    pub fn of_log(
        mut histories: Vec<History>,
        rules: EventRules,
        as_of: AsOf,
        knows_customers: bool,
    ) -> Histories {
        // A log's histories are sorted already, which this finds out in one pass.
        histories.sort_unstable_by(|a, b| a.customer().cmp(b.customer()));
        let customers = histories.iter().map(|history| history.customer().clone());
        let places = customers.zip(0..).collect();
        let newest = histories.iter().filter_map(History::newest).max();
        Histories::Memory(Box::new(InMemory {
            places,
            histories,
            rules,
            knows_customers,
            as_of,
            newest,
        }))
    }

    /// Answers from a store, and keeps events in it.
    ///
    /// # Errors
    /// Where the system gives no thread to write by.
    pub fn of_store(store: Arc<Store>) -> std::io::Result<Histories> {
        Ok(Histories::Live(Live { writer: Writer::start(Arc::clone(&store))?, store }))
    }

    /// What is known at `now`. A call takes it once, so that all of its answer is of one moment.
    pub(super) fn view(&self, now: Timestamp) -> View<'_> {
        match self {
            Histories::Memory(memory) => View::Memory(memory),
            Histories::Live(live) => {
                let kept_from = live.store.kept_from(now);
                View::Stored { snapshot: live.store.snapshot(), kept_from }
            }
        }
    }

    /// How many customers are known.
    pub(super) fn n_customers(&self) -> u64 {
        match self {
            Histories::Memory(memory) => memory.histories.len() as u64,
            Histories::Live(live) => live.store.snapshot().n_customers(),
        }
    }

    /// The newest instant of an event.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        match self {
            Histories::Memory(memory) => memory.newest,
            Histories::Live(live) => live.store.snapshot().newest(),
        }
    }

    /// Refuses a version that was trained with a customers file where nothing was ever told of
    /// customers: it would answer about people who opted out.
    ///
    /// # Errors
    /// [`ServingError::CustomersNeeded`].
    pub fn check_attributes(&self, model: &LoadedModel) -> Result<(), ServingError> {
        let knows = match self {
            Histories::Memory(memory) => memory.knows_customers,
            Histories::Live(live) => live.store.snapshot().knows_attributes(),
        };
        if model.needs_customers() && !knows {
            return Err(ServingError::CustomersNeeded { version: model.version().to_owned() });
        }
        Ok(())
    }

    /// The instant that a question is about: the one asked for, or that of the log, or now.
    ///
    /// A log's own as-of is the end of a day and may itself lie some hours ahead of the clock;
    /// whoever gives it back as it stands in an answer is not refused.
    pub(super) fn as_of(
        &self,
        rules: &EventRules,
        asked: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<AsOf, ServingError> {
        let (usual, latest) = match self {
            Histories::Memory(memory) => (memory.as_of, memory.as_of.at.max(now)),
            Histories::Live(_) => (rules.zone.as_of(now), now),
        };
        let as_of = match asked {
            None => return Ok(usual),
            Some(as_of) if as_of > latest => return Err(ServingError::FutureAsOf { as_of, now }),
            Some(as_of) => rules.zone.as_of(as_of),
        };
        if let Histories::Live(live) = self
            && let Some(kept_from) = live.store.kept_from(now).filter(|&from| as_of.at < from)
        {
            return Err(ServingError::AsOfTooOld { as_of: as_of.at, kept_from });
        }
        Ok(as_of)
    }
}

/// What is known at one moment.
pub enum View<'a> {
    Memory(&'a InMemory),
    Stored {
        snapshot: Arc<Snapshot>,
        /// Events before it are not used.
        kept_from: Option<Timestamp>,
    },
}

impl View<'_> {
    /// The store's sequence; `None` without a store.
    pub fn sequence(&self) -> Option<u64> {
        match self {
            View::Memory(_) => None,
            View::Stored { snapshot, .. } => Some(snapshot.sequence()),
        }
    }

    /// Answers about one customer. Somebody nobody knows has no history, which is an answer.
    ///
    /// # Errors
    /// [`ServingError::EmptyCustomer`], and [`ServingError::Store`] where what was kept cannot be
    /// read.
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
        let stranger = || History::new(CustomerId::new(customer), Vec::new());
        Ok(match self {
            View::Memory(memory) => match memory.places.get(customer) {
                Some(&place) => model.scorer.predict(&memory.histories[place], as_of),
                None => model.scorer.predict(&stranger(), as_of),
            },
            View::Stored { snapshot, kept_from } => {
                let history = snapshot.recall(customer, &model.shaping(*kept_from))?;
                model.scorer.predict(&history.unwrap_or_else(stranger), as_of)
            }
        })
    }

    /// Answers about each customer as [`View::predict`] does, in the same order, each as `told` puts
    /// it. More than [`PARALLEL_FROM`] are spread over the worker pool, and the caller waits.
    pub fn predict_batch<T: Send>(
        &self,
        model: &LoadedModel,
        customers: Vec<String>,
        as_of: AsOf,
        told: impl Fn(String, Result<Prediction, ServingError>) -> T + Sync,
    ) -> Vec<T> {
        let answer = |customer: String| {
            let answer = self.predict(model, &customer, as_of);
            told(customer, answer)
        };
        if customers.len() > PARALLEL_FROM {
            customers.into_par_iter().map(answer).collect()
        } else {
            customers.into_iter().map(answer).collect()
        }
    }

    /// Up to `n` histories of the customers after this id, in the order of ids.
    ///
    /// # Errors
    /// [`ServingError::Store`] where what was kept cannot be read.
    pub(super) fn page(
        &self,
        after: Option<&str>,
        n: usize,
        rules: &EventRules,
    ) -> Result<Cow<'_, [History]>, ServingError> {
        Ok(match self {
            View::Memory(memory) => {
                let passed = |history: &History| {
                    after.is_some_and(|after| history.customer().as_str() <= after)
                };
                let rest = &memory.histories[memory.histories.partition_point(passed)..];
                Cow::Borrowed(&rest[..n.min(rest.len())])
            }
            View::Stored { snapshot, kept_from } => {
                Cow::Owned(snapshot.page(after, n, rules, *kept_from)?)
            }
        })
    }
}
