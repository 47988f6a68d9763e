//! Tables for people, and the same as JSON for programs.

mod table;
mod version;

pub use table::{Table, money, number, percent};
pub use version::{replacements, segment_table, training_report, trial_tables};
