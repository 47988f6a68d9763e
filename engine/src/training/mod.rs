//! From histories to a model version and an honest evaluation of it.
//!
//! The order is: fit at c1, choose and calibrate at c2, measure once at c3, then fit again at c3
//! with the calibration kept, and segment everybody at the as-of. No label window reaches into the
//! next stage.

mod churn;
mod clock;
mod error;
mod evaluation;
mod metrics;
mod segment;
mod stage;
mod train;
mod value;

pub use clock::{Clock, ClockError, LEAST_SPAN_DAYS};
pub use error::TrainError;
pub use evaluation::{ChurnMetrics, Evaluation, SegmentMetrics, Trial, ValueMetrics};
pub use metrics::{auc, brier, ece, log_loss, mean_absolute_error, normalised_gini, total_ratio};
pub use train::{Trained, TrainingSettings, train};
