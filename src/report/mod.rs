//! Tables for people, and the same as JSON for programs.

mod curves;
mod diff;
mod evaluation;
mod heads;
mod lineage;
mod plots;
mod sheet;
mod table;
mod version;

pub use curves::backtest_plots;
pub use diff::VersionDiff;
pub use evaluation::{Evaluated, evaluation_report};
pub use heads::{purchases, replacements, trial_tables};
pub use lineage::{gate, lineage};
pub use plots::plots;
pub use sheet::PlotError;
pub use table::{Table, money, number, percent};
pub use version::{churn_meaning, noise, segment_table, training_report};
