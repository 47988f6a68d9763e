//! Where a log is cut: fit, calibrate, measure.

use crate::domain::{AsOf, Day};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A shorter log cannot hold three label windows of a week after a week of history.
pub const LEAST_SPAN_DAYS: i32 = 28;

/// The cut-offs of a training run. Each is the end of its day; labels cover the `window_days` after
/// it, so the window of one stage ends where the next stage begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// c1: the heads are first fitted here.
    pub fit: Day,
    /// c2: models are chosen and calibrated here.
    pub calibrate: Day,
    /// c3: measured once here; then the chosen models are fitted again here.
    pub measure: Day,
    /// End of the measuring window.
    pub as_of: Day,
    /// Length of each label window. Shorter than the horizon where the log is short.
    pub window_days: u32,
    pub horizon_days: u32,
}

/// Why no cut-offs could be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClockError {
    #[error(
        "the log spans {span_days} days up to the as-of; at least {LEAST_SPAN_DAYS} are needed to \
         fit, calibrate and measure"
    )]
    LogTooShort { span_days: i32 },
}

impl Clock {
    /// Whether the label windows are shorter than the horizon.
    pub fn bridged(&self) -> bool {
        self.window_days < self.horizon_days
    }

    /// Everything at one instant, for labels that have no dates.
    pub fn at_once(as_of: AsOf, horizon_days: u32) -> Clock {
        let day = as_of.day;
        let (fit, calibrate, measure) = (day, day, day);
        Clock { fit, calibrate, measure, as_of: day, window_days: horizon_days, horizon_days }
    }

    /// Cuts the days from the log's first to the as-of. The label window is the horizon, or a
    /// quarter of the log where three horizons and as much history do not fit.
    ///
    /// # Errors
    /// [`ClockError::LogTooShort`].
    pub fn plan(first: Day, as_of: AsOf, horizon_days: u32) -> Result<Clock, ClockError> {
        let span_days = as_of.day.since(first);
        if span_days < LEAST_SPAN_DAYS {
            return Err(ClockError::LogTooShort { span_days });
        }
        let window_days = horizon_days.min(span_days as u32 / 4);
        let back = |windows: i32| as_of.day.plus(-windows * window_days as i32);
        Ok(Clock {
            fit: back(3),
            calibrate: back(2),
            measure: back(1),
            as_of: as_of.day,
            window_days,
            horizon_days,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn as_of(day: i32) -> AsOf {
        AsOf { at: Timestamp(0), day: Day(day) }
    }

    #[test]
    fn windows_touch_and_never_overlap() {
        let clock = Clock::plan(Day(0), as_of(545), 90).unwrap();
        assert_eq!([clock.fit, clock.calibrate, clock.measure], [Day(275), Day(365), Day(455)]);
        assert_eq!(clock.window_days, 90);
    }

    #[test]
    fn a_short_log_gets_shorter_windows() {
        let clock = Clock::plan(Day(100), as_of(200), 90).unwrap();
        assert_eq!((clock.window_days, clock.horizon_days), (25, 90));
        assert_eq!(clock.fit, Day(125));
        assert_eq!(
            Clock::plan(Day(0), as_of(27), 90),
            Err(ClockError::LogTooShort { span_days: 27 })
        );
    }
}
