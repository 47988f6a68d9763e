//! Why a question got no answer.

use crate::registry::RegistryError;
use crate::store::StoreError;
use habitus_engine::domain::Timestamp;
use habitus_engine::scoring::ScorerError;
use thiserror::Error;

/// A fault of a question, of a version on disk, or of the two together.
#[derive(Debug, Error)]
pub enum ServingError {
    #[error("the customer id is empty")]
    EmptyCustomer,
    #[error("the as-of {as_of} lies in the future; it is {now} now")]
    FutureAsOf { as_of: Timestamp, now: Timestamp },
    #[error("the as-of {as_of} is older than what is kept, which begins at {kept_from}")]
    AsOfTooOld { as_of: Timestamp, kept_from: Timestamp },
    #[error("the server answers from a log in memory and keeps nothing")]
    NoStore,
    #[error("{got} customers are too many for one batch; at most {limit} are answered")]
    BatchTooLarge { got: usize, limit: usize },
    #[error("version `{version}` has no segment `{id}`")]
    UnknownSegment { version: String, id: String },
    #[error(
        "`{alias}` cannot be an alias; 1 to 64 lower-case letters, digits, `-`, `_` and inner dots \
         can, unless they look like a version"
    )]
    BadAlias { alias: String },
    #[error(
        "version `{version}` reads a log by other rules than the served version: `{rule}` is \
         `{asked}` there and `{served}` here"
    )]
    RulesDiffer { version: String, rule: &'static str, asked: String, served: String },
    #[error("version `{version}` was trained with a customers file, and the server has none")]
    CustomersNeeded { version: String },
    #[error("version `{version}` cannot answer")]
    Unanswerable { version: String, source: ScorerError },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
