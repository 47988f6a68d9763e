//! Why a call failed.

use super::records::Refused;
use crate::serving::ServingError;
use crate::store::StoreError;
use std::sync::Arc;
use thiserror::Error;

/// A fault of a message, or of what the serving room made of it.
#[derive(Debug, Error)]
pub enum RpcError {
    #[error("`{field}` is no instant: {seconds} seconds and {nanos} nanoseconds")]
    BadTimestamp { field: &'static str, seconds: i64, nanos: i32 },
    #[error("the segment id is empty")]
    EmptySegmentId,
    #[error("the version is empty")]
    EmptyVersion,
    #[error("{got} records are too many for one request; at most {limit} are taken")]
    TooManyRecords { got: usize, limit: usize },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the store did not keep the records")]
    Store(#[source] Arc<StoreError>),
    #[error("this call needs a token: `authorization: Bearer TOKEN`")]
    TokenMissing,
    #[error("the token is not known here")]
    TokenUnknown,
    #[error("{most} calls are in flight already; try again a little later")]
    TooManyCalls { most: u64 },
    #[error(transparent)]
    Serving(#[from] ServingError),
    #[error("the work was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}
