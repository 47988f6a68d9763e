//! What a running server knows: the version that it answers with, a few others that were asked for,
//! and the histories of a log in memory.
//!
//! Everything here is plain Rust that may be called from any thread. What waits for a disk says so;
//! the caller keeps it off the threads that hold connections. The scorer alone makes numbers.
//!
//! What is absent: a clock (the caller passes `now`), anything of gRPC, and the reading of logs.

mod aliases;
mod error;
mod holdings;
mod members;
mod model;
mod recent;
mod state;

pub use aliases::Pointed;
pub use error::ServingError;
pub use holdings::{Holdings, StoreHoldings};
pub use members::Member;
pub use model::LoadedModel;
pub use state::{Described, Listed, MAX_BATCH, PARALLEL_FROM, Serving};
