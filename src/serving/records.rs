//! Records that come in while the server runs: what of them is kept, and who is erased.

use super::histories::Histories;
use super::{Serving, ServingError};
use crate::registry::{Deed, Registry};
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
    /// It was trained from files, of which the store does not know whom they hold.
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
    let versions = trained(registry)?;
    registry.note(&Deed::Erase { customer_hash, store: place }, at)?;
    Ok(Receipt {
        erased: store.erase(customer, at)?,
        cleaned: vec!["store"],
        remaining: "freed pages of the store's file are written over when they are needed; \
                    `habitus store compact` leaves none",
        versions,
    })
}

/// All versions of a registry.
fn trained(registry: &Registry) -> Result<Vec<TrainedVersion>, ServingError> {
    let mut versions = Vec::new();
    for name in registry.names()? {
        for manifest in registry.versions(&name)?.manifests {
            let (name, version) = (name.clone(), manifest.version);
            versions.push(TrainedVersion { name, version, presence: Presence::Possible });
        }
    }
    Ok(versions)
}
