//! What is known at one cut-off, and what happened after it.

use crate::domain::{AsOf, Currency, EventKind, History, Lifetime};
use crate::features::{Encoder, FeatureTable, Plan, lifetime_or_none};
use crate::matrix::FeatureMatrix;
use crate::version::{ChurnIs, Eligibility};
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
    /// Whether the customer churned within the window.
    pub churned: Vec<bool>,
}

/// Who looks, and how: what of a version a stage depends on.
#[derive(Debug, Clone, Copy)]
pub struct Lens<'a> {
    pub plan: &'a Plan,
    pub currency: &'a Currency,
    pub eligibility: Eligibility,
    pub churn_is: ChurnIs,
}

impl Lens<'_> {
    /// The feature rows of the customers that the heads would answer about at `as_of`.
    pub fn eligible(&self, histories: &[History], as_of: AsOf) -> FeatureTable {
        let answered =
            |&row: &usize| self.eligibility.answers(self.churn_is, &histories[row], as_of);
        let rows = (0..histories.len()).filter(answered).collect();
        self.plan.rows(histories, rows, as_of)
    }
}

impl Stage {
    /// Looks at all histories at `cutoff`, with labels from the time after it up to `until`.
    pub fn at(histories: &[History], lens: &Lens<'_>, cutoff: AsOf, until: AsOf) -> Stage {
        let outcome = |history: &History| match lens.churn_is {
            ChurnIs::Silence => Some(window(history, cutoff, until).is_none()),
            ChurnIs::Label => {
                let label = history.attributes()?.label?;
                match label.at {
                    // Who left before is not asked about; who left at no known time tells nothing.
                    Some(at) if label.churned => (at > cutoff.at).then_some(at <= until.at),
                    None if label.churned => None,
                    _ => Some(false),
                }
            }
        };
        Stage::of(histories, lens, cutoff, until, outcome)
    }

    /// Looks at chosen customers at one instant, whose labels have no dates.
    pub fn undated(
        histories: &[History],
        lens: &Lens<'_>,
        as_of: AsOf,
        is_chosen: impl Fn(&History) -> bool,
    ) -> Stage {
        let outcome = |history: &History| {
            let label = history.attributes()?.label?;
            is_chosen(history).then_some(label.churned)
        };
        Stage::of(histories, lens, as_of, as_of, outcome)
    }

    /// The customers whose outcome is known.
    fn of(
        histories: &[History],
        lens: &Lens<'_>,
        cutoff: AsOf,
        until: AsOf,
        outcome: impl Fn(&History) -> Option<bool>,
    ) -> Stage {
        let FeatureTable { rows, matrix } = lens.eligible(histories, cutoff);
        let unit = lens.currency.minor_per_major();
        let mut kept = Vec::with_capacity(rows.len());
        let (mut lifetimes, mut spend, mut churned) = (Vec::new(), Vec::new(), Vec::new());
        for (index, &row) in rows.iter().enumerate() {
            let history = &histories[row];
            let Some(outcome) = outcome(history) else { continue };
            kept.push(index);
            lifetimes.push(lifetime_or_none(history, cutoff, lens.currency));
            churned.push(outcome);
            spend.push(window(history, cutoff, until).unwrap_or(0) as f64 / unit);
        }
        let raw = if kept.len() == rows.len() { matrix } else { matrix.select(&kept) };
        Stage { raw, lifetimes, spend, churned }
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
