//! Money as an integer count of minor units of one currency.

use super::decimal::{self, DecimalError};
use serde::{Deserialize, Serialize};

/// An amount in minor units (cents for `digits = 2`). Sums do not depend on their order.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(pub i64);

/// The one currency of a model: its ISO 4217 code and how many decimal digits its minor unit has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Currency {
    pub code: String,
    pub digits: u8,
}

impl Currency {
    /// Reads decimal text; the flag says whether digits finer than the minor unit were rounded.
    ///
    /// # Errors
    /// [`DecimalError`] where the text is no finite number or too large.
    pub fn parse(&self, text: &str) -> Result<(Money, bool), DecimalError> {
        decimal::parse(text, self.digits).map(|(units, rounded)| (Money(units), rounded))
    }

    /// The amount that a float names without being rounded; `None` of any other float, which has to
    /// be looked at.
    #[inline]
    pub fn exact(&self, number: f64) -> Option<Money> {
        decimal::exact(number, self.digits).map(Money)
    }

    /// How many minor units one major unit has.
    pub fn minor_per_major(&self) -> f64 {
        10f64.powi(i32::from(self.digits))
    }
}
