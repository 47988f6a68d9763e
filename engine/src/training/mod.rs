//! From histories to a model version and an honest evaluation of it.
//!
//! The order is: fit at c1, choose and calibrate at c2, measure once at c3, then fit again at c3
//! with the calibration kept, and segment everybody at the as-of. No label window reaches into the
//! next stage.

mod backtest;
mod blend;
mod bootstrap;
mod churn;
mod clock;
mod coverage;
mod error;
mod evaluation;
mod forecast;
mod gate;
mod identity;
mod judge;
mod metrics;
mod population;
mod purchases;
mod roll;
mod segment;
mod settings;
mod stage;
mod tracking;
mod train;
mod value;

pub use backtest::{
    Answers, Backtest, Bounds, CHURN_BASELINE, Curves, Decile, INTERVAL_BASELINE, Metric,
    ModelScores, SERVED, Scorecard, Section, VALUE_BASELINE, Who, backtest,
};
pub use bootstrap::{Estimate, Interval, Resampled};
pub use clock::{Clock, ClockError, LEAST_SPAN_DAYS};
pub use coverage::{Held, IntervalCoverage, SegmentCoverage};
pub use error::TrainError;
pub use evaluation::{
    ChurnMetrics, Evaluation, FeatureSummary, PurchaseMetrics, SegmentMetrics, Trial, ValueMetrics,
};
pub use gate::{Comparison, GateParams, Outcome, Outcomes, Rival, Verdict, compare};
pub use identity::check as check_comparable;
pub use judge::{judge, judge_fitted_on};
pub use metrics::{
    Bin, N_BINS, Ranking, auc, brier, decile_mape, ece, interval_score, log_loss,
    mean_absolute_error, normalised_gini, root_mean_squared_error, spearman, top_decile_capture,
    total_ratio,
};
pub use population::{Population, Sampler};
pub use roll::Customers;
pub use settings::{ChurnBy, HeadSettings, TrainingSettings, ValueBy};
pub use tracking::{AliveGrid, PurchaseTracking, TrackedCount, TrackedMean, TrackedWeek};
pub use train::{Input, Predecessor, Trained, train};
