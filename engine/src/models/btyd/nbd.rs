//! The NBD model: purchases without drop-out (Ehrenberg 1959, "The Pattern of Consumer Purchases",
//! *Applied Statistics* 8(1)). It is what the models with drop-out must beat.

use super::jet::Jet;
use super::optimum::{Optimum, maximise};
use super::purchases::{Cohort, Purchases};
use super::special::{digamma, trigamma};
use crate::domain::Draws;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How far a fit lets the logarithm of a parameter go, with time in the cohort's unit: beyond e^14
/// no cohort tells a parameter from infinity.
pub(super) const BOUND: f64 = 14.0;
/// An `a` this small, with b = 1, says that nobody drops out, whatever the silence.
pub(super) const NOBODY: f64 = 1e-300;
/// Its logarithm in a likelihood, where no silence outweighs it.
pub(super) const LN_NOBODY: f64 = -1e9;
/// Lowest mean rate of purchases that a fit starts from, per unit of the cohort's time.
pub(super) const LOWEST_RATE: f64 = 1e-5;
/// Longest age and horizon, so that sums and squares of times stay finite.
const LONGEST: f64 = 1e150;
/// From this mean on, a Poisson number is drawn from the normal distribution.
const MANY: f64 = 4096.0;
/// Factors of a rising factorial from which on ln Γ is faster.
const LONG_RUN: u64 = 20_000;
/// Times of a table that one thread fills at least.
const TIMES_PER_TASK: usize = 8192;

/// Customers buy at gamma(r, alpha) distributed rates for ever.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nbd {
    pub r: f64,
    /// In units of time.
    pub alpha: f64,
}

impl Nbd {
    /// True for finite, positive parameters, without which no answer is defined.
    pub fn check(&self) -> bool {
        [self.r, self.alpha].iter().all(|value| value.is_finite() && *value > 0.0)
    }

    /// Shape and rate of the gamma distribution of the customer's purchase rate, given the data.
    fn posterior(&self, c: &Purchases) -> (f64, f64) {
        (self.r + f64::from(c.frequency), self.alpha + bounded(c.age))
    }

    /// Logarithm of the density of the customer's purchase times.
    pub fn ln_likelihood(&self, c: &Purchases) -> f64 {
        let x = f64::from(c.frequency);
        let ln_ages = libm::log1p(bounded(c.age) / self.alpha);
        let [ln_rising, ..] = rising(self.r, 0, u64::from(c.frequency));
        ln_rising - x * libm::log(self.alpha) - (self.r + x) * ln_ages
    }

    /// Always 1: nobody drops out.
    pub fn p_alive(&self, _c: &Purchases) -> f64 {
        1.0
    }

    /// Always 1: nobody drops out.
    pub fn p_alive_after(&self, _c: &Purchases, _t: f64) -> f64 {
        1.0
    }

    /// P(no purchase in (T, T + t]).
    pub fn p_no_purchase(&self, c: &Purchases, t: f64) -> f64 {
        let (shape, rate) = self.posterior(c);
        libm::exp(-shape * libm::log1p(bounded(t) / rate))
    }

    /// E[purchases in (T, T + t]].
    pub fn expected_purchases(&self, c: &Purchases, t: f64) -> f64 {
        let (shape, rate) = self.posterior(c);
        (shape * (bounded(t) / rate)).min(f64::MAX)
    }

    /// Writes P(j purchases in (T, T + t]) to `out[j]`; the mass beyond is left out.
    pub fn p_counts(&self, c: &Purchases, t: f64, out: &mut [f64]) {
        let (shape, rate) = self.posterior(c);
        let mut counts = NegativeBinomial::new(shape, bounded(t) / rate);
        out.iter_mut().for_each(|p| *p = counts.next_p());
    }

    /// Purchases in (T, T + t] at a rate that is drawn given the data.
    pub fn draw(&self, c: &Purchases, t: f64, draws: &mut Draws) -> u32 {
        let (shape, rate) = self.posterior(c);
        poisson(draws.gamma(shape) * (bounded(t) / rate), draws) as u32
    }

    /// One such number for each place of `out`.
    pub fn draw_all(&self, c: &Purchases, t: f64, draws: &mut Draws, out: &mut [u32]) {
        out.fill_with(|| self.draw(c, t, draws));
    }

    /// The most likely model, in the customers' unit of time. The optimum is in the cohort's: the
    /// logarithms of r and alpha, and the log-likelihood of times so measured.
    pub(super) fn fit(cohort: &Cohort) -> (Nbd, Optimum<2>) {
        let totals = Totals::new(cohort);
        let objective = |theta: &[f64; 2]| {
            let mut sum = Jet::ZERO;
            let ages = time_table(&cohort.ages, libm::exp(theta[1]));
            totals.add_purchases(1, theta, &ages, &mut sum);
            sum
        };
        // The mean rate r / alpha is as observed, and r is what few shops are far from.
        let log_r = libm::log(0.5);
        let log_alpha = log_r - libm::log(totals.mean_rate(cohort).max(LOWEST_RATE));
        let optimum = maximise(objective, [log_r, log_alpha.clamp(-BOUND, BOUND)], BOUND);
        let [r, alpha] = optimum.theta.map(libm::exp);
        (Nbd { r, alpha: alpha * cohort.unit }, optimum)
    }
}

/// A time that arithmetic is safe with: 0 where it is negative or no number.
pub(super) fn bounded(time: f64) -> f64 {
    if time > 0.0 { time.min(LONGEST) } else { 0.0 }
}

/// Σ ln(c + i), Σ 1 / (c + i) and Σ 1 / (c + i)² over i in `from..to`.
pub(super) fn rising(c: f64, from: u64, to: u64) -> [f64; 3] {
    if to.saturating_sub(from) > LONG_RUN {
        let (low, high) = (c + from as f64, c + to as f64);
        return [
            libm::lgamma(high) - libm::lgamma(low),
            digamma(high) - digamma(low),
            trigamma(low) - trigamma(high),
        ];
    }
    // Logarithms of products, of which far fewer are needed.
    let (mut sum, mut product, mut first, mut second) = (0.0, 1.0, 0.0, 0.0);
    for i in from..to {
        let factor = c + i as f64;
        let inverse = 1.0 / factor;
        first += inverse;
        second += inverse * inverse;
        product *= factor;
        if !(1e-150..1e150).contains(&product) {
            sum += libm::log(product);
            product = 1.0;
        }
    }
    [sum + libm::log(product), first, second]
}

/// A Poisson number with this mean, as a whole number that may be larger than a `u32`.
pub(super) fn poisson(mean: f64, draws: &mut Draws) -> f64 {
    if mean < MANY {
        return f64::from(draws.poisson(mean));
    }
    (mean + mean.sqrt() * draws.normal()).round().max(0.0)
}

/// Probabilities of 0, 1, 2, ... events in a time t at a gamma(size, A) distributed rate.
pub(super) struct NegativeBinomial {
    size: f64,
    /// t / (A + t).
    pub w: f64,
    m: f64,
    /// The next probability, divided by exp(`ln_scale`).
    p: f64,
    /// 0 as soon as the probabilities are large enough to be told from 0.
    ln_scale: f64,
}

impl NegativeBinomial {
    /// `tau` is t / A.
    pub fn new(size: f64, tau: f64) -> NegativeBinomial {
        let ln_none = -size * libm::log1p(tau);
        let (p, ln_scale) =
            if ln_none > -600.0 { (libm::exp(ln_none), 0.0) } else { (1.0, ln_none) };
        NegativeBinomial { size, w: tau / (1.0 + tau), m: 0.0, p, ln_scale }
    }

    /// The probability of one event more than asked about last.
    #[inline]
    pub fn next_p(&mut self) -> f64 {
        let p = if self.ln_scale == 0.0 { self.p } else { 0.0 };
        self.p *= self.ratio();
        self.m += 1.0;
        if self.ln_scale != 0.0 && self.p > 1e100 {
            let ln_p = self.ln_scale + libm::log(self.p);
            (self.p, self.ln_scale) =
                if ln_p > -600.0 { (libm::exp(ln_p), 0.0) } else { (1.0, ln_p) };
        }
        p
    }

    /// The next probability but one by the next. It falls to w, or rises to it where size < 1.
    #[inline]
    pub fn ratio(&self) -> f64 {
        self.w * (self.size + self.m) / (self.m + 1.0)
    }
}

/// What the fits of a cohort need of a time t, for one alpha.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    /// ln(1 + t / alpha).
    pub log: f64,
    /// t / (alpha + t), minus the slope of `log` by ln alpha.
    pub part: f64,
    /// Minus the slope of `part` by ln alpha.
    pub curve: f64,
}

/// One entry per time, in their order.
pub(super) fn time_table(times: &[f64], alpha: f64) -> Vec<Time> {
    let entry = |&t: &f64| {
        let inverse = 1.0 / (alpha + t);
        let part = t * inverse;
        Time { log: libm::log1p(t / alpha), part, curve: part * (alpha * inverse) }
    };
    times.par_iter().with_min_len(TIMES_PER_TASK).map(entry).collect()
}

/// Sums over a cohort that do not depend on parameters.
pub(super) struct Totals {
    /// Ranges of i, and how many customers have more than i repeat purchases.
    pub beyond: Vec<(Range<u64>, f64)>,
    /// Customers and their repeat purchases, by the cohort's ages.
    by_age: Vec<[f64; 2]>,
    pub n_purchases: f64,
}

impl Totals {
    pub fn new(cohort: &Cohort) -> Totals {
        let mut by_age = vec![[0.0; 2]; cohort.ages.len()];
        let mut beyond: Vec<(Range<u64>, f64)> = Vec::new();
        let mut customers = cohort.n_customers;
        for row in &cohort.rows {
            let [all, purchases] = &mut by_age[row.age as usize];
            *all += row.weight;
            *purchases += row.weight * f64::from(row.frequency);
            let before = beyond.last().map_or(0, |(range, _)| range.end);
            if u64::from(row.frequency) > before {
                beyond.push((before..u64::from(row.frequency), customers));
            }
            customers -= row.weight;
        }
        let n_purchases = by_age.iter().map(|[_, purchases]| purchases).sum();
        Totals { beyond, by_age, n_purchases }
    }

    /// Repeat purchases by time.
    pub fn mean_rate(&self, cohort: &Cohort) -> f64 {
        let time: f64 = self.by_age.iter().zip(&cohort.ages).map(|([all, _], age)| all * age).sum();
        if time > 0.0 { self.n_purchases / time } else { 0.0 }
    }

    /// Adds Σ ln (r)_kx + r ln alpha - (r + kx) ln(alpha + T), with `k` events per purchase, and
    /// its derivatives by the first two variables, which are ln r and ln alpha.
    pub fn add_purchases<const N: usize>(
        &self,
        k: u32,
        theta: &[f64; N],
        ages: &[Time],
        sum: &mut Jet<N>,
    ) {
        let r = libm::exp(theta[0]);
        for (range, customers) in &self.beyond {
            let [logs, first, second] =
                rising(r, u64::from(k) * range.start, u64::from(k) * range.end);
            sum.value += customers * logs;
            sum.gradient[0] += customers * (r * first);
            sum.hessian[0][0] += customers * (r * first - r * r * second);
        }
        let events = f64::from(k) * self.n_purchases;
        sum.value -= events * theta[1];
        sum.gradient[1] -= events;
        for ([customers, purchases], age) in self.by_age.iter().zip(ages) {
            let shape = r * customers;
            let events = shape + f64::from(k) * purchases;
            sum.value -= events * age.log;
            sum.gradient[0] -= shape * age.log;
            sum.gradient[1] += events * age.part;
            sum.hessian[0][0] -= shape * age.log;
            sum.hessian[0][1] += shape * age.part;
            sum.hessian[1][0] += shape * age.part;
            sum.hessian[1][1] -= events * age.curve;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchases(frequency: u32, recency: f64, age: f64) -> Purchases {
        Purchases { frequency, recency, age, ln_gaps: 0.0 }
    }

    #[test]
    fn counts_are_negative_binomial_also_where_none_is_all_but_impossible() {
        for (size, tau) in [(0.3, 0.5), (2.0, 1e-9), (0.01, 50.0), (3000.0, 2.0)] {
            let mut counts = NegativeBinomial::new(size, tau);
            let p: Vec<f64> = (0..20_000).map(|_| counts.next_p()).collect();
            let mean: f64 = p.iter().enumerate().map(|(j, p)| j as f64 * p).sum();
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-10, "{size} {tau}");
            assert!((mean / (size * tau) - 1.0).abs() < 1e-10, "{size} {tau}: {mean}");
        }
    }

    #[test]
    fn long_runs_of_a_rising_factorial_meet_short_ones() {
        for c in [0.01, 3.0, 1000.0] {
            let long = rising(c, 5, 30_000);
            let (low, high) = (rising(c, 5, 15_000), rising(c, 15_000, 30_000));
            for i in 0..3 {
                assert!((long[i] / (low[i] + high[i]) - 1.0).abs() < 1e-10, "{c}: {long:?}");
            }
        }
    }

    #[test]
    fn a_fit_is_where_the_likelihood_of_single_customers_is_highest() {
        let ages = [5.0, 20.0, 38.86, 30.0, 12.0, 33.0, 7.0, 38.0];
        let counts = [0, 7, 0, 1, 0, 3, 1, 0];
        let customers: Vec<Purchases> = (ages.iter().zip(counts))
            .map(|(&age, x)| purchases(x, if x > 0 { 0.5 * age } else { 0.0 }, age))
            .collect();
        let cohort = Cohort::new(&customers).unwrap();
        let (fitted, optimum) = Nbd::fit(&cohort);
        assert!(optimum.converged);
        let total = |model: Nbd| customers.iter().map(|c| model.ln_likelihood(c)).sum::<f64>();
        let best = total(fitted);
        let in_units = best + 12.0 * libm::log(cohort.unit);
        assert!((optimum.value - in_units).abs() < 1e-9, "{} {in_units}", optimum.value);
        for factor in [0.99, 1.01] {
            assert!(total(Nbd { r: factor * fitted.r, ..fitted }) < best);
            assert!(total(Nbd { alpha: factor * fitted.alpha, ..fitted }) < best);
        }
    }

    #[test]
    fn strange_times_get_finite_answers() {
        let model = Nbd { r: 0.4, alpha: 12.0 };
        assert!(model.check() && !Nbd { r: f64::NAN, ..model }.check());
        for t in [0.0, -1.0, 1e-320, f64::INFINITY, f64::NAN] {
            let c = purchases(u32::MAX, f64::NAN, t);
            assert!(model.ln_likelihood(&c).is_finite());
            assert!(model.expected_purchases(&c, t) >= 0.0);
            assert!((0.0..=1.0).contains(&model.p_no_purchase(&c, t)));
            let mut out = [f64::NAN; 3];
            model.p_counts(&c, t, &mut out);
            assert!(out.iter().all(|p| (0.0..=1.0).contains(p)), "{t}: {out:?}");
        }
    }
}
