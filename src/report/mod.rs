//! Tables for people, and the same as JSON for programs.

mod diff;
mod lineage;
mod table;
mod version;

pub use diff::VersionDiff;
pub use lineage::{gate, lineage};
pub use table::{Table, money, number, percent};
pub use version::{noise, replacements, segment_table, training_report, trial_tables};
