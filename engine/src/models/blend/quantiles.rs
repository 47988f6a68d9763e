//! How outcomes lie around what is expected of customers who buy.

use crate::matrix::quantile;
use serde::{Deserialize, Serialize};

/// Quantiles 0, 0.01 .. 1 of ln(spend / expected spend) of those who bought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Residuals(Vec<f64>);

impl Residuals {
    /// Of the logarithms of ratios, in any order; those of nobody are 0.
    pub fn of(mut ln_ratios: Vec<f64>) -> Residuals {
        ln_ratios.sort_unstable_by(f64::total_cmp);
        let at = |percent: i32| match ln_ratios.is_empty() {
            true => 0.0,
            false => quantile(&ln_ratios, f64::from(percent) / 100.0),
        };
        Residuals((0..=100).map(at).collect())
    }

    /// The ratio of spend to what was expected that a share `u` of the buyers stays below.
    pub fn at(&self, u: f64) -> f64 {
        libm::exp(quantile(&self.0, u.clamp(0.0, 1.0)))
    }

    pub(super) fn check(&self) -> bool {
        self.0.len() == 101 && self.0.is_sorted() && self.0.iter().all(|value| value.is_finite())
    }
}

/// Purchases after the first, of those who buy: a negative binomial distribution around what is
/// expected, with one dispersion for all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts {
    /// r: the variance is m + m² / r.
    pub dispersion: f64,
}

impl Counts {
    /// By moments, of the further purchases of buyers and what was expected of them, which is first
    /// brought to the same total.
    pub fn of(pairs: &[(f64, f64)]) -> Counts {
        let (actual, expected) =
            pairs.iter().fold((0.0, 0.0), |(a, e), (actual, expected)| (a + actual, e + expected));
        let level = if expected > 0.0 { actual / expected } else { 1.0 };
        let (mut squares, mut excess) = (0.0, 0.0);
        for (actual, expected) in pairs {
            let mean = level * expected;
            squares += mean * mean;
            excess += (actual - mean) * (actual - mean) - mean;
        }
        let dispersion = if excess > 0.0 { squares / excess } else { f64::INFINITY };
        Counts { dispersion: dispersion.clamp(0.05, 1e4) }
    }

    /// The least number of further purchases that a share `u` of the buyers stays at or below, up to
    /// `most`.
    pub fn more_at(&self, u: f64, expected: f64, most: u32) -> f64 {
        let (r, mean) = (self.dispersion, expected.max(0.02));
        let failing = mean / (r + mean);
        let mut ln_p = r * libm::log(r / (r + mean));
        let mut below = libm::exp(ln_p);
        let mut n = 0;
        while below < u && n < most {
            // By logarithms: of many purchases the first probabilities are too small for a number.
            ln_p += libm::log((r + f64::from(n)) / f64::from(n + 1) * failing);
            n += 1;
            below += libm::exp(ln_p);
        }
        f64::from(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.stats.nbinom.ppf(u, r, r / (r + m)).
    #[test]
    fn counts_are_those_of_the_negative_binomial() {
        for (r, mean, u, n) in [
            (0.5, 2.0, 0.5, 1.0),
            (0.5, 2.0, 0.95, 8.0),
            (3.0, 10.0, 0.05, 2.0),
            (3.0, 10.0, 0.95, 23.0),
            (1e4, 4.0, 0.95, 8.0),
            (1e4, 1_000.0, 0.95, 1_055.0),
        ] {
            assert_eq!(Counts { dispersion: r }.more_at(u, mean, 5_000), n, "{r} {mean} {u}");
        }
        assert_eq!(Counts { dispersion: 0.5 }.more_at(0.95, 2.0, 6), 6.0);
    }

    #[test]
    fn the_dispersion_is_told_by_the_moments() {
        // Variance 6 around a mean of 2: 2 + 4 / r.
        let pairs: Vec<(f64, f64)> =
            [0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 8.0].map(|actual| (actual, 2.0)).to_vec();
        let counts = Counts::of(&pairs);
        assert!((counts.dispersion - 1.0).abs() < 1e-12, "{counts:?}");
        assert_eq!(Counts::of(&[(1.0, 1.0)]).dispersion, 1e4);
    }

    #[test]
    fn residuals_of_nobody_change_nothing() {
        assert_eq!(Residuals::of(Vec::new()).at(0.3), 1.0);
        let residuals = Residuals::of(vec![libm::log(2.0), 0.0, -libm::log(2.0)]);
        assert!((residuals.at(1.0) - 2.0).abs() < 1e-12 && residuals.at(0.5) == 1.0);
        assert!(residuals.check());
    }
}
