//! What is known at one cut-off, and what happened after it.

use super::purchases::outlooks;
use crate::domain::{AsOf, Day, EventKind, EventRules, History, Lifetime, Zone};
use crate::features::{Encoder, FeatureTable, Plan};
use crate::matrix::FeatureMatrix;
use crate::models::FitError;
use crate::models::blend::{Blend, Blended};
use crate::version::{ChurnIs, Eligibility, Outlook, PurchaseHead};
use ndarray::{Array2, Axis};
use rayon::prelude::*;
use std::borrow::Cow;

/// The customers that the heads would answer about at a cut-off: features and lifetimes from before
/// it, labels from the window after it. Row by row the same customer throughout.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The day at whose end it is.
    pub cutoff: Day,
    /// `(n_customers, n_features)` before transforms.
    pub raw: FeatureMatrix,
    pub lifetimes: Vec<Lifetime>,
    /// Days with a purchase within the window.
    pub purchases: Vec<u32>,
    /// Spend within the window, in major currency units.
    pub spend: Vec<f64>,
    /// Whether the customer churned within the window.
    pub churned: Vec<bool>,
}

/// Who looks, and how: what of a version a stage depends on.
#[derive(Debug, Clone, Copy)]
pub struct Lens<'a> {
    pub plan: &'a Plan,
    pub rules: &'a EventRules,
    pub eligibility: Eligibility,
    pub churn_is: ChurnIs,
    /// Every so many-th customer is looked at where there are more.
    pub at_most: usize,
}

impl Lens<'_> {
    /// The feature rows of the customers that the heads would answer about at `as_of`.
    pub fn eligible(&self, histories: &[History], as_of: AsOf) -> FeatureTable {
        let answered =
            |&row: &usize| self.eligibility.answers(self.churn_is, &histories[row], as_of);
        let mut rows: Vec<usize> = (0..histories.len()).into_par_iter().filter(answered).collect();
        let step = rows.len().div_ceil(self.at_most).max(1);
        if step > 1 {
            rows = rows.into_iter().step_by(step).collect();
        }
        self.plan.rows(histories, rows, as_of)
    }
}

impl Stage {
    /// Looks at all histories at `cutoff`, with labels from the time after it up to `until`.
    pub fn at(histories: &[History], lens: &Lens<'_>, cutoff: AsOf, until: AsOf) -> Stage {
        let outcome = |history: &History| match lens.churn_is {
            ChurnIs::Silence | ChurnIs::Inactivity(_) => {
                Some(has_churned(lens.churn_is, history, cutoff, until, &lens.rules.zone))
            }
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
        is_chosen: impl Fn(&History) -> bool + Sync,
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
        outcome: impl Fn(&History) -> Option<bool> + Sync,
    ) -> Stage {
        let FeatureTable { rows, matrix } = lens.eligible(histories, cutoff);
        let unit = lens.rules.currency.minor_per_major();
        let seen = |&row: &usize| {
            let history = &histories[row];
            let lifetime = lens.churn_is.lifetime(history, cutoff, lens.rules);
            let spend = window(history, cutoff, until).unwrap_or(0) as f64 / unit;
            Some((lifetime, outcome(history)?, purchase_days(history, cutoff, until), spend))
        };
        let all: Vec<Option<_>> = rows.par_iter().map(seen).collect();
        let kept: Vec<usize> = (0..rows.len()).filter(|&index| all[index].is_some()).collect();
        let (mut lifetimes, mut churned) = (Vec::new(), Vec::new());
        let (mut purchases, mut spend) = (Vec::new(), Vec::new());
        for (lifetime, outcome, bought, spent) in all.into_iter().flatten() {
            lifetimes.push(lifetime);
            churned.push(outcome);
            purchases.push(bought);
            spend.push(spent);
        }
        let raw = if kept.len() == rows.len() { matrix } else { matrix.select(&kept) };
        Stage { cutoff: cutoff.day, raw, lifetimes, purchases, spend, churned }
    }

    /// How many customers it holds.
    pub fn n_customers(&self) -> usize {
        self.lifetimes.len()
    }

    /// These of its customers.
    fn select(&self, rows: &[usize]) -> Stage {
        Stage {
            cutoff: self.cutoff,
            raw: self.raw.select(rows),
            lifetimes: picked(&self.lifetimes, rows),
            purchases: picked(&self.purchases, rows),
            spend: picked(&self.spend, rows),
            churned: picked(&self.churned, rows),
        }
    }
}

fn picked<T: Clone>(all: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().map(|&row| all[row].clone()).collect()
}

/// A model of purchases, where there is one, and the window that it is asked about.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub head: Option<&'a PurchaseHead>,
    pub window_days: u32,
}

/// A stage with its rows encoded.
pub struct Encoded<'a> {
    pub stage: Cow<'a, Stage>,
    /// `(n_customers, width)`.
    pub rows: Array2<f64>,
    /// What the model of purchases says of the window, `(n_customers,)`; absent without one.
    pub outlooks: Option<Vec<Outlook>>,
    /// What a blend that was fitted at the cut-off says of it, or why there is none.
    pub blended: Result<AllBlended, FitError>,
}

/// What a blend says of the customers of a stage, row by row.
pub struct AllBlended {
    pub answers: Vec<Blended>,
    /// Of spend, in major currency units.
    pub intervals: Vec<(f64, f64)>,
}

impl<'a> Encoded<'a> {
    /// Encodes the rows of a stage, and asks the model of purchases.
    pub fn new(stage: &'a Stage, encoder: &Encoder, ask: &Ask<'_>) -> Encoded<'a> {
        let outlooks = ask.head.map(|head| outlooks(head, stage, ask.window_days));
        Encoded {
            stage: Cow::Borrowed(stage),
            rows: encoder.encode_all(&stage.raw),
            outlooks,
            blended: Err(FitError::NoBlend),
        }
    }

    /// The same with what a blend says of the `days` after the cut-off.
    pub fn blended(self, blend: Result<&Blend, &FitError>, days: u32) -> Encoded<'a> {
        let all = |blend: &Blend| {
            let answer = |row: usize| {
                let encoded = self.rows.row(row).to_vec();
                let look = blend.look(&self.stage.lifetimes[row], &encoded, days);
                let answer = blend.answer(&look);
                (answer, blend.spend_interval(&answer))
            };
            let (answers, intervals) =
                (0..self.stage.n_customers()).into_par_iter().map(answer).unzip();
            AllBlended { answers, intervals }
        };
        Encoded { blended: blend.map(all).map_err(Clone::clone), ..self }
    }

    /// Only the customers whose lifetimes are kept.
    pub fn only(&self, is_kept: impl Fn(&Lifetime) -> bool) -> Encoded<'static> {
        let lifetimes = &self.stage.lifetimes;
        let rows: Vec<usize> =
            (0..lifetimes.len()).filter(|&row| is_kept(&lifetimes[row])).collect();
        let blended = self.blended.as_ref().map(|all| AllBlended {
            answers: picked(&all.answers, &rows),
            intervals: picked(&all.intervals, &rows),
        });
        Encoded {
            stage: Cow::Owned(self.stage.select(&rows)),
            rows: self.rows.select(Axis(0), &rows),
            outlooks: self.outlooks.as_ref().map(|all| picked(all, &rows)),
            blended: blended.map_err(Clone::clone),
        }
    }

    /// What the model of purchases says of one of its customers.
    pub fn outlook(&self, row: usize) -> Option<&Outlook> {
        self.outlooks.as_ref()?.get(row)
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
    pub fn new(
        [c1, c2, c3]: &'a [Stage; 3],
        encoder: &Encoder,
        ask: &Ask<'_>,
        blends: &[Result<Blend, FitError>; 2],
    ) -> Cuts<'a> {
        let encoded = |stage| Encoded::new(stage, encoder, ask);
        let [b2, b3] = blends.each_ref().map(Result::as_ref);
        let days = ask.window_days;
        Cuts {
            c1: encoded(c1),
            c2: encoded(c2).blended(b2, days),
            c3: encoded(c3).blended(b3, days),
        }
    }

    /// Only the customers whose lifetimes are kept.
    pub fn only(&self, is_kept: impl Fn(&Lifetime) -> bool) -> Cuts<'static> {
        Cuts { c1: self.c1.only(&is_kept), c2: self.c2.only(&is_kept), c3: self.c3.only(&is_kept) }
    }
}

/// A family's name, and its head `H` or why there is none.
pub type Rival<H> = (&'static str, Result<H, FitError>);

/// Days after `cutoff` up to `until` with a purchase. That of the cut-off is not among them, since
/// all of it is before.
pub(super) fn purchase_days(history: &History, cutoff: AsOf, until: AsOf) -> u32 {
    let seen = history.until(cutoff).len();
    let mut last = None;
    let mut n_days = 0;
    for event in &history.until(until)[seen..] {
        if event.kind == EventKind::Purchase && last != Some(event.day) {
            last = Some(event.day);
            n_days += 1;
        }
    }
    n_days
}

/// Whether a customer who is known at `cutoff` churned after it up to `until`, as far as events tell.
pub(super) fn has_churned(
    churn_is: ChurnIs,
    history: &History,
    cutoff: AsOf,
    until: AsOf,
    zone: &Zone,
) -> bool {
    match churn_is {
        ChurnIs::Inactivity(inactivity) => {
            inactivity.is_reached(history, cutoff, until, zone).unwrap_or(false)
        }
        ChurnIs::Silence | ChurnIs::Label => window(history, cutoff, until).is_none(),
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
