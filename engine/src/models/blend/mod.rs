//! The blend: regressions on what models of purchases say and on what is seen of a customer besides,
//! on a level that several experts agree on.
//!
//! Ranking customers is the regressions' part; they learn it from the windows after several earlier
//! cut-offs. How much is bought in all is what they are worst at, since windows differ, and so the
//! level is the mean of three experts who err in different directions: the model of customers who never
//! leave, corrected by how wrong it was at the cut-offs, a model with drop-out as it is, and the
//! regression. docs/models/blend.md tells what was tried.

mod experts;
mod inputs;
mod quantiles;

pub use experts::{Experts, Views};
pub use inputs::{N_INPUTS, NAMES, inputs, log_odds};
pub use quantiles::{Counts, Residuals};

use super::linear::{Linear, sigmoid};
use crate::domain::Lifetime;
use serde::{Deserialize, Serialize};

/// Outcomes drift between windows, which the spread of earlier ones does not show: the tails are asked
/// for so much further out.
const FURTHER_OUT: f64 = 0.8;

/// Deviations from the mean at which further inputs end.
const FURTHEST: f64 = 8.0;

/// Keeps a customer of whom nothing is expected from being a logarithm of 0.
const LEAST_PURCHASES: f64 = 1e-6;

/// A fitted blend, as it is saved: a few kilobytes, whatever the number of customers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    pub experts: Experts,
    /// What stands for smaller amounts, in major currency units.
    pub least_spend: f64,
    /// The places of further inputs in an encoded row.
    pub extras: Vec<usize>,
    /// Of each input, `(N_INPUTS + extras,)`.
    pub scales: Vec<Scale>,
    /// The mean of each scaled input over the customers at the as-of, which reasons are told beside.
    pub typical: Vec<f64>,
    /// Log-odds of no purchase, before the level.
    pub silence: Linear,
    /// What the level adds to the log-odds.
    pub silence_level: f64,
    /// Logarithm of the days with a purchase, and what their mean with the MBG/NBD's is multiplied by.
    pub purchases: Linear,
    pub purchases_level: f64,
    /// Logarithm of the spend.
    pub spend: Linear,
    /// Logarithm of the spend of those who buy, up to the largest seen.
    pub basket: Linear,
    pub largest_basket: f64,
    /// What the mean of the three views of spend is multiplied by.
    pub spend_level: f64,
    /// How spends lie around what is expected of those who buy.
    pub residuals: Residuals,
    /// How counts do.
    pub counts: Counts,
    /// The share of customers that the intervals are meant to hold.
    pub interval_level: f64,
}

/// How an input is brought to a common scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    pub mean: f64,
    pub deviation: f64,
}

/// What the blend says of one customer and the days ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blended {
    /// P(has not dropped out), the MBG/NBD's.
    pub p_alive: f64,
    pub p_no_purchase: f64,
    /// Days with a purchase, of as many as there are.
    pub expected_purchases: f64,
    pub days: u32,
    /// In major currency units.
    pub expected_spend: f64,
}

/// What is seen of one customer, before anything is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    days: u32,
    views: Views,
    /// In units that people know.
    plain: [f64; N_INPUTS],
    /// The scaled inputs, `(N_INPUTS + extras,)`.
    row: Vec<f64>,
    /// Mean spend of a purchase day, in major currency units.
    mean_spend: f64,
}

/// The parts of an answer before the level is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    pub views: Views,
    /// Of no purchase, before the level.
    pub log_odds: f64,
    /// Before the level.
    pub purchases: f64,
    /// What the regression alone says.
    pub regressed_purchases: f64,
    /// Spend by the regression of spend, and by the hurdle, in major currency units.
    pub spend: f64,
    pub hurdle: f64,
    /// Expected spend of a purchase day.
    pub basket: f64,
}

impl Parts {
    /// The mean of the views of spend, given the expected purchases.
    pub fn mean_spend(&self, purchases: f64) -> f64 {
        let product = (purchases * self.basket).max(f64::MIN_POSITIVE)
            * self.spend.max(f64::MIN_POSITIVE)
            * self.hurdle.max(f64::MIN_POSITIVE);
        libm::cbrt(product)
    }
}

impl Blend {
    /// Looks at a customer, to say something of the `days` after the instant up to which this lifetime
    /// is. `encoded` is the customer's row of features, from which the further inputs are taken.
    pub fn look(&self, lifetime: &Lifetime, encoded: &[f64], days: u32) -> Look {
        let views = self.experts.views(lifetime, days);
        let plain = inputs::plain(lifetime, &views);
        let own = inputs::straight(plain, days, self.least_spend);
        let own = own.iter().zip(&self.scales).map(|(value, scale)| scale.apply(*value));
        // What is further out than all that was learned from says no more.
        let extras = self.extras.iter().zip(&self.scales[N_INPUTS..]);
        let extras =
            extras.map(|(&place, scale)| scale.apply(encoded[place]).clamp(-FURTHEST, FURTHEST));
        let row = own.chain(extras).collect();
        Look { days, views, plain, row, mean_spend: lifetime.mean_spend() }
    }

    /// What is said of a customer.
    pub fn answer(&self, look: &Look) -> Blended {
        let parts = self.parts(look);
        let days = f64::from(look.days);
        let purchases = (self.purchases_level * parts.purchases).min(days);
        let p_no_purchase = sigmoid(parts.log_odds + self.silence_level);
        // Each part has a level of its own. What cannot be together is brought together: whoever buys
        // lives, and buys on a day at least.
        let buys = 1.0 - p_no_purchase;
        Blended {
            p_alive: parts.views.mbg_nbd.p_alive.max(buys),
            p_no_purchase,
            expected_purchases: purchases.max(buys),
            days: look.days,
            expected_spend: self.spend_level * parts.mean_spend(purchases),
        }
    }

    /// The interval of spend around an answer, in major currency units.
    pub fn spend_interval(&self, answer: &Blended) -> (f64, f64) {
        let buys = (1.0 - answer.p_no_purchase).max(1e-9);
        let (low, high) = self.tails(answer);
        let at = |u: Option<f64>| {
            let spend = u.map_or(0.0, |u| self.residuals.at(u) * answer.expected_spend / buys);
            if spend.is_finite() { spend } else { 0.0 }
        };
        // What is expected lies within: it is a mean, and a mean may lie beyond most of what is seen.
        (at(low).min(answer.expected_spend), at(high).max(answer.expected_spend))
    }

    /// The interval of days with a purchase.
    pub fn purchases_interval(&self, answer: &Blended) -> (f64, f64) {
        let (low, high) = self.tails(answer);
        let buys = (1.0 - answer.p_no_purchase).max(1e-9);
        let more = answer.expected_purchases / buys - 1.0;
        // The first of the days is bought on for sure by those who buy.
        let most = answer.days.saturating_sub(1);
        let at = |u: Option<f64>| u.map_or(0.0, |u| 1.0 + self.counts.more_at(u, more, most));
        (at(low).min(answer.expected_purchases), at(high).max(answer.expected_purchases))
    }

    /// Where the ends of an interval lie among those who buy; `None` where they lie among those who do
    /// not.
    fn tails(&self, answer: &Blended) -> (Option<f64>, Option<f64>) {
        let silent = answer.p_no_purchase;
        let of_buyers = |u: f64| (u > silent).then(|| (u - silent) / (1.0 - silent));
        let tail = 0.5 * (1.0 - self.interval_level) * FURTHER_OUT;
        (of_buyers(tail), of_buyers(1.0 - tail))
    }

    /// What each input adds to the log-odds of no purchase over what that of a typical customer at the
    /// as-of adds, from the largest on: its place, its value in
    /// units that people know, and the addition. A further input has no such value here.
    pub fn contributions(&self, look: &Look) -> Vec<(usize, Option<f64>, f64)> {
        let apart = look.row.iter().zip(&self.typical).map(|(value, typical)| value - typical);
        let weighted = apart.zip(&self.silence.coefficients).enumerate();
        let plain = |place: usize| look.plain.get(place).copied();
        let mut all: Vec<_> = weighted
            .map(|(place, (value, weight))| (place, plain(place), weight * value))
            .collect();
        all.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        all
    }

    /// Notes what a typical customer looks like.
    pub fn see_typical(&mut self, looks: &[Look]) {
        let n = looks.len().max(1) as f64;
        let mean = |place: usize| looks.iter().map(|look| look.row[place]).sum::<f64>() / n;
        self.typical = (0..self.scales.len()).map(mean).collect();
    }

    /// The parts of an answer.
    pub fn parts(&self, look: &Look) -> Parts {
        let Look { views, row, mean_spend, .. } = look;
        let log_odds = self.silence.predict(row);
        let regressed = exp(self.purchases.predict(row));
        let mean = (regressed * (views.mbg_nbd.expected_purchases + LEAST_PURCHASES)).sqrt();
        let largest = |ln_spend: f64| exp(ln_spend.min(self.largest_basket));
        let basket = views.spend.max(self.least_spend) * mean_spend.max(self.least_spend);
        Parts {
            views: *views,
            log_odds,
            purchases: mean,
            regressed_purchases: regressed,
            spend: largest(self.spend.predict(row)),
            hurdle: sigmoid(-log_odds) * largest(self.basket.predict(row)),
            basket: basket.sqrt(),
        }
    }

    /// True for parts that fit each other and encoded rows of this width, and numbers by which every
    /// answer is defined.
    pub fn check(&self, width: usize) -> bool {
        let n_inputs = N_INPUTS + self.extras.len();
        let lines = [&self.silence, &self.purchases, &self.spend, &self.basket];
        let is_finite = |line: &&Linear| {
            line.intercept.is_finite() && line.coefficients.iter().all(|value| value.is_finite())
        };
        let levels = [
            self.least_spend,
            self.purchases_level,
            self.spend_level,
            self.counts.dispersion,
            self.interval_level,
        ];
        self.experts.check()
            && self.scales.len() == n_inputs
            && self.scales.iter().all(Scale::check)
            && self.typical.len() == n_inputs
            && self.typical.iter().all(|value| value.is_finite())
            && self.extras.iter().all(|&place| place < width)
            && lines.iter().all(|line| line.coefficients.len() == n_inputs && is_finite(line))
            && levels.iter().all(|level| level.is_finite() && *level > 0.0)
            && self.interval_level < 1.0
            && self.silence_level.is_finite()
            && self.largest_basket.is_finite()
            && self.residuals.check()
    }
}

impl Scale {
    /// Of values, of which some may be equal.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Scale {
        let n = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / n;
        let squares: f64 = values.map(|value| (value - mean) * (value - mean)).sum();
        let deviation = (squares / n).sqrt();
        // What rounding makes of a constant is no deviation.
        let is_constant = deviation <= 1e-9 * mean.abs().max(1.0);
        Scale { mean, deviation: if is_constant { 1.0 } else { deviation } }
    }

    /// The value in deviations from the mean.
    pub fn apply(&self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }

    fn check(&self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && self.deviation > 0.0
    }
}

/// No customer is worth e^30.
fn exp(value: f64) -> f64 {
    libm::exp(value.min(30.0))
}
