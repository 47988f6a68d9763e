//! What customers will spend within a window: the hurdle model and its baseline.

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
    Hurdle(Hurdle),
    NaiveRate(NaiveRate),
}

impl ValueModel {
    /// The family's name in reports and versions.
    pub fn family(&self) -> &'static str {
        match self {
            ValueModel::Hurdle(_) => "hurdle",
            ValueModel::NaiveRate(_) => "naive_rate",
        }
    }

    /// Expected spend within the model's window, in major currency units, never negative.
    pub fn predict(&self, encoded: &[f64], lifetime: &Lifetime) -> f64 {
        match self {
            ValueModel::Hurdle(model) => model.predict(encoded),
            ValueModel::NaiveRate(model) => model.predict(lifetime),
        }
    }
}
