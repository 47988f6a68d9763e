//! The heads that speak of the time after an as-of, and how they reach from the window that their
//! labels covered to the horizon that was asked.

use super::ChurnIs;
use crate::domain::{Day, Draws, Lifetime};
use crate::features::Encoder;
use crate::matrix::quantile;
use crate::models::blend::{Blend, Look};
use crate::models::btyd::{
    CovariateEvidence, CovariateModel, Evidence, GammaGamma, Prospects, PurchaseModel, Purchases,
    Season,
};
use crate::models::churn::{ChurnModel, Platt};
use crate::models::value::{IntervalMap, ValueModel};
use crate::models::{Diagnostics, Fit};
use serde::{Deserialize, Serialize};

/// The value and churn heads, which share an encoder and a label window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// Fitted at the cut-off that the heads were last fitted at.
    pub encoder: Encoder,
    pub bridge: Bridge,
    /// What bridges, and what value and churn may be told by; absent where too little was bought.
    pub purchases: Option<PurchaseHead>,
    /// What value and churn are told by where their models say so.
    pub blend: Option<BlendHead>,
    pub value: ValueHead,
    pub churn: ChurnHead,
}

/// The window that the labels covered, and the horizon that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    pub window_days: u32,
    pub horizon_days: u32,
}

/// The model of purchases and drop-out, in days, and that of what a purchase day is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurchaseHead {
    /// Fitted at the version's as-of.
    pub model: PurchaseModel,
    pub evidence: Evidence,
    pub diagnostics: Diagnostics,
    /// Absent where none were asked for, and where they did not help at calibration.
    pub covariates: Option<CovariateHead>,
    /// Absent where amounts have no model with a finite mean; a customer's own mean stands in.
    pub spend: Option<GammaGamma>,
    /// Absent under a full year, and where it did not help at calibration.
    pub season: Option<Season>,
    pub replaced: Option<Replaced>,
}

/// The blend, fitted at the version's as-of for its horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlendHead {
    pub model: Blend,
    pub diagnostics: Diagnostics,
}

impl From<Fit<Blend>> for BlendHead {
    fn from(fit: Fit<Blend>) -> BlendHead {
        BlendHead { model: fit.model, diagnostics: fit.diagnostics }
    }
}

/// What customers' attributes do to their rate of purchases and their drop-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CovariateHead {
    /// One for each covariate of the model, in its order.
    pub columns: Vec<CovariateColumn>,
    pub model: CovariateModel,
    pub evidence: CovariateEvidence,
    pub diagnostics: Diagnostics,
}

/// A feature on the scale on which its effects are held back: of zeros and ones their own, of others
/// standard deviations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CovariateColumn {
    /// Its place in the spec.
    pub feature: usize,
    pub scale: f64,
    /// Of the customers who have it, in scale.
    pub mean: f64,
}

/// What is known of one customer at an as-of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Features before transforms, `(n_features,)`.
    pub raw: &'a [f64],
    /// Features as the forecast's encoder has them, `(width,)`.
    pub encoded: &'a [f64],
    pub lifetime: &'a Lifetime,
    pub as_of: Day,
}

/// What the model of purchases says of one customer and the days after the as-of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// P(the customer has not dropped out by the as-of).
    pub p_alive: f64,
    /// P(no purchase within the days).
    pub p_no_purchase: f64,
    /// Expected days with a purchase, at most as many as there are.
    pub expected_purchases: f64,
    /// Expected spend, in major currency units.
    pub expected_spend: f64,
}

/// What the heads say of one customer and the days after the as-of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// In major currency units.
    pub spend: f64,
    /// The interval around it.
    pub spend_low: f64,
    pub spend_high: f64,
    /// P(no purchase), P(the contract ends) or P(the inactivity is complete).
    pub churn: f64,
    /// By the blend where that tells value, else by the model of purchases; absent without either.
    pub outlook: Option<Outlook>,
    /// Of days with a purchase; absent unless the blend tells value.
    pub purchases_interval: Option<(f64, f64)>,
}

/// The value head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueHead {
    pub model: ValueModel,
    /// Corrects the total, learned at the calibration cut-off.
    pub scale: f64,
    pub interval: IntervalMap,
    /// Of the last fit; absent for a baseline that learns nothing.
    pub diagnostics: Option<Diagnostics>,
    pub replaced: Option<Replaced>,
}

/// The churn head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChurnHead {
    pub model: ChurnModel,
    pub calibration: Platt,
    /// Quantiles 0, 0.01 .. 1 of the training customers' probabilities at the version's as-of.
    pub percentiles: Vec<f64>,
    /// Of the last fit; absent for the base rate, which learns nothing.
    pub diagnostics: Option<Diagnostics>,
    pub replaced: Option<Replaced>,
}

/// A model that gave way to its baseline, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    pub family: String,
    pub by: String,
    pub reason: String,
}

impl Bridge {
    /// Whether the labels covered less than the horizon.
    pub fn bridged(&self) -> bool {
        self.window_days < self.horizon_days
    }

    /// `days` in windows.
    fn windows(&self, days: u32) -> f64 {
        f64::from(days) / f64::from(self.window_days)
    }
}

impl Forecast {
    /// What is expected of a customer within the `days` after the as-of.
    ///
    /// The heads speak of the window. Other days are reached as the model of purchases does: spend by
    /// the ratio of its expected purchases, and the probability of no purchase by that of its
    /// cumulated hazards. Without the model, and for contracts, hazards and rates are constant. Of
    /// inactivity no other days can be told: its probability is then not a number.
    pub fn within(&self, facts: &Facts<'_>, churn_is: ChurnIs, days: u32) -> Expected {
        self.seen(facts, self.look(facts, days).as_ref(), churn_is, days)
    }

    /// What the blend sees of a customer, where a head is told by it.
    pub fn look(&self, facts: &Facts<'_>, days: u32) -> Option<Look> {
        let by_blend =
            self.value.model == ValueModel::Blend || self.churn.model == ChurnModel::Blend;
        let blend = self.blend.as_ref().filter(|_| by_blend)?;
        Some(blend.model.look(facts.lifetime, facts.encoded, days))
    }

    /// As [`Forecast::within`], where the blend has looked already.
    pub fn seen(
        &self,
        facts: &Facts<'_>,
        look: Option<&Look>,
        churn_is: ChurnIs,
        days: u32,
    ) -> Expected {
        let by_blend =
            (self.value.model == ValueModel::Blend, self.churn.model == ChurnModel::Blend);
        let Some((blend, look)) = self.blend.as_ref().zip(look) else {
            return self.by_window(facts, churn_is, days);
        };
        // Inputs in units of the days make answers about other days than the horizon, though levels were
        // set for it.
        let answer = blend.model.answer(look);
        let (low, high) = blend.model.spend_interval(&answer);
        let outlook = Outlook {
            p_alive: answer.p_alive,
            p_no_purchase: answer.p_no_purchase,
            expected_purchases: answer.expected_purchases,
            expected_spend: answer.expected_spend,
        };
        let blended = Expected {
            spend: answer.expected_spend,
            spend_low: low,
            spend_high: high,
            churn: answer.p_no_purchase,
            outlook: Some(outlook),
            purchases_interval: Some(blend.model.purchases_interval(&answer)),
        };
        match by_blend {
            (true, true) => blended,
            (true, false) => {
                Expected { churn: self.by_window(facts, churn_is, days).churn, ..blended }
            }
            _ => Expected { churn: blended.churn, ..self.by_window(facts, churn_is, days) },
        }
    }

    /// The same by the heads that speak of the window.
    fn by_window(&self, facts: &Facts<'_>, churn_is: ChurnIs, days: u32) -> Expected {
        let Facts { raw, encoded, lifetime, as_of } = *facts;
        let outlook =
            |days| self.purchases.as_ref().map(|head| head.outlook(raw, lifetime, as_of, days));
        let window = outlook(self.bridge.window_days);
        let spend = self.value.within_window(encoded, lifetime, window.as_ref());
        let churn = self.churn.within_window(encoded, lifetime, window.as_ref());
        let (low, high) = self.value.interval.bounds(spend);
        let windows = self.bridge.windows(days);
        if days == self.bridge.window_days {
            let purchases_interval = None;
            return Expected {
                spend,
                spend_low: low,
                spend_high: high,
                churn,
                outlook: window,
                purchases_interval,
            };
        }
        let then = outlook(days);
        let (purchases, hazard) = match (&self.purchases, &window, &then) {
            (Some(head), Some(window), Some(then)) => {
                let worth = head.worth(as_of, days) / head.worth(as_of, self.bridge.window_days);
                (
                    between(then.expected_purchases / window.expected_purchases, worth),
                    between(hazard(then) / hazard(window), worth),
                )
            }
            _ => (windows, windows),
        };
        // Contracts know neither seasons nor purchases.
        let hazard = if churn_is.is_of_purchases() { hazard } else { windows };
        let churn =
            if churn_is.is_of_the_window_alone() { f64::NAN } else { libm::pow(churn, hazard) };
        Expected {
            spend: spend * purchases,
            spend_low: low * purchases,
            spend_high: high * purchases,
            churn,
            outlook: then,
            purchases_interval: None,
        }
    }
}

/// The cumulated hazard of a purchase.
fn hazard(outlook: &Outlook) -> f64 {
    // Without the sign of a zero, which a ratio would make its own.
    libm::log(outlook.p_no_purchase).abs()
}

/// A ratio, kept between 1 and that of the days' worth: drop-out makes purchases rarer, never more
/// frequent. So a regular buyer who has just bought is not given all that the model may promise for
/// later, of which the window showed nothing. What is undefined, as of a customer who is gone for
/// certain, is the ratio of the days' worth.
fn between(ratio: f64, worth: f64) -> f64 {
    if ratio.is_nan() { worth } else { ratio.clamp(worth.min(1.0), worth.max(1.0)) }
}

impl CovariateColumn {
    /// Learns the scale of a feature from its values, of which some may be undefined.
    pub fn of(feature: usize, values: impl Iterator<Item = f64>) -> CovariateColumn {
        let defined: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let n = defined.len().max(1) as f64;
        let mean = defined.iter().sum::<f64>() / n;
        let is_flag = defined.iter().all(|value| [0.0, 1.0].contains(value));
        let squares: f64 = defined.iter().map(|value| (value - mean) * (value - mean)).sum();
        let deviation = (squares / n).sqrt();
        // What rounding makes of a constant is no deviation.
        let is_constant = deviation <= 1e-9 * mean.abs();
        let scale = if is_flag || is_constant { 1.0 } else { deviation };
        CovariateColumn { feature, scale, mean: mean / scale }
    }

    /// The feature's value in scale; `None` where it is undefined.
    pub fn read(&self, raw: &[f64]) -> Option<f64> {
        raw.get(self.feature).map(|value| value / self.scale).filter(|value| value.is_finite())
    }
}

impl CovariateHead {
    /// The model of a customer with these raw features. What is undefined counts as the mean.
    fn model_of(&self, raw: &[f64]) -> PurchaseModel {
        let known = |column: &CovariateColumn| column.read(raw).unwrap_or(column.mean);
        self.model.model_for(&self.columns.iter().map(known).collect::<Vec<f64>>())
    }
}

impl PurchaseHead {
    /// What it is made of, in reports.
    pub fn family(&self) -> String {
        let replaced = self.replaced.as_ref();
        let name = replaced.map_or(self.model.family().name(), |replaced| &replaced.by);
        let covariates = if self.covariates.is_some() { ", with covariates" } else { "" };
        let seasons = if self.season.is_some() { ", with seasons" } else { "" };
        format!("{name}{covariates}{seasons}")
    }

    /// What the model says of the `days` after `as_of`, up to which this lifetime is, of a customer with
    /// these raw features `(n_features,)`.
    pub fn outlook(&self, raw: &[f64], lifetime: &Lifetime, as_of: Day, days: u32) -> Outlook {
        let (customer, model) = (self.lived(lifetime, as_of), self.model_of(raw));
        let Prospects { p_alive, p_no_purchase, expected_purchases } =
            model.prospects(&customer, self.worth(as_of, days));
        let expected_purchases = expected_purchases.min(f64::from(days));
        let expected = self
            .spend
            .and_then(|spend| spend.expected_spend(lifetime.frequency, lifetime.monetary_value));
        Outlook {
            p_alive,
            p_no_purchase,
            expected_purchases,
            expected_spend: expected_purchases * expected.unwrap_or(lifetime.mean_spend()),
        }
    }
}

impl PurchaseHead {
    /// What one customer spends in the `days` after `as_of`, drawn so many times: each time a rate, a
    /// drop-out and a worth of a purchase of their own, given the lifetime, and then what they do, in
    /// major currency units.
    pub fn draw_spends(
        &self,
        raw: &[f64],
        lifetime: &Lifetime,
        as_of: Day,
        days: u32,
        n_draws: usize,
        draws: &mut Draws,
    ) -> Vec<f64> {
        let (customer, model) = (self.lived(lifetime, as_of), self.model_of(raw));
        let mut counts = vec![0; n_draws];
        model.draw_all(&customer, self.worth(as_of, days), draws, &mut counts);
        let spend = |n: u32| match self.spend {
            None => f64::from(n) * lifetime.mean_spend(),
            Some(spend) => spend.draw_total(lifetime.frequency, lifetime.monetary_value, n, draws),
        };
        counts.into_iter().map(|n: u32| n.min(days)).map(spend).collect()
    }

    /// The customer's purchases in average days.
    fn lived(&self, lifetime: &Lifetime, as_of: Day) -> Purchases {
        let plain = || Purchases::from(lifetime);
        self.season.map_or_else(plain, |season| season.lived(lifetime, as_of))
    }

    /// The model of a customer with these raw features.
    fn model_of(&self, raw: &[f64]) -> PurchaseModel {
        self.covariates.as_ref().map_or(self.model, |covariates| covariates.model_of(raw))
    }

    /// `days` in average days, of which the model knows.
    fn worth(&self, as_of: Day, days: u32) -> f64 {
        self.season.map_or(f64::from(days), |season| season.worth(as_of, days))
    }
}

impl ValueHead {
    /// Expected spend within the window, in major currency units.
    pub fn within_window(
        &self,
        encoded: &[f64],
        lifetime: &Lifetime,
        outlook: Option<&Outlook>,
    ) -> f64 {
        self.scale * self.model.predict(encoded, lifetime, outlook.map(|o| o.expected_spend))
    }
}

impl ChurnHead {
    /// Calibrated P(churn within the window).
    pub fn within_window(
        &self,
        encoded: &[f64],
        lifetime: &Lifetime,
        outlook: Option<&Outlook>,
    ) -> f64 {
        let silent = outlook.map(|outlook| outlook.p_no_purchase);
        let raw = self.model.probability(encoded, lifetime, silent);
        if self.calibration == Platt::IDENTITY { raw } else { self.calibration.apply(raw) }
    }

    /// Freezes the percentiles of these horizon probabilities. What is not finite has no rank, and of
    /// none there are no percentiles: a version's file holds finite numbers alone.
    pub fn freeze_percentiles(&mut self, mut probabilities: Vec<f64>) {
        probabilities.retain(|probability| probability.is_finite());
        probabilities.sort_unstable_by(f64::total_cmp);
        self.percentiles.clear();
        if probabilities.is_empty() {
            return;
        }
        self.percentiles =
            (0..=100).map(|percent| quantile(&probabilities, f64::from(percent) / 100.0)).collect();
    }

    /// Share of the training customers with a lower probability, to a hundredth and in between by
    /// interpolation.
    pub fn percentile(&self, probability: f64) -> f64 {
        let grid = &self.percentiles;
        let above = grid.partition_point(|&quantile| quantile < probability);
        match (above.checked_sub(1), grid.get(above)) {
            (None, _) => 0.0,
            (_, None) => 1.0,
            (Some(below), Some(&upper)) => {
                let part = (probability - grid[below]) / (upper - grid[below]);
                (below as f64 + part) / (grid.len() - 1) as f64
            }
        }
    }
}
