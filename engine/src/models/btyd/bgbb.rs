//! BG/BB: purchases on numbered occasions, and drop-out between them (Fader, Hardie & Shang 2010,
//! "Customer-Base Analysis in a Discrete-Time Noncontractual Setting", *Marketing Science* 29(6)).
//!
//! Before every occasion a living customer drops out with probability θ ~ Beta(gamma, delta); whoever
//! still lives buys on it with probability p ~ Beta(alpha, beta). Everything is a sum or product of
//! positive terms, so no digits cancel.

use super::jet::Jet;
use super::optimum::{Optimum, maximise};
use crate::domain::{Draws, Seed};
use crate::models::{Diagnostics, Estimator, Fit, FitError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most occasions that a history may have, and the furthest ahead that a model looks: an answer
/// for more of them is the answer for this many.
pub const MAX_OCCASIONS: u32 = 10_000;

/// No parameter is fitted outside exp(±BOUND).
const BOUND: f64 = 12.0;

/// Where fits start, as ln of (alpha, beta, gamma, delta): with short lives, with long ones, and with
/// lives that end at once or never.
const STARTS: [[f64; 4]; 3] =
    [[0.0, 0.0, -0.7, 1.0], [-0.7, 0.7, 0.0, 4.0], [0.0, 0.0, -1.0, -1.0]];

/// One customer's purchases on the occasions since the first purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occasions {
    /// x, occasions with a purchase.
    pub frequency: u32,
    /// t_x, the number of the last occasion with a purchase, counted from 1; 0 where there is none.
    pub recency: u32,
    /// n, occasions up to the as-of.
    pub occasions: u32,
}

impl Occasions {
    /// Whether such a history can be: x <= t_x <= n <= 10,000, and x = 0 only with
    /// t_x = 0.
    pub fn check(&self) -> bool {
        self.frequency <= self.recency
            && self.recency <= self.occasions
            && self.occasions <= MAX_OCCASIONS
            && (self.frequency == 0) == (self.recency == 0)
    }

    /// The nearest history that can be, so that no answer depends on a caller's care.
    fn tamed(&self) -> (u32, u32, u32) {
        let occasions = self.occasions.min(MAX_OCCASIONS);
        let recency = self.recency.min(occasions);
        (self.frequency.min(recency), recency, occasions)
    }
}

/// Why nothing was fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BgBbError {
    #[error("no customer has had an occasion to buy")]
    NoOccasions,
    #[error("row {row} is no history of purchases on occasions, or its weight is not positive")]
    Row { row: usize },
    #[error("no customer bought again, so the occasions tell nothing about drop-out")]
    NoPurchases,
}

/// Unique histories with weights (numbers of customers), sorted by x, t_x and n.
#[derive(Debug, Clone, PartialEq)]
pub struct OccasionCohort {
    rows: Vec<(Occasions, f64)>,
    n_customers: f64,
}

impl OccasionCohort {
    /// Histories, each with its number of customers, in any order. Those without an occasion yet are
    /// left out, since they say nothing.
    ///
    /// # Errors
    /// [`BgBbError`] where a row is impossible or no fit can be.
    pub fn new(customers: &[(Occasions, f64)]) -> Result<OccasionCohort, BgBbError> {
        let bad = |(history, weight): &(Occasions, f64)| {
            !history.check() || !weight.is_finite() || *weight <= 0.0
        };
        if let Some(row) = customers.iter().position(bad) {
            return Err(BgBbError::Row { row });
        }
        let mut rows: Vec<(Occasions, f64)> =
            customers.iter().filter(|(history, _)| history.occasions > 0).copied().collect();
        // Weights are ordered too: their sums must not depend on the order of the input.
        rows.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        rows.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        match rows.last() {
            None => Err(BgBbError::NoOccasions),
            Some((history, _)) if history.frequency == 0 => Err(BgBbError::NoPurchases),
            Some(_) => {
                let n_customers = rows.iter().map(|(_, weight)| weight).sum();
                Ok(OccasionCohort { rows, n_customers })
            }
        }
    }

    /// Number of unique histories.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    pub fn n_customers(&self) -> f64 {
        self.n_customers
    }

    /// The log-likelihood by the logs of (alpha, beta, gamma, delta).
    fn ln_likelihood(&self, theta: &[f64; 4]) -> Jet<4> {
        let n_max = self.rows.iter().map(|(history, _)| history.occasions).max().unwrap_or(0);
        let tables = Tables::new(theta, n_max as usize);
        // One group for each x: its parts are summed in order, whichever thread had them.
        let groups: Vec<&[(Occasions, f64)]> =
            self.rows.chunk_by(|a, b| a.0.frequency == b.0.frequency).collect();
        let parts: Vec<Jet<4>> = groups.into_par_iter().map(|rows| tables.group(rows)).collect();
        parts.into_iter().fold(Jet::ZERO, |sum, part| sum + part)
    }
}

/// What the likelihoods of all histories share, by numbers of occasions.
struct Tables {
    beta: Jet<4>,
    /// ln of the rising factorials (alpha)_i, (beta)_i, (alpha + beta)_i.
    bought: Vec<Jet<4>>,
    passed: Vec<Jet<4>>,
    tried: Vec<Jet<4>>,
    /// ln P(alive after i trials), of a new customer.
    survived: Vec<Jet<4>>,
    /// P(dropping out before occasion i + 1), of one who lived on occasion i.
    drop_out: Vec<Jet<4>>,
    /// (1 − drop_out_i) / (alpha + beta + i).
    step: Vec<Jet<4>>,
}

impl Tables {
    fn new(theta: &[f64; 4], n_max: usize) -> Tables {
        let [alpha, beta, gamma, delta]: [Jet<4>; 4] =
            std::array::from_fn(|i| Jet::positive(i, theta[i]));
        let mut survived = Vec::with_capacity(n_max + 1);
        let (mut drop_out, mut step) = (Vec::with_capacity(n_max), Vec::with_capacity(n_max));
        let mut sum = Jet::ZERO;
        survived.push(sum);
        for i in 0..n_max {
            let i = i as f64;
            let inverse = (gamma + delta).shift(i).recip();
            let survival = delta.shift(i) * inverse;
            sum += survival.ln();
            survived.push(sum);
            drop_out.push(gamma * inverse);
            step.push(survival * (alpha + beta).shift(i).recip());
        }
        Tables {
            beta,
            bought: ln_rising(alpha, n_max),
            passed: ln_rising(beta, n_max),
            tried: ln_rising(alpha + beta, n_max),
            survived,
            drop_out,
            step,
        }
    }

    /// The log-likelihood of all histories of one x. What follows t_x is silence: either until the
    /// as-of alive, or until a drop-out, whose probability before the last n of the group obeys a
    /// recursion backwards; for a smaller n what lies beyond it is taken off.
    fn group(&self, rows: &[(Occasions, f64)]) -> Jet<4> {
        let usual = |value: u32| value as usize;
        let Some((first, _)) = rows.first() else { return Jet::ZERO };
        let (x, from) = (usual(first.frequency), usual(first.recency));
        let to = rows.iter().map(|(history, _)| usual(history.occasions)).max().unwrap_or(from);
        let mut gone = vec![Jet::ZERO; to + 1 - from];
        for j in (from..to).rev() {
            let lives_on = self.step[j] * self.beta.shift((j - x) as f64);
            gone[j - from] = self.drop_out[j] + lives_on * gone[j + 1 - from];
        }
        let mut sum = Jet::ZERO;
        for (history, weight) in rows {
            let (t, n) = (usual(history.recency), usual(history.occasions));
            let known = self.bought[x] + self.passed[t - x] - self.tried[t] + self.survived[t];
            let alive = self.passed[n - x] - self.passed[t - x] - (self.tried[n] - self.tried[t])
                + (self.survived[n] - self.survived[t]);
            let beyond = (-gone[n - from]).shift(1.0);
            let silence = gone[t - from] + alive.exp() * beyond;
            sum += (known + silence.ln()).scale(*weight);
        }
        sum
    }
}

/// ln of the rising factorials (base)_0, …, (base)_n.
fn ln_rising(base: Jet<4>, n: usize) -> Vec<Jet<4>> {
    let mut sum = Jet::ZERO;
    let mut table = Vec::with_capacity(n + 1);
    table.push(sum);
    for i in 0..n {
        sum += base.shift(i as f64).ln();
        table.push(sum);
    }
    table
}

/// A fitted BG/BB model. All parameters are positive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgBb {
    /// The probability of buying on an occasion while alive is Beta(alpha, beta).
    pub alpha: f64,
    pub beta: f64,
    /// The probability of dropping out before an occasion is Beta(gamma, delta).
    pub gamma: f64,
    pub delta: f64,
}

/// Maximum likelihood of [`BgBb`]; there is nothing to choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BgBbParams;

impl Estimator for BgBbParams {
    type Input<'a> = OccasionCohort;
    type Fitted = BgBb;

    /// Nothing is drawn, so the seed does not matter. Parameters that the customers do not tell, such
    /// as gamma where nobody seems to have dropped out, are named in the notes.
    fn fit(&self, cohort: &OccasionCohort, _seed: Seed) -> Result<Fit<BgBb>, FitError> {
        let (model, optimum) = BgBb::fit(cohort);
        let names = ["alpha", "beta", "gamma", "delta"];
        let untold = names.iter().zip(optimum.at_bound.iter().zip(optimum.standard_errors()));
        let notes = untold
            .filter(|(_, (at_bound, error))| **at_bound || error.is_none())
            .map(|(name, _)| format!("the likelihood does not tell {name}"))
            .collect();
        let diagnostics = Diagnostics {
            converged: optimum.converged,
            n_iter: Some(optimum.n_iter),
            objective: optimum.value,
            run: 0,
            notes,
        };
        Ok(Fit { model, diagnostics })
    }
}

impl BgBb {
    /// Maximum likelihood, from three starts of which the best end counts. The optimum's theta are the
    /// logs of (alpha, beta, gamma, delta); one of them at its bound is not determined by the data, such
    /// as gamma where nobody seems to have dropped out.
    pub(super) fn fit(cohort: &OccasionCohort) -> (BgBb, Optimum<4>) {
        let [mut best, others @ ..] =
            STARTS.map(|start| maximise(|theta| cohort.ln_likelihood(theta), start, BOUND));
        for other in others {
            // Ends that differ by rounding are one end; one that failed is none.
            let margin = 1e-9 * (1.0 + best.value.abs());
            if other.value > best.value + margin || other.converged && !best.converged {
                best = other;
            }
        }
        let [alpha, beta, gamma, delta] = best.theta.map(libm::exp);
        (BgBb { alpha, beta, gamma, delta }, best)
    }

    /// ln P(this history), the purchases in this very order.
    pub fn ln_likelihood(&self, c: &Occasions) -> f64 {
        let (x, t, _) = c.tamed();
        let mut sum = 0.0;
        for i in 0..t {
            let at = f64::from(i);
            let bought_or_passed =
                if i < x { self.alpha + at } else { self.beta + f64::from(i - x) };
            sum += libm::log(bought_or_passed / (self.alpha + self.beta + at));
            sum += libm::log(self.survival(at));
        }
        let (alive, gone) = self.silence(c);
        sum + libm::log(alive + gone)
    }

    /// P(alive on occasion n), the last one before the as-of: 1 for who bought on it.
    pub fn p_alive_now(&self, c: &Occasions) -> f64 {
        let (alive, gone) = self.silence(c);
        alive / (alive + gone)
    }

    /// P(alive on occasion n + 1), as in the paper's equation 11: whether the customer can still buy
    /// on the next occasion. One more trial of drop-out than [`BgBb::p_alive_now`].
    pub fn p_alive(&self, c: &Occasions) -> f64 {
        self.p_alive_after(c, 0)
    }

    /// P(alive on occasion n + 1 + m), given the history up to n.
    pub fn p_alive_after(&self, c: &Occasions, m: u32) -> f64 {
        let n = f64::from(c.tamed().2);
        let trials = m.min(MAX_OCCASIONS) + 1;
        let survival =
            (0..trials).fold(1.0, |survival, i| survival * self.survival(n + f64::from(i)));
        self.p_alive_now(c) * survival
    }

    /// P(no purchase on the m occasions after n).
    pub fn p_no_purchase(&self, c: &Occasions, m: u32) -> f64 {
        let (x, _, n) = c.tamed();
        let alive_now = self.p_alive_now(c);
        let (alive, gone) = self.unbought(x, n, n + m.min(MAX_OCCASIONS));
        // Rounding may put a sum of all the mass a little above 1.
        ((1.0 - alive_now) + alive_now * (alive + gone)).min(1.0)
    }

    /// Expected purchases on the m occasions after n.
    pub fn expected_purchases(&self, c: &Occasions, m: u32) -> f64 {
        let (x, _, n) = c.tamed();
        let (mut survival, mut lived) = (1.0, 0.0);
        for i in 0..m.min(MAX_OCCASIONS) {
            survival *= self.survival(f64::from(n) + f64::from(i));
            lived += survival;
        }
        let p = (self.alpha + f64::from(x)) / (self.alpha + self.beta + f64::from(n));
        self.p_alive_now(c) * p * lived
    }

    /// P(j purchases on the m occasions after n) into `out[j]`; what `out` has no room for is left
    /// out.
    pub fn p_counts(&self, c: &Occasions, m: u32, out: &mut [f64]) {
        let (x, _, n) = c.tamed();
        let alive_now = self.p_alive_now(c);
        out.fill(0.0);
        let Some(zero) = out.first_mut() else { return };
        *zero = 1.0 - alive_now;
        // counts[j]: P(alive on the latest occasion, j purchases since n).
        let mut counts = vec![0.0; out.len()];
        counts[0] = alive_now;
        for k in 0..m.min(MAX_OCCASIONS) {
            let at = f64::from(n) + f64::from(k);
            let drop_out = self.drop_out(at);
            let scale = self.survival(at) / (self.alpha + self.beta + at);
            let most = (k as usize).min(out.len() - 1);
            for (total, count) in out.iter_mut().zip(&counts[..=most]) {
                *total += drop_out * count;
            }
            // From above, so that each count is still that of the occasion before.
            let top = (most + 1).min(counts.len() - 1);
            for j in (0..=top).rev() {
                let purchases = f64::from(x) + j as f64;
                let passed =
                    if j <= most { (self.beta + (at - purchases)) * counts[j] } else { 0.0 };
                let bought =
                    if j > 0 { (self.alpha + (purchases - 1.0)) * counts[j - 1] } else { 0.0 };
                counts[j] = scale * (passed + bought);
            }
        }
        for (total, count) in out.iter_mut().zip(&counts) {
            *total = (*total + count).min(1.0);
        }
    }

    /// Purchases on the m occasions after n, of one draw from what the history leaves possible.
    pub fn draw(&self, c: &Occasions, m: u32, draws: &mut Draws) -> u32 {
        let (x, _, n) = c.tamed();
        if !draws.chance(self.p_alive_now(c)) {
            return 0;
        }
        let drop_out = share(self.gamma, self.delta + f64::from(n), draws);
        let p = share(self.alpha + f64::from(x), self.beta + f64::from(n - x), draws);
        // Trials survived before the first that is not: geometric, by its inverse.
        let survived = libm::log(draws.unit()) / libm::log1p(-drop_out);
        let lived = survived.min(f64::from(m.min(MAX_OCCASIONS))) as u32;
        (0..lived).map(|_| u32::from(draws.chance(p))).sum()
    }

    /// P(dropping out before the next occasion), of one who has lived through `occasions`.
    fn drop_out(&self, occasions: f64) -> f64 {
        self.gamma / (self.gamma + self.delta + occasions)
    }

    /// 1 − [`BgBb::drop_out`], with all its digits.
    fn survival(&self, occasions: f64) -> f64 {
        (self.delta + occasions) / (self.gamma + self.delta + occasions)
    }

    /// Given the history up to t_x: P(no purchase until n and alive on n), P(dropped out before).
    fn silence(&self, c: &Occasions) -> (f64, f64) {
        let (x, t, n) = c.tamed();
        self.unbought(x, t, n)
    }

    /// Given life on occasion `from` and x purchases so far: P(no purchase until `to` and alive on
    /// it), P(dropped out without one before it).
    fn unbought(&self, x: u32, from: u32, to: u32) -> (f64, f64) {
        let (mut alive, mut gone) = (1.0, 0.0);
        for j in from..to {
            let at = f64::from(j);
            gone += alive * self.drop_out(at);
            let passed = (self.beta + f64::from(j - x)) / (self.alpha + self.beta + at);
            alive *= self.survival(at) * passed;
        }
        (alive, gone)
    }
}

/// A draw from Beta(a, b).
fn share(a: f64, b: f64, draws: &mut Draws) -> f64 {
    let share = draws.beta(a, b);
    if share.is_nan() {
        // Both gammas were too small for a number. Such a Beta has all its mass at 0 and 1.
        return if draws.chance(a / (a + b)) { 1.0 } else { 0.0 };
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;

    /// The paper's donors by t_x = 1..=6 and x = 1..=6; n = 6, and 3464 never gave again.
    const DONORS: [[u32; 6]; 6] = [
        [1091, 0, 0, 0, 0, 0],
        [277, 613, 0, 0, 0, 0],
        [129, 255, 322, 0, 0, 0],
        [78, 155, 181, 240, 0, 0],
        [119, 173, 225, 284, 335, 0],
        [129, 234, 357, 512, 728, 1203],
    ];
    const PAPER: BgBb = BgBb { alpha: 1.204, beta: 0.750, gamma: 0.657, delta: 2.783 };

    fn history(frequency: u32, recency: u32, occasions: u32) -> Occasions {
        Occasions { frequency, recency, occasions }
    }

    fn donors() -> OccasionCohort {
        let mut rows = vec![(history(0, 0, 6), 3464.0)];
        for (t, counts) in (1..).zip(DONORS) {
            for (x, customers) in (1..=t).zip(counts) {
                rows.push((history(x, t, 6), f64::from(customers)));
            }
        }
        OccasionCohort::new(&rows).unwrap()
    }

    fn assert_near(got: f64, expected: f64, within: f64) {
        assert!((got - expected).abs() <= within, "{got} is not {expected}");
    }

    #[test]
    fn the_donors_give_the_parameters_and_probabilities_of_the_paper() {
        let (model, optimum) = BgBb::fit(&donors());
        assert!(optimum.converged, "{optimum:?}");
        assert_near(optimum.value, -33_225.58, 0.01);
        assert_near(model.alpha, PAPER.alpha, 5e-4);
        assert_near(model.beta, PAPER.beta, 5e-4);
        assert_near(model.gamma, PAPER.gamma, 5e-4);
        assert_near(model.delta, PAPER.delta, 5e-4);
        let sum: f64 =
            donors().rows.iter().map(|(c, weight)| weight * model.ln_likelihood(c)).sum();
        assert_near(sum, optimum.value, 1e-7);
        for (x, t, p) in [(0, 0, 0.11), (2, 4, 0.59), (6, 6, 0.93)] {
            assert_near(model.p_alive(&history(x, t, 6)), p, 5e-3);
        }
        for (x, t, purchases) in [(0, 0, 0.07), (2, 4, 1.06), (6, 6, 3.75)] {
            assert_near(model.expected_purchases(&history(x, t, 6), 5), purchases, 5e-3);
        }
    }

    #[test]
    fn the_derivatives_are_those_of_the_value() {
        let mut rows = donors().rows;
        rows.extend([(history(3, 8, 11), 5.0), (history(0, 0, 4), 9.0), (history(2, 2, 9), 7.0)]);
        let cohort = OccasionCohort::new(&rows).unwrap();
        let theta = [0.3, -0.2, 0.1, 0.9];
        let jet = cohort.ln_likelihood(&theta);
        for i in 0..4 {
            let at = |step: f64| {
                let mut theta = theta;
                theta[i] += step;
                cohort.ln_likelihood(&theta)
            };
            let (below, above) = (at(-1e-4), at(1e-4));
            assert_near(jet.gradient[i], (above.value - below.value) / 2e-4, 2e-3);
            for j in 0..4 {
                let slope = (above.gradient[j] - below.gradient[j]) / 2e-4;
                assert_near(jet.hessian[i][j], slope, 1e-2);
            }
        }
    }

    #[test]
    fn answers_agree_with_each_other_and_with_the_likelihood() {
        for (x, t, n) in [(0, 0, 6), (1, 1, 6), (4, 5, 6), (6, 6, 6), (3, 9, 20), (0, 0, 0)] {
            let c = history(x, t, n);
            let longer = history(x, t, n + 7);
            let silent = libm::exp(PAPER.ln_likelihood(&longer) - PAPER.ln_likelihood(&c));
            assert_near(PAPER.p_no_purchase(&c, 7), silent, 1e-13);
            let mut counts = [0.0; 9];
            PAPER.p_counts(&c, 7, &mut counts);
            assert_near(counts[0], silent, 1e-13);
            assert_near(counts.iter().sum(), 1.0, 1e-13);
            let mean: f64 = counts.iter().zip(0..9).map(|(p, j)| p * f64::from(j)).sum();
            assert_near(PAPER.expected_purchases(&c, 7), mean, 1e-13);
            let mut short = [0.0; 3];
            PAPER.p_counts(&c, 7, &mut short);
            assert_near(short[2], counts[2], 0.0);
            let mut draws = Draws::new(Seed(u64::from(x)));
            let drawn: u32 = (0..20_000).map(|_| PAPER.draw(&c, 7, &mut draws)).sum();
            assert_near(f64::from(drawn) / 20_000.0, mean, 0.06);
        }
        assert_near(PAPER.p_alive_now(&history(2, 6, 6)), 1.0, 0.0);
    }

    #[test]
    fn extremes_end_in_names_or_finite_answers() {
        assert_eq!(OccasionCohort::new(&[]), Err(BgBbError::NoOccasions));
        let row = |history| OccasionCohort::new(&[(history, 1.0)]);
        assert_eq!(row(history(0, 0, 0)), Err(BgBbError::NoOccasions));
        assert_eq!(row(history(0, 0, 5)), Err(BgBbError::NoPurchases));
        assert_eq!(row(history(2, 1, 5)), Err(BgBbError::Row { row: 0 }));
        let (_, optimum) = BgBb::fit(&row(history(5, 5, 5)).unwrap());
        assert!(optimum.value.is_finite() && optimum.theta.iter().all(|theta| theta.is_finite()));
        let mut draws = Draws::new(Seed(1));
        for scale in [1e-6, 1.0, 1e6] {
            let model = BgBb { alpha: scale, beta: 1e-6, gamma: scale, delta: 1.0 / scale };
            for c in [history(0, 0, 0), history(9, 3, 1), history(1, 9_999, u32::MAX)] {
                assert!((0.0..=1.0).contains(&model.p_no_purchase(&c, u32::MAX)));
                assert!((0.0..=1.0).contains(&model.p_alive_after(&c, u32::MAX)));
                assert!((0.0..=10_000.0).contains(&model.expected_purchases(&c, u32::MAX)));
                assert!(model.draw(&c, 20, &mut draws) <= 20);
            }
        }
    }
}
