//! What a running server knows: the version that it answers with, a few others that were asked for,
//! and histories, of a log in memory or in a store that takes events while it runs.
//!
//! The version that it answers with may be swapped at any moment (`follow`), so whoever answers takes
//! it once and passes it on.
//!
//! Everything here is plain Rust that may be called from any thread. What waits for a disk says so;
//! the caller keeps it off the threads that hold connections. The scorer alone makes numbers.
//!
//! What is absent: a clock (the caller passes `now`), anything of gRPC, and the reading of logs.

mod aliases;
mod error;
mod follow;
mod histories;
mod holdings;
mod members;
mod model;
mod recent;
mod records;
mod state;
mod supplied;

pub use aliases::Pointed;
pub use error::ServingError;
pub use follow::Followed;
pub use histories::{Histories, InMemory, Live, View};
pub use holdings::{Holdings, StoreHoldings};
pub use members::{Member, Part};
pub use model::LoadedModel;
pub use records::{MAX_RECORDS, Presence, Receipt, TrainedVersion, erase, kept_at};
pub use state::{Described, Listed, MAX_BATCH, PARALLEL_FROM, Serving};
pub use supplied::Supplied;
