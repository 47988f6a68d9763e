//! Records that come in while the server runs: what of them is kept, and who is erased.

use super::histories::Histories;
use super::{Serving, ServingError};
use crate::store::{Batch, Erased, Outcome, StoreError};
use habitus_engine::domain::{EventRules, RawEvent, Rejection, Timestamp};
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

    /// Erases a customer from the store. Waits for the disk.
    ///
    /// # Errors
    /// [`ServingError::EmptyCustomer`], [`ServingError::NoStore`] and [`ServingError::Store`].
    pub fn erase(&self, customer: &str, at: Timestamp) -> Result<Erased, ServingError> {
        let customer = customer.trim();
        match &self.histories {
            _ if customer.is_empty() => Err(ServingError::EmptyCustomer),
            Histories::Memory(_) => Err(ServingError::NoStore),
            Histories::Live(live) => Ok(live.store.erase(customer, at)?),
        }
    }
}
