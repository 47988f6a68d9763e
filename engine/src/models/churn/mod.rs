//! How likely a customer is to churn within a window, as by buying nothing: logistic regression on the features, the
//! models of purchases, recency alone (the baseline), or the base rate where there is nothing to learn
//! from.

mod platt;
mod recency;

pub use platt::Platt;
pub use recency::{Recency, RecencyParams};

use super::linear::Logistic;
use crate::domain::Lifetime;
use serde::{Deserialize, Serialize};

/// Any churn model, as it is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum ChurnModel {
    /// By the version's blend.
    Blend,
    Logistic(Logistic),
    /// By the version's model of purchases.
    Purchases,
    Recency(Recency),
    /// Everybody's probability, where every customer had the same outcome.
    BaseRate(BaseRate),
}

/// One probability for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRate {
    pub probability: f64,
}

impl BaseRate {
    /// (churned + 1) / (n + 2): Laplace's rule, never exactly 0 or 1.
    pub fn of(outcomes: impl IntoIterator<Item = bool>) -> BaseRate {
        let (mut churned, mut n) = (0.0, 0.0);
        for outcome in outcomes {
            churned += f64::from(u8::from(outcome));
            n += 1.0;
        }
        BaseRate { probability: (churned + 1.0) / (n + 2.0) }
    }
}

impl ChurnModel {
    /// The family's name in reports and versions.
    pub fn family(&self) -> &'static str {
        match self {
            ChurnModel::Blend => "blend",
            ChurnModel::Logistic(_) => "logistic",
            ChurnModel::Purchases => "purchases",
            ChurnModel::Recency(_) => "recency",
            ChurnModel::BaseRate(_) => "base_rate",
        }
    }

    /// P(churn within the model's window) before calibration. `silent` is what the
    /// blend or the model of purchases says of it, where there is one.
    pub fn probability(&self, encoded: &[f64], lifetime: &Lifetime, silent: Option<f64>) -> f64 {
        match self {
            ChurnModel::Logistic(model) => model.probability(encoded),
            // Without the model nobody is known to buy again.
            ChurnModel::Blend | ChurnModel::Purchases => silent.unwrap_or(1.0),
            ChurnModel::Recency(model) => model.probability(lifetime),
            ChurnModel::BaseRate(model) => model.probability,
        }
    }
}
