//! Records that come in while the server runs: what of them is kept, and who is erased.

use super::histories::Histories;
use super::{Serving, ServingError};
use crate::registry::{Deed, Registry, StoreOrigin};
use crate::store::{Batch, Erased, Outcome, Store, StoreError};
use habitus_engine::domain::{EventRules, RawEvent, Rejection, Timestamp};
use serde::Serialize;
use std::sync::Arc;

/// Records of one request, at most.
pub const MAX_RECORDS: usize = 10_000;

/// The instant of a row, where a store keeps it. What the rules find faulty is not kept, since
/// whoever sent it can be told; what a rule of theirs leaves out is, since other rules may want it.
///
/// # Errors
/// The [`Rejection`] of a faulty row.
pub fn kept_at(
    rules: &EventRules,
    raw: &RawEvent<'_>,
    now: Timestamp,
) -> Result<Timestamp, Rejection> {
    match rules.read(raw, now) {
        Ok(accepted) => Ok(accepted.event.at),
        Err(rejection) if rejection.is_fault() => Err(rejection),
        Err(_) => match rules.time(raw)?.at {
            at if at > now => Err(Rejection::FutureTime),
            at => Ok(at),
        },
    }
}

impl Serving {
    /// Hands records over to the store's writer, and returns. `done` hears what became of each as
    /// soon as they are durable; it must not wait.
    ///
    /// # Errors
    /// [`ServingError::NoStore`].
    pub fn ingest(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<Vec<Outcome>, Arc<StoreError>>) + Send + 'static,
    ) -> Result<(), ServingError> {
        match &self.histories {
            Histories::Memory(_) => Err(ServingError::NoStore),
            Histories::Live(live) => {
                live.writer.submit(batch, done);
                Ok(())
            }
        }
    }

    /// Whether records can be taken.
    pub fn has_store(&self) -> bool {
        matches!(self.histories, Histories::Live(_))
    }

    /// Erases a customer from the store, and tells which versions may have learned from them. Waits
    /// for the disk.
    ///
    /// # Errors
    /// [`ServingError::EmptyCustomer`], [`ServingError::NoStore`], [`ServingError::Store`] and
    /// [`ServingError::Registry`].
    pub fn erase(&self, customer: &str, at: Timestamp) -> Result<Receipt, ServingError> {
        let customer = customer.trim();
        match &self.histories {
            _ if customer.is_empty() => Err(ServingError::EmptyCustomer),
            Histories::Memory(_) => Err(ServingError::NoStore),
            Histories::Live(live) => erase(&live.store, &self.registry, customer, at),
        }
    }
}

/// What an erasure did, and what it could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    pub erased: Erased,
    /// The places that were cleaned.
    pub cleaned: Vec<&'static str>,
    /// What is left to do before the bytes are gone from the disk too.
    pub remaining: &'static str,
    /// The versions that may have learned from the customer.
    pub versions: Vec<TrainedVersion>,
}

/// A version that may have learned from a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrainedVersion {
    pub name: String,
    pub version: String,
    pub presence: Presence,
}

/// How surely a customer was among those that a version learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It was trained from this store while the customer was in it.
    Certain,
    /// It was trained from files or another store, of which this one does not know whom they held, or
    /// from this one at a time of which it no longer knows whether the customer was in it.
    Possible,
}

/// Erases a customer from a store, notes it, and tells which versions of a registry may have learned
/// from them.
///
/// # Errors
/// [`ServingError::Store`] and [`ServingError::Registry`].
pub fn erase(
    store: &Store,
    registry: &Registry,
    customer: &str,
    at: Timestamp,
) -> Result<Receipt, ServingError> {
    let customer_hash = store.hash_of(customer);
    let place = store.directory().display().to_string();
    // A registry that cannot be read must not hide that the customer is gone.
    let trained = trained(registry)?;
    registry.note(&Deed::Erase { customer_hash, store: place }, at)?;
    let erased = store.erase(customer, at)?;
    let id = store.id();
    let has_forgotten = store.snapshot().kept_from().is_some();
    let versions = trained.into_iter().filter_map(|Trained { name, version, store: origin }| {
        let origin = origin.filter(|origin| origin.id == id);
        let presence = presence(origin.as_ref(), &erased, has_forgotten)?;
        Some(TrainedVersion { name, version, presence })
    });
    let versions = versions.collect();
    Ok(Receipt {
        erased,
        cleaned: vec!["store"],
        remaining: "freed pages of the store's file are written over when they are needed; \
                    `habitus store compact` leaves none",
        versions,
    })
}

/// How surely a version, trained from the same store where there is an `origin`, learned from a
/// customer who was erased; `None` where it did not. A store that has let go of old events has
/// forgotten customers who had no others, so that one who is there may have been there before.
fn presence(
    origin: Option<&StoreOrigin>,
    erased: &Erased,
    has_forgotten: bool,
) -> Option<Presence> {
    let (Some(origin), Some(first)) = (origin, erased.first_sequence) else {
        return Some(Presence::Possible);
    };
    // A sequence that is yet to come is of a store that went other ways since this copy was made.
    match origin.sequence {
        then if then >= erased.sequence => Some(Presence::Possible),
        then if then > first => Some(Presence::Certain),
        _ => has_forgotten.then_some(Presence::Possible),
    }
}

/// A version, and the store that it was trained from.
struct Trained {
    name: String,
    version: String,
    store: Option<StoreOrigin>,
}

/// All versions of a registry.
fn trained(registry: &Registry) -> Result<Vec<Trained>, ServingError> {
    let mut versions = Vec::new();
    for name in registry.names()? {
        for manifest in registry.versions(&name)?.manifests {
            let (name, version, store) = (name.clone(), manifest.version, manifest.store);
            versions.push(Trained { name, version, store });
        }
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_there_when_a_version_was_trained_is_told_from_who_came_later() {
        let erased = |first_sequence: Option<u64>| Erased {
            was_known: first_sequence.is_some(),
            n_lines: 0,
            had_attributes: false,
            first_sequence,
            sequence: 21,
        };
        let [certain, possible] = [Presence::Certain, Presence::Possible].map(Some);
        for (trained_at, first, has_forgotten, expected) in [
            (None, Some(10), false, possible),
            (Some(10), Some(10), false, None),
            (Some(11), Some(10), false, certain),
            (Some(20), Some(10), false, certain),
            (Some(10), Some(10), true, possible),
            (Some(11), Some(10), true, certain),
            // The store was set back.
            (Some(21), Some(10), false, possible),
            // Nothing is known of the customer, or nothing can be read.
            (Some(11), None, false, possible),
        ] {
            let origin = trained_at.map(|sequence| StoreOrigin {
                id: "1".into(),
                sequence,
                kept_from: None,
            });
            let found = presence(origin.as_ref(), &erased(first), has_forgotten);
            assert_eq!(found, expected, "{trained_at:?} {first:?} {has_forgotten}");
        }
    }
}
