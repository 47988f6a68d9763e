//! Gamma-Gamma: what customers spend per purchase (Fader & Hardie 2013, "The Gamma-Gamma Model of
//! Monetary Value").
//!
//! A purchase costs Gamma(p, ν), a customer's rate ν is Gamma(q, v) among customers; so a customer's
//! mean spend p / ν is known the better, the more purchases there are. How much one spends is taken
//! to have nothing to do with how often.

use super::jet::Jet;
use super::optimum::{Optimum, maximise};
use super::special::{digamma, trigamma};
use crate::domain::Draws;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Rows whose sums are formed at once, whatever the number of threads.
const CHUNK: usize = 4096;

/// p, q and p v / q (in units of the geometric mean) are not fitted outside exp(±BOUND).
const BOUND: f64 = 14.0;

/// The largest p and q that a fit starts from: a gamma's spread is then 1% of its mean.
const STEADY: f64 = 1e4;

/// An infinite p or q is not ruled out where it costs less log-likelihood than this: 5% on one side of
/// a bound (Self & Liang 1987, *JASA* 82).
const NOT_RULED_OUT: f64 = 1.353;

/// Means closer together than this share of themselves are one amount, up to rounding.
const SAME: f64 = 1e-9;

/// The amounts that are taken; squares of their ratios are far from overflowing.
const AMOUNTS: std::ops::RangeInclusive<f64> = 1e-60..=1e60;

/// ln(2π) / 2.
const LN_ROOT_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// One customer's spend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    /// x, purchases that the mean is of; above 0.
    pub frequency: u32,
    /// m, mean amount of a purchase, in any currency; above 0.
    pub mean: f64,
}

impl Spend {
    /// Whether a fit can use it: at least one purchase, and a mean of 1e-60 to 1e60.
    pub fn check(&self) -> bool {
        self.frequency > 0 && AMOUNTS.contains(&self.mean)
    }
}

/// Why nothing was fitted.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum SpendError {
    #[error("{got} customers with a purchase are too few; 2 are needed")]
    TooFewCustomers { got: usize },
    #[error("row {row} has no purchase, an amount that is not within 1e-60 to 1e60, or no weight")]
    Row { row: usize },
    /// The likelihood grows without end towards everybody paying this.
    #[error("all customers spend {mean} per purchase, so there is nothing to estimate")]
    OneAmount { mean: f64 },
}

/// What a reader of a fit should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpendFinding {
    #[error("the fit of spend did not converge")]
    NotConverged,
    /// p may be infinite: a customer's mean spend is then what it was so far.
    #[error("the data do not rule out that each customer always spends the same")]
    SteadyCustomers,
    /// q may be infinite: everybody's mean spend is then that of the population.
    #[error("the data do not rule out that customers have the same mean spend")]
    AlikeCustomers,
    /// q <= 1 is not ruled out: a few spend so much that new customers have no expected spend.
    #[error("spend is so unequal that its mean over the population may be infinite")]
    InfiniteMean,
}

/// Unique rows of (x, m), sorted, with weights (numbers of customers).
#[derive(Debug, Clone, PartialEq)]
pub struct SpendCohort {
    /// What amounts are divided by, so that a fit does not depend on the currency: their geometric
    /// mean, on which a single huge amount has little hold.
    unit: f64,
    /// `(n_rows,)`: unit / m, and the weight.
    rows: Vec<(f64, f64)>,
    /// Parts of the rows, each of one x.
    pieces: Vec<Piece>,
    n_customers: f64,
    /// Variance of ln m.
    ln_variance: f64,
}

/// Adjacent rows of one x.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    frequency: f64,
    rows: std::ops::Range<usize>,
    weight: f64,
    /// Σ weight · ln(m / unit).
    ln_means: f64,
}

impl SpendCohort {
    /// Customers' spend, each with a weight (number of such customers), in any order.
    ///
    /// # Errors
    /// [`SpendError`] where a row is unusable or no fit can be.
    pub fn new(customers: &[(Spend, f64)]) -> Result<SpendCohort, SpendError> {
        let bad = |(spend, weight): &(Spend, f64)| {
            !spend.check() || !weight.is_finite() || *weight <= 0.0
        };
        if let Some(row) = customers.iter().position(bad) {
            return Err(SpendError::Row { row });
        }
        let mut sorted: Vec<(Spend, f64)> = customers.to_vec();
        // Weights are ordered too: their sums must not depend on the order of the input.
        sorted.par_sort_unstable_by(|(a, a_weight), (b, b_weight)| {
            let by_spend = a.frequency.cmp(&b.frequency).then(a.mean.total_cmp(&b.mean));
            by_spend.then(a_weight.total_cmp(b_weight))
        });
        sorted.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        let n_customers: f64 = sorted.iter().map(|(_, weight)| weight).sum();
        if n_customers < 2.0 {
            return Err(SpendError::TooFewCustomers { got: n_customers as usize });
        }
        let means = || sorted.iter().map(|(spend, _)| spend.mean);
        let (least, most) = (means().fold(f64::MAX, f64::min), means().fold(0.0, f64::max));
        if most <= least * (1.0 + SAME) {
            return Err(SpendError::OneAmount { mean: 0.5 * (least + most) });
        }
        let logs: Vec<f64> = sorted.par_iter().map(|(spend, _)| libm::log(spend.mean)).collect();
        let total: f64 = sorted.iter().zip(&logs).map(|((_, weight), log)| weight * log).sum();
        let unit = libm::exp(total / n_customers);
        // Again after the division: the logarithm of a number near 1 keeps its digits.
        let logs: Vec<f64> =
            sorted.par_iter().map(|(spend, _)| libm::log(spend.mean / unit)).collect();
        let squares = sorted.iter().zip(&logs).map(|((_, weight), log)| weight * log * log);
        let ln_variance = squares.sum::<f64>() / n_customers;
        let mut pieces = Vec::new();
        let mut start = 0;
        let groups = sorted.chunk_by(|(a, _), (b, _)| a.frequency == b.frequency);
        for chunk in groups.flat_map(|group| group.chunks(CHUNK)) {
            let rows = start..start + chunk.len();
            let ln_means = chunk.iter().zip(&logs[rows.clone()]);
            pieces.push(Piece {
                frequency: chunk.first().map_or(0.0, |(spend, _)| f64::from(spend.frequency)),
                weight: chunk.iter().map(|(_, weight)| weight).sum(),
                ln_means: ln_means.map(|((_, weight), log)| weight * log).sum(),
                rows,
            });
            start += chunk.len();
        }
        let rows = sorted.iter().map(|(spend, weight)| (unit / spend.mean, *weight)).collect();
        Ok(SpendCohort { unit, rows, pieces, n_customers, ln_variance })
    }

    /// Number of unique rows.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    pub fn n_customers(&self) -> f64 {
        self.n_customers
    }

    /// The log-likelihood of m / unit by the logs of (p, q, mu = p v / q). In these variables neither
    /// p → ∞ nor q → ∞ moves the others.
    fn ln_likelihood(&self, theta: &[f64; 3]) -> Jet<3> {
        let parts: Vec<Jet<3>> =
            self.pieces.par_iter().map(|piece| self.piece(piece, theta)).collect();
        parts.into_iter().fold(Jet::ZERO, |sum, part| sum + part)
    }

    /// The best with the parameter at `held` as good as infinite: all three variables, and the value.
    /// Only a gamma or an inverse gamma is left to fit then, which has one maximum.
    fn limit(&self, held: usize) -> ([f64; 3], f64) {
        let others = [(held + 1) % 3, (held + 2) % 3];
        let with = |free: &[f64; 2]| {
            let mut theta = [BOUND; 3];
            others.iter().zip(free).for_each(|(&index, value)| theta[index] = *value);
            theta
        };
        let objective = |free: &[f64; 2]| {
            let jet = self.ln_likelihood(&with(free));
            Jet {
                value: jet.value,
                gradient: others.map(|i| jet.gradient[i]),
                hessian: others.map(|i| others.map(|j| jet.hessian[i][j])),
            }
        };
        let start = others.map(|index| if index == 2 { 0.0 } else { self.ln_shape(1.0) });
        let limit = maximise(objective, start, BOUND);
        (with(&limit.theta), limit.value)
    }

    /// ln of the shape of a gamma whose logarithm has this share of the variance of ln m.
    fn ln_shape(&self, share: f64) -> f64 {
        libm::log((1.0 / (share * self.ln_variance) + 0.5).min(STEADY))
    }

    /// A piece's log-likelihood. With z = p x, N = z + q, c = q / N, e = mu / m, D = 1 + c (e − 1) and
    /// G as in [`stirling`], a row is G(N) − G(z) − G(q) − z ln D − q ln(D / e) − ln m: the large parts
    /// of ln Γ and of the powers are gone, so that z and q may grow without loss of digits. Its
    /// derivatives need only the sums of both logarithms, of u = (e − 1) / D and of u².
    fn piece(&self, piece: &Piece, &[ln_p, ln_q, ln_mu]: &[f64; 3]) -> Jet<3> {
        let (p, q, mu) = (libm::exp(ln_p), libm::exp(ln_q), libm::exp(ln_mu));
        let z = p * piece.frequency;
        let n = z + q;
        // Both shares by division: 1 − c has no digits left where c is nearly 1.
        let (c, rest) = (q / n, z / n);
        let [mut ln_d, mut ln_d_by_e, mut u, mut u_squares] = [0.0; 4];
        let rows = &self.rows[piece.rows.clone()];
        let mut add = |weight: f64, share: f64| {
            u += weight * share;
            u_squares += weight * share * share;
        };
        // The logarithm that the larger of z and q is multiplied by is computed, which is the smaller
        // one; it differs from the other by ln e, whose sum is known.
        let weight = piece.weight;
        let ln_e = weight * ln_mu - piece.ln_means;
        if c < 0.5 {
            for &(inverse, weight) in rows {
                let above = mu * inverse - 1.0;
                ln_d += weight * libm::log1p(c * above);
                add(weight, above / (1.0 + c * above));
            }
            ln_d_by_e = ln_d - ln_e;
        } else {
            for &(inverse, weight) in rows {
                let above = 1.0 / (mu * inverse) - 1.0;
                ln_d_by_e += weight * libm::log1p(rest * above);
                add(weight, -above / (1.0 + rest * above));
            }
            ln_d = ln_d_by_e + ln_e;
        }
        let ([g_n, g_n1, g_n2], [g_z, g_z1, g_z2], [g_q, g_q1, g_q2]) =
            (stirling(n), stirling(z), stirling(q));
        let (zc, k) = (z * c, c * rest);
        let by_p = weight * (rest * g_n1 - g_z1) - z * (ln_d - c * u);
        let by_q = weight * (c * g_n1 - g_q1) - q * (ln_d_by_e + rest * u);
        let p_q = weight * k * g_n2 - zc * k * u_squares;
        let p_mu = -zc * (c * u + k * u_squares);
        let q_mu = zc * (k * u_squares - rest * u);
        Jet {
            value: weight * (g_n - g_z - g_q) - z * ln_d - q * ln_d_by_e - piece.ln_means,
            gradient: [by_p, by_q, -zc * u],
            // Of a function G of a product, the second derivative by its logs is G₁ + G₂.
            hessian: [
                [by_p + weight * (rest * rest * g_n2 - g_z2) + zc * k * u_squares, p_q, p_mu],
                [p_q, by_q + weight * (c * c * g_n2 - g_q2) + zc * k * u_squares, q_mu],
                [p_mu, q_mu, -zc * (weight + (rest - c) * u - k * u_squares)],
            ],
        }
    }
}

/// G(z) = ln Γ(z) − z ln z + z for z > 0, with z G'(z) and z² G''(z): what Stirling's formula leaves
/// of ln Γ, without a loss of digits however large z is.
fn stirling(z: f64) -> [f64; 3] {
    if z < 10.0 {
        let ln = libm::log(z);
        return [libm::lgamma(z) - z * ln + z, z * (digamma(z) - ln), z * (z * trigamma(z) - 1.0)];
    }
    // B_2k / (2k (2k − 1)) for z^−(2k − 1) (Abramowitz & Stegun 1964, 6.1.40).
    const SERIES: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    let inverse = 1.0 / z;
    let (mut power, mut order) = (inverse, 1.0);
    let mut sums = [LN_ROOT_TWO_PI - 0.5 * libm::log(z), -0.5, 0.5];
    for coefficient in SERIES {
        let term = coefficient * power;
        sums[0] += term;
        sums[1] -= order * term;
        sums[2] += order * (order + 1.0) * term;
        power *= inverse * inverse;
        order += 2.0;
    }
    sums
}

/// A fitted model of spend. All parameters are positive; v is in the currency of the amounts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GammaGamma {
    /// Shape of one customer's purchases.
    pub p: f64,
    /// Shape and rate of the customers' rates.
    pub q: f64,
    pub v: f64,
}

/// A fit and what is to be known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpendFit {
    pub model: GammaGamma,
    /// Of the amounts as they were given.
    pub ln_likelihood: f64,
    /// Empty where all is as usual.
    pub findings: Vec<SpendFinding>,
    /// By the logs of p, q and p v / (q · geometric mean of the amounts).
    pub(super) optimum: Optimum<3>,
}

impl SpendFit {
    /// The model, unless its mean is infinite: a new customer must have an expected spend.
    pub fn with_mean(&self) -> Option<GammaGamma> {
        let has_mean = !self.findings.contains(&SpendFinding::InfiniteMean);
        Some(self.model).filter(|model| has_mean && model.population_mean().is_some())
    }
}

impl GammaGamma {
    /// Maximum likelihood. Where amounts are very unequal, there can be a maximum with differences
    /// within customers and another with differences between them; so the fit starts from the best of
    /// each kind, and from halfway.
    pub fn fit(cohort: &SpendCohort) -> SpendFit {
        let limits = [cohort.limit(0), cohort.limit(1)];
        let half = cohort.ln_shape(0.5);
        let from = |start: [f64; 3]| {
            let start = start.map(|log| log.min(libm::log(STEADY)));
            maximise(|theta| cohort.ln_likelihood(theta), start, BOUND)
        };
        let mut optimum = from([half, half, 0.0]);
        for (start, _) in limits {
            let other = from(start);
            // Ends that differ by rounding are one end; one that failed is none.
            let margin = 1e-9 * (1.0 + optimum.value.abs());
            if other.value > optimum.value + margin || other.converged && !optimum.converged {
                optimum = other;
            }
        }
        let may_be_infinite = limits.map(|(_, value)| optimum.value - value < NOT_RULED_OUT);
        let [p, q, mu] = optimum.theta.map(libm::exp);
        let model = GammaGamma { p, q, v: mu * cohort.unit * q / p };
        // Where q may as well be 1 or less, a new customer's expectation is one of a few very large ones.
        let deviation = optimum.standard_errors()[1].unwrap_or(0.0);
        let may_have_no_mean = model.q * libm::exp(-1.645 * deviation) <= 1.0;
        let findings = [
            (!optimum.converged, SpendFinding::NotConverged),
            (may_be_infinite[0], SpendFinding::SteadyCustomers),
            (may_be_infinite[1], SpendFinding::AlikeCustomers),
            (may_have_no_mean, SpendFinding::InfiniteMean),
        ];
        SpendFit {
            model,
            ln_likelihood: optimum.value - cohort.n_customers * libm::log(cohort.unit),
            findings: findings.into_iter().filter_map(|(is, what)| is.then_some(what)).collect(),
            optimum,
        }
    }

    /// ln of the density of a customer's mean spend, given the number of purchases; −∞ for what a fit
    /// cannot use.
    pub fn ln_likelihood(&self, spend: &Spend) -> f64 {
        if !spend.check() {
            return f64::NEG_INFINITY;
        }
        let z = self.p * f64::from(spend.frequency);
        let n = z + self.q;
        // As in the fit.
        let e = self.p * self.v / self.q / spend.mean;
        let (c, rest) = (self.q / n, z / n);
        let ln_d = libm::log1p(c * (e - 1.0));
        let ln_d_by_e = libm::log1p(rest * (1.0 / e - 1.0));
        let [g_n, g_z, g_q] = [n, z, self.q].map(|shape| stirling(shape)[0]);
        g_n - g_z - g_q - z * ln_d - self.q * ln_d_by_e - libm::log(spend.mean)
    }

    /// Mean spend per purchase over all customers, p v / (q − 1); `None` where it is infinite.
    pub fn population_mean(&self) -> Option<f64> {
        self.expected_spend(0, 0.0)
    }

    /// Expected mean spend per purchase of a customer whose `frequency` purchases had this mean (which
    /// does not matter where there was none); `None` where it is infinite, as it is for a new customer
    /// where q <= 1. A longer history may then still have one.
    pub fn expected_spend(&self, frequency: u32, mean: f64) -> Option<f64> {
        let (shape, rate) = self.posterior(frequency, mean);
        let expected = self.p * (rate / (shape - 1.0));
        (shape > 1.0 && expected.is_finite()).then_some(expected)
    }

    /// A customer's mean spend per purchase, drawn from what these purchases leave possible. Finite,
    /// though the draws have no mean where [`GammaGamma::expected_spend`] has none.
    pub fn draw(&self, frequency: u32, mean: f64, draws: &mut Draws) -> f64 {
        let (shape, rate) = self.posterior(frequency, mean);
        finite(self.p * (rate / draws.gamma(shape)))
    }

    /// What a customer spends on the next `n_purchases`, drawn: a mean spend as in
    /// [`GammaGamma::draw`], and purchases around it.
    pub fn draw_total(
        &self,
        frequency: u32,
        mean: f64,
        n_purchases: u32,
        draws: &mut Draws,
    ) -> f64 {
        if n_purchases == 0 {
            return 0.0;
        }
        let (shape, rate) = self.posterior(frequency, mean);
        let scale = rate / draws.gamma(shape);
        finite(scale * draws.gamma(self.p * f64::from(n_purchases)))
    }

    /// Shape and rate of the gamma that the customer's ν has, given these purchases.
    fn posterior(&self, frequency: u32, mean: f64) -> (f64, f64) {
        let x = f64::from(frequency);
        // A mean that is none tells nothing.
        if frequency == 0 || !mean.is_finite() || mean < 0.0 {
            return (self.q, self.v);
        }
        (self.p * x + self.q, self.v + x * mean)
    }
}

/// A draw that is too large for a number is the largest number; of a draw that is 0 / 0, 0.
fn finite(draw: f64) -> f64 {
    if draw.is_nan() { 0.0 } else { draw.min(f64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;

    const CDNOW: GammaGamma = GammaGamma { p: 6.2488, q: 3.7446, v: 15.4477 };

    fn assert_near(got: f64, expected: f64, within: f64) {
        assert!((got - expected).abs() <= within, "{got} is not {expected}");
    }

    /// Customers of a model, of 1 to 20 purchases each.
    fn customers(model: &GammaGamma, n: usize) -> Vec<(Spend, f64)> {
        let mut draws = Draws::new(Seed(3));
        let mut customer = || {
            let frequency = 1 + draws.below(20);
            let total = model.draw_total(0, 0.0, frequency, &mut draws);
            (Spend { frequency, mean: total / f64::from(frequency) }, 1.0)
        };
        (0..n).map(|_| customer()).collect()
    }

    fn fit(customers: &[(Spend, f64)]) -> SpendFit {
        GammaGamma::fit(&SpendCohort::new(customers).unwrap())
    }

    #[test]
    fn a_fit_finds_the_model_that_made_the_customers_in_any_currency() {
        let made = customers(&CDNOW, 20_000);
        let found = fit(&made);
        assert!(found.findings.is_empty(), "{found:?}");
        assert_near(found.model.p, CDNOW.p, 0.3);
        assert_near(found.model.q, CDNOW.q, 0.15);
        assert_near(found.model.v, CDNOW.v, 1.0);
        let sum: f64 = made.iter().map(|(spend, _)| found.model.ln_likelihood(spend)).sum();
        assert_near(sum, found.ln_likelihood, 1e-6);
        for factor in [1e-9, 1e3, 1e15] {
            let scale = |(spend, weight): &(Spend, f64)| {
                (Spend { mean: factor * spend.mean, ..*spend }, *weight)
            };
            let scaled = fit(&made.iter().rev().map(scale).collect::<Vec<_>>());
            assert_near(scaled.model.p, found.model.p, 1e-6);
            assert_near(scaled.model.v / factor, found.model.v, 1e-6);
        }
    }

    #[test]
    fn the_derivatives_are_those_of_the_value() {
        let cohort = SpendCohort::new(&customers(&CDNOW, 50)).unwrap();
        for theta in [[1.8, 1.3, -0.2], [9.0, 1.0, 0.3], [-1.0, 8.0, -1.0]] {
            let jet = cohort.ln_likelihood(&theta);
            for i in 0..3 {
                let at = |step: f64| {
                    let mut theta = theta;
                    theta[i] += step;
                    cohort.ln_likelihood(&theta)
                };
                let (below, above) = (at(-1e-5), at(1e-5));
                let slope = (above.value - below.value) / 2e-5;
                assert_near(jet.gradient[i], slope, 1e-6 * (1.0 + jet.value.abs()));
                for j in 0..3 {
                    let slope = (above.gradient[j] - below.gradient[j]) / 2e-5;
                    assert_near(jet.hessian[i][j], slope, 1e-6 * (1.0 + jet.value.abs()));
                }
            }
        }
    }

    #[test]
    fn stirling_keeps_its_digits_where_the_series_begins_and_far_out() {
        let (below, above) = (stirling(10.0 - 1e-12), stirling(10.0));
        for (below, above) in below.into_iter().zip(above) {
            assert_near(below, above, 2e-13);
        }
        assert_near(stirling(1e300)[1], -0.5, 0.0);
        assert_near(stirling(1e-300)[1], -1.0, 1e-15);
    }

    #[test]
    fn limits_of_the_model_are_named_and_answers_stay_finite() {
        use SpendFinding::*;
        let of = |amounts: &[(u32, f64)]| -> Vec<(Spend, f64)> {
            amounts.iter().map(|&(frequency, mean)| (Spend { frequency, mean }, 1.0)).collect()
        };
        let new = |amounts: &[(u32, f64)]| SpendCohort::new(&of(amounts));
        assert_eq!(new(&[]), Err(SpendError::TooFewCustomers { got: 0 }));
        assert_eq!(new(&[(3, 5.0)]), Err(SpendError::TooFewCustomers { got: 1 }));
        assert_eq!(new(&[(3, 5.0), (0, 5.0)]), Err(SpendError::Row { row: 1 }));
        assert_eq!(new(&[(3, f64::NAN)]), Err(SpendError::Row { row: 0 }));
        assert_eq!(new(&[(3, 5.0), (9, 5.0)]), Err(SpendError::OneAmount { mean: 5.0 }));
        let steady = fit(&customers(&GammaGamma { p: 1e9, q: 3.0, v: 1e-8 }, 500));
        assert_eq!(steady.findings, [SteadyCustomers]);
        assert_near(steady.model.expected_spend(9, 7.0).unwrap(), 7.0, 0.1);
        let alike = fit(&customers(&GammaGamma { p: 3.0, q: 1e9, v: 1e10 }, 2_000));
        assert_eq!(alike.findings, [AlikeCustomers]);
        let unequal = fit(&customers(&GammaGamma { p: 2.0, q: 0.6, v: 5.0 }, 2_000));
        assert_eq!(unequal.findings, [InfiniteMean]);
        assert_eq!(unequal.model.expected_spend(0, 0.0), None);
        assert!(unequal.model.expected_spend(1, 4.0).is_some());
        let extremes = [(1, 1e-3), (10_000, 1e9), (1, 1e9), (10_000, 1e-3), (u32::MAX, 4.0)];
        let model = fit(&of(&extremes)).model;
        let mut draws = Draws::new(Seed(1));
        for (frequency, mean) in extremes.into_iter().chain([(0, f64::NAN), (5, f64::INFINITY)]) {
            let expected = model.expected_spend(frequency, mean);
            assert!(expected.is_none_or(|spend| spend.is_finite() && spend > 0.0));
            assert!(model.draw(frequency, mean, &mut draws).is_finite());
            assert!(model.draw_total(frequency, mean, 3, &mut draws).is_finite());
        }
    }

    #[test]
    fn expectations_are_those_of_the_paper_and_the_means_of_draws() {
        // The first three customers of CDNOW.
        for (frequency, mean, expected) in [(2, 22.35, 24.66), (1, 11.77, 18.91), (0, 0.0, 35.17)] {
            assert_near(CDNOW.expected_spend(frequency, mean).unwrap(), expected, 5e-3);
        }
        let mut draws = Draws::new(Seed(5));
        for (frequency, mean) in [(0, 0.0), (2, 80.0), (9, 12.0)] {
            let expected = CDNOW.expected_spend(frequency, mean).unwrap();
            let n = 20_000;
            let single: f64 = (0..n).map(|_| CDNOW.draw(frequency, mean, &mut draws)).sum();
            let total: f64 = (0..n).map(|_| CDNOW.draw_total(frequency, mean, 4, &mut draws)).sum();
            assert_near(single / f64::from(n), expected, 0.02 * expected);
            assert_near(total / f64::from(4 * n), expected, 0.02 * expected);
        }
    }
}
