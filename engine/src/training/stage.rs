//! What is known at one cut-off, and what happened after it.

use crate::domain::{AsOf, Currency, EventKind, History, Lifetime};
use crate::features::{Encoder, FeatureTable, Plan, lifetime};
use crate::matrix::FeatureMatrix;
use crate::version::Eligibility;
use ndarray::Array2;

/// The customers that the heads would answer about at a cut-off: features and lifetimes from before
/// it, labels from the window after it. Row by row the same customer throughout.
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
        eligibility: Eligibility,
        cutoff: AsOf,
        until: AsOf,
    ) -> Stage {
        let FeatureTable { rows, matrix } = eligible(histories, plan, eligibility, cutoff);
        let mut stage = Stage {
            raw: matrix,
            lifetimes: Vec::with_capacity(rows.len()),
            spend: Vec::with_capacity(rows.len()),
            churned: Vec::with_capacity(rows.len()),
        };
        for row in rows {
            let Some(life) = lifetime(&histories[row], cutoff, currency) else { continue };
            let bought = window(&histories[row], cutoff, until);
            stage.lifetimes.push(life);
            stage.churned.push(bought.is_none());
            stage.spend.push(bought.unwrap_or(0) as f64 / currency.minor_per_major());
        }
        stage
    }

    /// How many customers it holds.
    pub fn n_customers(&self) -> usize {
        self.lifetimes.len()
    }

    /// Those of its customers that the churn head would answer about.
    pub fn not_lost(&self, eligibility: Eligibility) -> Stage {
        let kept: Vec<usize> = (0..self.n_customers())
            .filter(|&row| !eligibility.is_lost(&self.lifetimes[row]))
            .collect();
        Stage {
            raw: self.raw.select(&kept),
            lifetimes: kept.iter().map(|&row| self.lifetimes[row]).collect(),
            spend: kept.iter().map(|&row| self.spend[row]).collect(),
            churned: kept.iter().map(|&row| self.churned[row]).collect(),
        }
    }
}

/// The feature rows of the customers that the heads would answer about at `as_of`.
pub fn eligible(
    histories: &[History],
    plan: &Plan,
    eligibility: Eligibility,
    as_of: AsOf,
) -> FeatureTable {
    let answered = |history: &History| {
        let first = history.events().first().filter(|first| first.at <= as_of.at);
        first.is_some_and(|first| !eligibility.is_too_new(first.day, as_of.day))
            && !history.opted_out()
    };
    let rows = (0..histories.len()).filter(|&row| answered(&histories[row])).collect();
    plan.rows(histories, rows, as_of)
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

/// The three stages of an evaluation, encoded as at the first.
pub struct Cuts<'a> {
    pub c1: Encoded<'a>,
    pub c2: Encoded<'a>,
    pub c3: Encoded<'a>,
}

impl<'a> Cuts<'a> {
    /// Encodes the stages in their order.
    pub fn new([c1, c2, c3]: &'a [Stage; 3], encoder: &Encoder) -> Cuts<'a> {
        let encoded = |stage| Encoded::new(stage, encoder);
        Cuts { c1: encoded(c1), c2: encoded(c2), c3: encoded(c3) }
    }
}

/// Spend after `cutoff` up to `until` in minor units; `None` without a purchase.
pub(super) fn window(history: &History, cutoff: AsOf, until: AsOf) -> Option<i128> {
    let seen = history.until(cutoff).len();
    history.until(until)[seen..]
        .iter()
        .filter(|event| event.kind == EventKind::Purchase)
        .map(|event| i128::from(event.amount.map_or(0, |amount| amount.0)))
        .reduce(|sum, amount| sum + amount)
}
