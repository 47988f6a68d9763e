//! The only place that reads the clock.

use habitus_engine::domain::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "everything else is handed the time")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A point from which the length of a call is measured. No answer depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "durations are told to those who watch, to nobody else"
)]
pub fn tick() -> Instant {
    Instant::now()
}
