//! The log-likelihood of a cohort under the models of this family, with its derivatives by the
//! logarithms of r, alpha, a and b.
//!
//! All but one term of a customer's log-likelihood are sums over purchases or over ages, which are
//! the same for all customers with that frequency or age: they are summed once for the cohort. What
//! is left for each row is ln(S + exp(l)), the customer being alive or not.

use super::super::jet::Jet;
use super::super::nbd::{Time, Totals, rising, time_table};
use super::super::purchases::{Cohort, Row};
use rayon::prelude::*;

/// Rows of one task; their sums are added in order, so that the bits do not depend on threads.
const ROWS_PER_TASK: usize = 4096;

/// The log-likelihood of a cohort as a function of parameters.
pub(in super::super) struct Likelihood<'a> {
    cohort: &'a Cohort,
    totals: Totals,
    k: u32,
    modified: bool,
    /// What does not depend on parameters.
    constant: f64,
}

/// What rows need of their frequency, for one a and b.
struct Frequency {
    x: u32,
    /// ln a - ln(b + x - 1), with x instead of x - 1 in a modified model.
    log: f64,
    /// b / (b + x - 1): minus the slope of `log` by ln b.
    part: f64,
}

impl Frequency {
    fn new(x: u32, modified: bool, theta: &[f64; 4]) -> Frequency {
        let before = if modified { x } else { x.saturating_sub(1) };
        let b = libm::exp(theta[3]);
        let all = b + f64::from(before);
        Frequency { x, log: theta[2] - libm::log(all), part: b / all }
    }
}

impl<'a> Likelihood<'a> {
    pub fn new(cohort: &'a Cohort, k: u32, modified: bool) -> Likelihood<'a> {
        let totals = Totals::new(cohort);
        let ln_factorial = if k == 3 { std::f64::consts::LN_2 } else { 0.0 };
        let constant = f64::from(k - 1) * cohort.ln_gaps - totals.n_purchases * ln_factorial;
        Likelihood { cohort, totals, k, modified, constant }
    }

    /// Events by the time of all customers.
    pub fn mean_rate(&self) -> f64 {
        f64::from(self.k) * self.totals.mean_rate(self.cohort)
    }

    /// At the logarithms of r, alpha, a, b, with time in the cohort's unit.
    pub fn at(&self, theta: &[f64; 4]) -> Jet<4> {
        let alpha = libm::exp(theta[1]);
        let ages = time_table(&self.cohort.ages, alpha);
        let recencies = time_table(&self.cohort.recencies, alpha);
        let mut sum = Jet::constant(self.constant);
        self.totals.add_purchases(self.k, theta, &ages, &mut sum);
        self.add_stayed(theta, &mut sum);
        let tasks = self.cohort.rows.par_chunks(ROWS_PER_TASK);
        let parts: Vec<Jet<4>> = match self.k {
            1 => tasks.map(|rows| self.row_sum(rows, theta, &ages, &recencies)).collect(),
            _ => tasks.map(|rows| self.staged_row_sum(rows, theta, &ages, &recencies)).collect(),
        };
        parts.into_iter().for_each(|part| sum += part);
        for i in 0..4 {
            for j in 0..i {
                sum.hessian[i][j] = sum.hessian[j][i];
            }
        }
        sum
    }

    /// Adds Σ ln(B(a, b + trials) / B(a, b)): customers' trials in which they stayed.
    fn add_stayed(&self, theta: &[f64; 4], sum: &mut Jet<4>) {
        let (a, b) = (libm::exp(theta[2]), libm::exp(theta[3]));
        let first = u64::from(self.modified);
        let after_first = (0..first, self.cohort.n_customers);
        let after_others = self
            .totals
            .beyond
            .iter()
            .map(|(range, customers)| (range.start + first..range.end + first, *customers));
        for (trials, customers) in std::iter::once(after_first).chain(after_others) {
            let [ln_stayed, stayed_1, stayed_2] = rising(b, trials.start, trials.end);
            let [ln_all, all_1, all_2] = rising(a + b, trials.start, trials.end);
            sum.value += customers * (ln_stayed - ln_all);
            sum.gradient[2] -= customers * (a * all_1);
            let slope = b * (stayed_1 - all_1);
            sum.gradient[3] += customers * slope;
            sum.hessian[2][2] -= customers * (a * all_1 - a * a * all_2);
            sum.hessian[2][3] += customers * (a * b * all_2);
            sum.hessian[3][3] += customers * (slope - b * b * (stayed_2 - all_2));
        }
    }

    /// Σ softplus(l) of rows where each event is a purchase; the upper half of the Hessian.
    fn row_sum(&self, rows: &[Row], theta: &[f64; 4], ages: &[Time], recencies: &[Time]) -> Jet<4> {
        let r = libm::exp(theta[0]);
        let mut sum = Jet::ZERO;
        let mut frequency = Frequency::new(0, self.modified, theta);
        for row in rows {
            if row.frequency == 0 && !self.modified {
                continue;
            }
            if row.frequency != frequency.x {
                frequency = Frequency::new(row.frequency, self.modified, theta);
            }
            let (age, recency) = (&ages[row.age as usize], &recencies[row.recency as usize]);
            let n = r + f64::from(row.frequency);
            let gap = age.log - recency.log;
            let by_alpha = recency.part - age.part;
            let (slope_r, slope_alpha) = (r * gap, n * by_alpha);
            let (value, sigmoid, variance) = softplus(frequency.log + n * gap);
            sum.value += row.weight * value;
            let (first, second) = (row.weight * sigmoid, row.weight * variance);
            add_dead(&mut sum, first, second, [slope_r, slope_alpha], frequency.part);
            sum.hessian[0][0] += first * slope_r;
            sum.hessian[0][1] += first * (r * by_alpha);
            sum.hessian[1][1] += first * n * (age.curve - recency.curve);
        }
        sum
    }

    /// The same where each k-th event is a purchase: Σ ln S + softplus(l - ln S), with S = Σ_j<k
    /// (n)_j / j! q^j over the events j since the last purchase.
    fn staged_row_sum(
        &self,
        rows: &[Row],
        theta: &[f64; 4],
        ages: &[Time],
        recencies: &[Time],
    ) -> Jet<4> {
        let (r, alpha) = (libm::exp(theta[0]), libm::exp(theta[1]));
        let k = f64::from(self.k);
        // 1 where two events without a purchase are possible.
        let two = if self.k > 2 { 1.0 } else { 0.0 };
        let mut sum = Jet::ZERO;
        let mut frequency = Frequency::new(0, self.modified, theta);
        for row in rows {
            if row.frequency != frequency.x {
                frequency = Frequency::new(row.frequency, self.modified, theta);
            }
            let (age, recency) = (&ages[row.age as usize], &recencies[row.recency as usize]);
            let n = r + k * f64::from(row.frequency);
            let t = self.cohort.ages[row.age as usize];
            let idle = (t - self.cohort.recencies[row.recency as usize]).max(0.0);
            let (q, share) = (idle / (alpha + t), alpha / (alpha + t));
            let s = 1.0 + q * n + two * (0.5 * n * (n + 1.0)) * (q * q);
            let s_n = q + two * (n + 0.5) * (q * q);
            let s_q = n + two * (n * (n + 1.0)) * q;
            let s_nq = 1.0 + two * (2.0 * n + 1.0) * q;
            // By ln alpha.
            let (q_1, q_2) = (-q * share, q * share * (2.0 * share - 1.0));
            let alive_r = s_n * r / s;
            let alive_alpha = s_q * q_1 / s;
            let alive_rr = two * (q * r) * (q * r) / s + alive_r - alive_r * alive_r;
            let alive_ra = s_nq * r * q_1 / s - alive_r * alive_alpha;
            let alive_aa =
                (two * (n * (n + 1.0)) * (q_1 * q_1) + s_q * q_2) / s - alive_alpha * alive_alpha;
            let ln_s = libm::log(s);
            if row.frequency == 0 && !self.modified {
                add_alive(&mut sum, row.weight, ln_s, [alive_r, alive_alpha]);
                add_curves(&mut sum, row.weight, [alive_rr, alive_ra, alive_aa]);
                continue;
            }
            let gap = age.log - recency.log;
            let by_alpha = recency.part - age.part;
            let (dead_r, dead_alpha) = (r * gap, n * by_alpha);
            let (value, sigmoid, variance) = softplus(frequency.log + n * gap - ln_s);
            add_alive(&mut sum, row.weight, ln_s + value, [alive_r, alive_alpha]);
            let slopes = [dead_r - alive_r, dead_alpha - alive_alpha];
            let (first, second) = (row.weight * sigmoid, row.weight * variance);
            add_dead(&mut sum, first, second, slopes, frequency.part);
            add_curves(&mut sum, row.weight - first, [alive_rr, alive_ra, alive_aa]);
            let dead_aa = n * (age.curve - recency.curve);
            add_curves(&mut sum, first, [dead_r, r * by_alpha, dead_aa]);
        }
        sum
    }
}

/// ln(1 + e^z) with its first and second derivative.
#[inline]
fn softplus(z: f64) -> (f64, f64, f64) {
    let e = libm::exp(-z.abs());
    let share = 1.0 / (1.0 + e);
    let sigmoid = if z >= 0.0 { share } else { e * share };
    // What log1p would add is below the rounding of a sum of rows.
    (z.max(0.0) + libm::log(1.0 + e), sigmoid, e * share * share)
}

/// Adds f' ∇z and f'' ∇z ∇zᵀ, where z has these slopes by ln r and ln alpha, 1 by ln a and minus
/// `part` by ln b, and f' ∂²z by ln b.
#[inline]
fn add_dead(sum: &mut Jet<4>, first: f64, second: f64, slopes: [f64; 2], part: f64) {
    let [r, alpha] = slopes;
    let (second_r, second_alpha, second_b) = (second * r, second * alpha, second * part);
    sum.gradient[0] += first * r;
    sum.gradient[1] += first * alpha;
    sum.gradient[2] += first;
    sum.gradient[3] -= first * part;
    sum.hessian[0][0] += second_r * r;
    sum.hessian[0][1] += second_r * alpha;
    sum.hessian[0][2] += second_r;
    sum.hessian[0][3] -= second_r * part;
    sum.hessian[1][1] += second_alpha * alpha;
    sum.hessian[1][2] += second_alpha;
    sum.hessian[1][3] -= second_alpha * part;
    sum.hessian[2][2] += second;
    sum.hessian[2][3] -= second_b;
    sum.hessian[3][3] += second_b * part - first * (part * (1.0 - part));
}

/// Adds a value and its slopes by ln r and ln alpha.
#[inline]
fn add_alive(sum: &mut Jet<4>, weight: f64, value: f64, slopes: [f64; 2]) {
    sum.value += weight * value;
    sum.gradient[0] += weight * slopes[0];
    sum.gradient[1] += weight * slopes[1];
}

/// Adds second derivatives by ln r twice, by both, and by ln alpha twice.
#[inline]
fn add_curves(sum: &mut Jet<4>, weight: f64, curves: [f64; 3]) {
    sum.hessian[0][0] += weight * curves[0];
    sum.hessian[0][1] += weight * curves[1];
    sum.hessian[1][1] += weight * curves[2];
}

#[cfg(test)]
mod tests {
    use super::super::tests::{family, play};
    use super::*;
    use crate::domain::{Draws, Seed};

    #[test]
    fn a_cohort_sums_its_customers_and_slopes_are_differences() {
        let mut draws = Draws::new(Seed(1));
        for model in family() {
            let customers: Vec<_> =
                (0..60).map(|i| play(&model, 10.0 + f64::from(i % 7), 0.0, &mut draws).0).collect();
            let cohort = Cohort::new(&customers).unwrap();
            let likelihood = Likelihood::new(&cohort, model.k, model.modified);
            for theta in [[-0.5, 0.3, -0.7, 0.9], [1.0, -2.0, 1.5, -1.0], [-3.0, -4.0, 0.5, 5.0]] {
                let here = likelihood.at(&theta);
                let [r, alpha, a, b] = theta.map(libm::exp);
                let same =
                    super::super::BetaGeometric { r, alpha: alpha * cohort.unit, a, b, ..model };
                let sum: f64 = customers.iter().map(|c| same.ln_likelihood(c)).sum();
                let n: f64 = customers.iter().map(|c| f64::from(c.frequency)).sum();
                let in_units = sum + n * libm::log(cohort.unit);
                assert!((here.value - in_units).abs() < 1e-9 * sum.abs(), "{model:?}");
                for i in 0..4 {
                    let [low, high] = [-1e-5, 1e-5].map(|step| {
                        let mut near = theta;
                        near[i] += step;
                        likelihood.at(&near)
                    });
                    let close = |exact: f64, high: f64, low: f64| {
                        ((high - low) / 2e-5 - exact).abs() < 1e-5 * (1.0 + exact.abs())
                    };
                    assert!(close(here.gradient[i], high.value, low.value), "{model:?} {i}");
                    for j in 0..4 {
                        let (high, low) = (high.gradient[j], low.gradient[j]);
                        assert!(close(here.hessian[i][j], high, low), "{model:?} {i} {j}");
                    }
                }
            }
        }
    }
}
