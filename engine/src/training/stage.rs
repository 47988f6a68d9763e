//! What is known at one cut-off, and what happened after it.

use crate::domain::{AsOf, Currency, EventKind, History, Lifetime};
use crate::features::{Encoder, Plan, lifetime};
use crate::matrix::FeatureMatrix;
use ndarray::Array2;

/// The customers with an event by a cut-off: features and lifetimes from before it, labels from the
/// window after it. Row by row the same customer throughout.
#[derive(Debug, Clone)]
pub struct Stage {
    /// `(n_customers, n_features)` before transforms.
    pub raw: FeatureMatrix,
    pub lifetimes: Vec<Lifetime>,
    /// Spend within the window, in major currency units.
    pub spend: Vec<f64>,
    /// Whether nothing was bought within the window.
    pub churned: Vec<bool>,
}

impl Stage {
    /// Looks at all histories at `cutoff`, with labels from the days after it up to `until`.
    pub fn at(
        histories: &[History],
        plan: &Plan,
        currency: &Currency,
        cutoff: AsOf,
        until: AsOf,
    ) -> Stage {
        let table = plan.table(histories, cutoff);
        let mut stage = Stage {
            raw: table.matrix,
            lifetimes: Vec::with_capacity(table.rows.len()),
            spend: Vec::with_capacity(table.rows.len()),
            churned: Vec::with_capacity(table.rows.len()),
        };
        for &row in &table.rows {
            let history = &histories[row];
            let Some(life) = lifetime(history, cutoff, currency) else { continue };
            let bought = window(history, cutoff, until);
            stage.lifetimes.push(life);
            stage.churned.push(bought.is_none());
            stage.spend.push(bought.unwrap_or(0) as f64 / currency.minor_per_major());
        }
        stage
    }

    pub fn n_customers(&self) -> usize {
        self.lifetimes.len()
    }
}

/// A stage with its rows encoded.
pub struct Encoded<'a> {
    pub stage: &'a Stage,
    /// `(n_customers, width)`.
    pub rows: Array2<f64>,
}

impl<'a> Encoded<'a> {
    /// Encodes the rows of a stage.
    pub fn new(stage: &'a Stage, encoder: &Encoder) -> Encoded<'a> {
        Encoded { stage, rows: encoder.encode_all(&stage.raw) }
    }
}

/// Spend after `cutoff` up to `until` in minor units; `None` without a purchase.
fn window(history: &History, cutoff: AsOf, until: AsOf) -> Option<i128> {
    let seen = history.until(cutoff).len();
    history.until(until)[seen..]
        .iter()
        .filter(|event| event.kind == EventKind::Purchase)
        .map(|event| i128::from(event.amount.map_or(0, |amount| amount.0)))
        .reduce(|sum, amount| sum + amount)
}
