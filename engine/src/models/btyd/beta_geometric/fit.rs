//! The most likely model of a cohort.

use super::super::jet::Jet;
use super::super::nbd::{BOUND, LN_NOBODY, LOWEST_RATE, NOBODY, Nbd};
use super::super::optimum::{Optimum, maximise};
use super::super::purchases::{Cohort, Row};
use super::BetaGeometric;
use super::likelihood::Likelihood;
use rayon::prelude::*;

/// Where fits start: r, the mean rate of those who are alive by that of all, a and b. Some cohorts
/// have two optima: one where most customers have about the same probability to drop out, and one
/// where few or none do except those who do at once. Starts lie on either side.
const STARTS: [[f64; 4]; 3] = [[0.5, 2.0, 0.5, 2.0], [0.2, 3.0, 0.2, 0.2], [0.3, 1.5, 1.0, 1.0]];

/// Customers on whom starts are tried, where a cohort has more rows than that.
const RACE_CUSTOMERS: usize = 8192;
/// What is best for them starts the fit to all from no further than this: near infinity a
/// likelihood has no slope that would lead back.
const POLISH_BOUND: f64 = 6.0;

impl BetaGeometric {
    /// The most likely model with this `k` and drop-out, in the customers' unit of time. The
    /// optimum is in the cohort's: the logarithms of r, alpha, a and b, and the log-likelihood of
    /// times so measured.
    ///
    /// Where customers do not drop out, the likelihood rises for ever towards a / b = 0, and a or b
    /// ends at its bound. That alone does not tell: a and b are huge too where all customers are
    /// equally likely to drop out, and tiny where each drops out at once or never. What tells is
    /// that the value exceeds that of [`Self::fit_without_drop_out`] by next to nothing.
    pub(in super::super) fn fit(
        cohort: &Cohort,
        k: u32,
        modified: bool,
    ) -> (BetaGeometric, Optimum<4>) {
        let k = k.clamp(1, 3);
        let likelihood = Likelihood::new(cohort, k, modified);
        let optimum = if cohort.rows.len() <= RACE_CUSTOMERS {
            race(&likelihood)
        } else {
            let start = race(&Likelihood::new(&sample(cohort), k, modified)).theta;
            let start = start.map(|log| log.clamp(-POLISH_BOUND, POLISH_BOUND));
            maximise(|theta| likelihood.at(theta), start, BOUND)
        };
        (BetaGeometric::new(cohort, optimum.theta, k, modified), optimum)
    }

    /// The most likely model in which nobody drops out. The optimum
    /// holds the logarithms of r and alpha; its value is comparable to that of [`Self::fit`] of the
    /// same `k`. Of k = 1 it is [`Nbd::fit`], which is faster.
    pub(in super::super) fn fit_without_drop_out(
        cohort: &Cohort,
        k: u32,
    ) -> (BetaGeometric, Optimum<2>) {
        let k = k.clamp(1, 3);
        let likelihood = Likelihood::new(cohort, k, false);
        let whole = |theta: &[f64; 2]| [theta[0], theta[1], LN_NOBODY, 0.0];
        let objective = |theta: &[f64; 2]| {
            let Jet { value, gradient: [r, alpha, ..], hessian: [by_r, by_alpha, ..] } =
                likelihood.at(&whole(theta));
            let hessian = [[by_r[0], by_r[1]], [by_alpha[0], by_alpha[1]]];
            Jet { value, gradient: [r, alpha], hessian }
        };
        let events = Nbd::fit(cohort).0;
        let start = [events.r, events.alpha / (f64::from(k) * cohort.unit)].map(libm::log);
        let optimum = maximise(objective, start, BOUND);
        let [r, alpha] = optimum.theta.map(libm::exp);
        let alpha = alpha * cohort.unit;
        (BetaGeometric { r, alpha, a: NOBODY, b: 1.0, k, modified: false }, optimum)
    }

    fn new(cohort: &Cohort, theta: [f64; 4], k: u32, modified: bool) -> BetaGeometric {
        let [r, alpha, a, b] = theta.map(libm::exp);
        BetaGeometric { r, alpha: alpha * cohort.unit, a, b, k, modified }
    }
}

/// The best of the optima that are reached from the starts.
fn race(likelihood: &Likelihood) -> Optimum<4> {
    let mean_rate = likelihood.mean_rate().max(LOWEST_RATE);
    let from = |&[r, faster, a, b]: &[f64; 4]| {
        let start = [r, r / (faster * mean_rate), a, b].map(libm::log);
        maximise(|theta| likelihood.at(theta), start, BOUND)
    };
    let [first, others @ ..] = &STARTS;
    // Of equals the first, whichever ends first.
    let others: Vec<Optimum<4>> = others.par_iter().map(from).collect();
    others
        .into_iter()
        .fold(from(first), |best, next| if next.value > best.value { next } else { best })
}

/// A systematic sample by weight of the rows, in their order: every so many-th customer.
fn sample(cohort: &Cohort) -> Cohort {
    let per_draw = cohort.n_customers / RACE_CUSTOMERS as f64;
    let mut rows = Vec::with_capacity(RACE_CUSTOMERS);
    let (mut ages, mut recencies) = (Kept::new(&cohort.ages), Kept::new(&cohort.recencies));
    let (mut customers, mut drawn) = (0.0, 0.0);
    for row in &cohort.rows {
        customers += row.weight;
        let upto = (customers / per_draw + 0.5).floor();
        if upto > drawn {
            let (recency, age) = (recencies.index(row.recency), ages.index(row.age));
            rows.push(Row { recency, age, weight: upto - drawn, ..*row });
            drawn = upto;
        }
    }
    Cohort {
        unit: cohort.unit,
        max_frequency: rows.iter().map(|row| row.frequency).max().unwrap_or(0),
        rows,
        ages: ages.kept,
        recencies: recencies.kept,
        n_customers: drawn,
        ln_gaps: 0.0,
    }
}

/// The times of a table that are still used, in order of first use.
struct Kept<'a> {
    times: &'a [f64],
    index: Vec<Option<u32>>,
    kept: Vec<f64>,
}

impl<'a> Kept<'a> {
    fn new(times: &'a [f64]) -> Kept<'a> {
        Kept { times, index: vec![None; times.len()], kept: Vec::new() }
    }

    /// Where the time at `before` is kept.
    fn index(&mut self, before: u32) -> u32 {
        *self.index[before as usize].get_or_insert_with(|| {
            self.kept.push(self.times[before as usize]);
            (self.kept.len() - 1) as u32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{family, play};
    use super::*;
    use crate::domain::{Draws, Seed};

    /// Customers of the ages 20 to 40, so many that only some of their rows are raced.
    fn cohort(model: &BetaGeometric, n: u32) -> Cohort {
        let mut draws = Draws::new(Seed(11));
        let customers: Vec<_> =
            (0..n).map(|i| play(model, 20.0 + f64::from(i % 20), 0.0, &mut draws).0).collect();
        Cohort::new(&customers).unwrap()
    }

    #[test]
    fn a_fit_finds_what_customers_were_drawn_from() {
        for model in family() {
            let cohort = cohort(&model, 40_000);
            let (fitted, optimum) = BetaGeometric::fit(&cohort, model.k, model.modified);
            assert!(optimum.converged && optimum.at_bound == [false; 4], "{optimum:?}");
            for (got, want) in [(fitted.r, model.r), (fitted.alpha, model.alpha)] {
                assert!((got / want - 1.0).abs() < 0.1, "{fitted:?}");
            }
            let drop_out = |m: &BetaGeometric| m.a / (m.a + m.b);
            assert!((drop_out(&fitted) / drop_out(&model) - 1.0).abs() < 0.1, "{fitted:?}");
            let without = BetaGeometric::fit_without_drop_out(&cohort, model.k).1;
            assert!(optimum.value - without.value > 100.0);
        }
    }

    #[test]
    fn without_drop_out_there_is_nothing_to_gain() {
        for model in family().filter(|model| !model.modified) {
            let cohort = cohort(&BetaGeometric { a: 1e-9, ..model }, 3000);
            let (_, optimum) = BetaGeometric::fit(&cohort, model.k, false);
            let (fitted, without) = BetaGeometric::fit_without_drop_out(&cohort, model.k);
            assert!((optimum.value - without.value).abs() < 2.0, "{optimum:?} {without:?}");
            assert!((fitted.r / model.r - 1.0).abs() < 0.2, "{fitted:?}");
            if model.k == 1 {
                assert!((Nbd::fit(&cohort).1.value - without.value).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_sample_has_the_cohorts_shares() {
        let cohort = cohort(&BetaGeometric { ..family().next().unwrap() }, 40_000);
        let sample = sample(&cohort);
        assert!(sample.rows.len() < cohort.rows.len());
        let without = |cohort: &Cohort| {
            let rows = cohort.rows.iter().filter(|row| row.frequency == 0);
            rows.map(|row| row.weight).sum::<f64>() / cohort.n_customers
        };
        assert_eq!(sample.n_customers, RACE_CUSTOMERS as f64);
        assert!((without(&sample) - without(&cohort)).abs() < 1e-3);
    }

    #[test]
    fn cohorts_that_tell_nothing_are_fitted_to_something() {
        let some = |frequency, recency, age| super::super::Purchases {
            frequency,
            recency,
            age,
            ln_gaps: 0.0,
        };
        for customers in [
            vec![some(0, 0.0, 0.0)],
            vec![some(0, 0.0, 9.0); 5],
            vec![some(1, 2.0, 2.0)],
            vec![some(u32::MAX, 1e-3, 1e9), some(3, 1.0, 1.0)],
        ] {
            let cohort = Cohort::new(&customers).unwrap();
            for k in 1..=3 {
                let (model, optimum) = BetaGeometric::fit(&cohort, k, k == 2);
                assert!(model.check() && optimum.value.is_finite(), "{optimum:?}");
            }
        }
    }
}
