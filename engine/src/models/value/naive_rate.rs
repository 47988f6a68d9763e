//! The baseline that every value model has to beat: the past goes on.

use crate::domain::Lifetime;
use serde::{Deserialize, Serialize};

/// A customer's age counts as at least this much, or a second order on the next day would predict
/// one a day.
const LEAST_AGE_DAYS: u32 = 7;

/// Historical repeat rate x window x mean spend of a purchase day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NaiveRate {
    pub window_days: u32,
}

impl NaiveRate {
    /// Expected days with a purchase within the window.
    pub fn purchases(&self, lifetime: &Lifetime) -> f64 {
        let age = f64::from(lifetime.age_days.max(LEAST_AGE_DAYS));
        f64::from(lifetime.frequency) / age * f64::from(self.window_days)
    }

    /// Expected spend within the window, in major currency units.
    pub fn predict(&self, lifetime: &Lifetime) -> f64 {
        self.purchases(lifetime) * lifetime.mean_spend()
    }
}
