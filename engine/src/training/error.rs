//! What can keep training from giving a version.

use super::ClockError;
use crate::domain::Day;
use crate::features::{EncoderError, SpecError};
use crate::models::FitError;
use thiserror::Error;

/// Why training gave no version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrainError {
    #[error("no usable event lies at or before the as-of {as_of}")]
    NoEvents { as_of: Day },
    #[error(
        "nobody can be scored at the end of {day}; `model.min_age_days` may be too large, or \
         `model.lost_after_days` or `model.inactive_days` too small"
    )]
    NobodyAt { day: Day },
    #[error(
        "labels without dates cannot be learned beside events, because nobody knows which events \
         came before; give their dates (customers.label_date), or leave the log out"
    )]
    UndatedBesideEvents,
    #[error("too few customers have a label to fit, calibrate and measure")]
    TooFewLabels,
    #[error("the horizon of the cut-off {cutoff} ends at {until}, and so has no day")]
    NoHorizon { cutoff: Day, until: Day },
    #[error(
        "`model.churn` is \"label\": what is evaluated at a cut-off is silence, and the ends of contracts \
         are not"
    )]
    LabelsNotEvaluated,
    #[error(
        "`model.churn` is \"inactivity\", which shorter windows tell nothing of: {horizon_days} days of \
         horizon need a log of four times as many, and this one spans {span_days}; {}",
        room(*.window_days, *.inactive_days)
    )]
    InactivityNotBridged { span_days: i32, window_days: u32, horizon_days: u32, inactive_days: u32 },
    #[error(transparent)]
    Clock(#[from] ClockError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(
        "segments.k: {k} clusters were asked for, but there are only {customers} different customers"
    )]
    TooManyClusters { k: usize, customers: usize },
    #[error("histories cannot be read: {0}")]
    Unreadable(String),
    #[error("the segments could not be fitted")]
    Fit(#[source] FitError),
}

/// What a log has room for. A horizon below `inactive_days` is no way out, since that is refused too.
fn room(window_days: u32, inactive_days: u32) -> String {
    if window_days >= inactive_days {
        return format!("`model.horizon_days` can be {window_days} at most");
    }
    format!(
        "it has room for a horizon of {window_days} days at most, and so is too short for \
         `model.inactive_days` = {inactive_days} as well, which no horizon may fall below"
    )
}
