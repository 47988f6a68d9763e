//! What customers will spend within a window: the hurdle model, the models of purchases, and the
//! baseline.

mod hurdle;
mod interval;
mod naive_rate;

pub use hurdle::{Hurdle, HurdleParams};
pub use interval::{IntervalBin, IntervalMap};
pub use naive_rate::NaiveRate;

use crate::domain::Lifetime;
use serde::{Deserialize, Serialize};

/// Any value model, as it is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum ValueModel {
    /// By the version's blend.
    Blend,
    Hurdle(Hurdle),
    /// Expected purchases times expected spend, by the version's model of purchases.
    Purchases,
    NaiveRate(NaiveRate),
}

impl ValueModel {
    /// The family's name in reports and versions.
    pub fn family(&self) -> &'static str {
        match self {
            ValueModel::Blend => "blend",
            ValueModel::Hurdle(_) => "hurdle",
            ValueModel::Purchases => "purchases",
            ValueModel::NaiveRate(_) => "naive_rate",
        }
    }

    /// Expected spend within the model's window, in major currency units, never negative. `expected`
    /// is what the blend or the model of purchases expects, where there is one.
    pub fn predict(&self, encoded: &[f64], lifetime: &Lifetime, expected: Option<f64>) -> f64 {
        match self {
            ValueModel::Hurdle(model) => model.predict(encoded),
            ValueModel::Blend | ValueModel::Purchases => expected.unwrap_or(0.0),
            ValueModel::NaiveRate(model) => model.predict(lifetime),
        }
    }
}
