//! The likelihood of a cohort under the Pareto/NBD, with its derivatives, and its maximum.
//!
//! For one number x of purchases, let t_1 < t_2 < … be the times that occur as a recency or an age, and
//! H(t) = s ∫ f(u) / (beta + u) du / f(t) from t to the last of them, found backwards cell by cell.
//! A customer's likelihood is (r)_x alpha^r beta^s (f(t_x) H(t_x) + f(T) (1 − H(T))): both terms are
//! positive, and there is one integral per time, not one per customer.

use super::super::jet::Jet;
use super::super::nbd::BOUND;
use super::super::optimum::{Optimum, maximise};
use super::super::purchases::{Cohort, Row};
use super::Pareto;
use super::dropout::Survival;
use rayon::prelude::*;

/// Rows of a chunk, whose integrals are its own.
const CHUNK_ROWS: usize = 8192;

/// Where fits begin: ln of r, s and beta, the last in mean ages. The purchases give alpha.
const STARTS: [[f64; 3]; 2] = [[-0.4, -0.4, -0.4], [-1.0, -1.0, -2.0]];

/// The least 1 − H that quadrature can tell from 0.
const LEAST_REST: f64 = 1e-12;

/// The least H, whose square must not vanish.
const LEAST_DROPPED: f64 = 1e-150;

impl Pareto {
    /// The most likely model, in the customers' unit of time. The optimum is in the cohort's: the
    /// logarithms of r, alpha, s and beta, and the log-likelihood of times so measured.
    pub(in super::super) fn fit(cohort: &Cohort) -> (Pareto, Optimum<4>) {
        let layout = Layout::new(cohort);
        let rows = cohort.rows.iter();
        let purchases: f64 = rows.map(|row| row.weight * f64::from(row.frequency)).sum();
        let ln_rate = libm::log((purchases / cohort.n_customers).max(1e-5));
        let [first, second] = STARTS.map(|[r, s, beta]| [r, r - ln_rate, s, beta]);
        let climb = |start| maximise(|theta| layout.value(theta), start, BOUND);
        let mut optimum = climb(first);
        // Where the data determine the model, both starts end at the same one; elsewhere an end at a
        // bound may be a lesser maximum.
        if optimum.at_bound.contains(&true) || !optimum.converged {
            let other = climb(second);
            // Ends that differ by rounding are one end.
            if other.value > optimum.value + 1e-9 * (1.0 + optimum.value.abs()) {
                optimum = other;
            }
        }
        let [r, alpha, s, beta] = optimum.theta.map(libm::exp);
        (Pareto { r, alpha: alpha * cohort.unit, s, beta: beta * cohort.unit }, optimum)
    }
}

/// Rows of a chunk with the same number of purchases.
struct Segment {
    frequency: f64,
    /// Ascending.
    times: Vec<f64>,
    /// Customers whose last purchase was at T: they are alive.
    fresh: Vec<(u32, f64)>,
    /// Indices of t_x and T among the times, and the number of customers.
    rows: Vec<(u32, u32, f64)>,
}

/// A cohort laid out for repeated evaluation.
pub(in super::super) struct Layout {
    chunks: Vec<Vec<Segment>>,
    /// Customers with more than i purchases.
    beyond: Vec<f64>,
}

impl Layout {
    pub fn new(cohort: &Cohort) -> Layout {
        let mut beyond = vec![0.0; cohort.max_frequency as usize + 1];
        for row in &cohort.rows {
            beyond[row.frequency as usize] += row.weight;
        }
        let mut above = 0.0;
        for count in beyond.iter_mut().rev() {
            above += std::mem::replace(count, above);
        }
        let segments = |rows: &[Row]| {
            let same = rows.chunk_by(|a, b| a.frequency == b.frequency);
            same.map(|rows| segment(cohort, rows)).collect()
        };
        Layout { chunks: cohort.rows.par_chunks(CHUNK_ROWS).map(segments).collect(), beyond }
    }

    /// The log-likelihood at (ln r, ln alpha, ln s, ln beta), without x ln(unit) of each customer.
    pub fn value(&self, theta: &[f64; 4]) -> Jet<4> {
        let [r, alpha, s, beta] = theta.map(libm::exp);
        let model = Pareto { r, alpha, s, beta };
        let parts: Vec<Jet<4>> = self
            .chunks
            .par_iter()
            .map(|chunk| chunk.iter().fold(Jet::ZERO, |sum, segment| sum + segment.value(&model)))
            .collect();
        let mut total = parts.into_iter().fold(Jet::ZERO, |sum, part| sum + part);
        // Σ over customers of ln((r)_x / alpha^x): the i-th factor is (r + i) / alpha.
        for (i, count) in self.beyond.iter().enumerate() {
            let i = i as f64;
            let share = r / (r + i);
            total.value += count * libm::log((r + i) / alpha);
            total.gradient[0] += count * share;
            total.gradient[1] -= count;
            total.hessian[0][0] += count * share * (i / (r + i));
        }
        total
    }
}

/// Lays out rows with the same number of purchases.
fn segment(cohort: &Cohort, rows: &[Row]) -> Segment {
    let ends = |row: &Row| (cohort.recencies[row.recency as usize], cohort.ages[row.age as usize]);
    let mut times: Vec<f64> = rows.iter().flat_map(|row| <[f64; 2]>::from(ends(row))).collect();
    times.sort_unstable_by(f64::total_cmp);
    times.dedup();
    let index = |time: f64| times.partition_point(|&other| other < time) as u32;
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    for row in rows {
        let (recency, age) = ends(row);
        if recency < age {
            stale.push((index(recency), index(age), row.weight));
        } else {
            fresh.push((index(age), row.weight));
        }
    }
    let frequency = rows.first().map_or(0.0, |row| f64::from(row.frequency));
    Segment { frequency, times, fresh, rows: stale }
}

/// What is known at one time: jets of ln f, ln(f H) and ln(f (1 − H)), and the weights that rows gave
/// to their derivatives.
struct Moment {
    ln_f: Jet<4>,
    ln_dropped: Jet<4>,
    ln_rest: Jet<4>,
    dropped_weight: f64,
    rest_weight: f64,
}

impl Segment {
    fn value(&self, model: &Pareto) -> Jet<4> {
        let mut moments = self.moments(model);
        let mut total = Jet::ZERO;
        for &(recency, age, weight) in &self.rows {
            let (dropped, rest) =
                (&moments[recency as usize].ln_dropped, &moments[age as usize].ln_rest);
            let gap = rest.value - dropped.value;
            let e = libm::exp(-gap.abs());
            // The share of f(T) (1 − H(T)) in the likelihood.
            let larger = 1.0 / (1.0 + e);
            let share = if gap >= 0.0 { larger } else { e * larger };
            total.value += weight * (dropped.value.max(rest.value) + libm::log1p(e));
            let curve = weight * e * larger * larger;
            let slope: [f64; 4] = std::array::from_fn(|i| rest.gradient[i] - dropped.gradient[i]);
            for i in 0..4 {
                for j in 0..4 {
                    total.hessian[i][j] += curve * slope[i] * slope[j];
                }
            }
            moments[recency as usize].dropped_weight += weight * (1.0 - share);
            moments[age as usize].rest_weight += weight * share;
        }
        for moment in &moments {
            let weighted = [
                (&moment.ln_dropped, moment.dropped_weight),
                (&moment.ln_rest, moment.rest_weight),
            ];
            for (jet, weight) in weighted {
                if weight > 0.0 {
                    let value = total.value;
                    total += jet.scale(weight);
                    total.value = value;
                }
            }
        }
        for &(age, weight) in &self.fresh {
            total += moments[age as usize].ln_f.scale(weight);
        }
        total
    }

    /// Goes through the times backwards.
    fn moments(&self, model: &Pareto) -> Vec<Moment> {
        let n = model.r + self.frequency;
        let survival = Survival { n, alpha: model.alpha, s: model.s, beta: model.beta };
        let mut moments = Vec::with_capacity(self.times.len());
        let mut dropped = Jet::ZERO;
        let mut later: Option<(f64, Jet<4>)> = None;
        for &time in self.times.iter().rev() {
            let ln_f = ln_f(model, n, time);
            if let Some((to, ln_f_later)) = later {
                dropped = cell(model, &survival, time, to) + (ln_f_later - ln_f).exp() * dropped;
            }
            let rest = (1.0 - dropped.value).max(LEAST_REST);
            let inverse = 1.0 / rest;
            let ln_rest = dropped.chain([libm::log(rest), -inverse, -inverse * inverse]);
            // At the last time nothing is dropped, and no row asks.
            let ln_dropped = dropped.shift((LEAST_DROPPED - dropped.value).max(0.0)).ln();
            moments.push(Moment {
                ln_f,
                ln_dropped: ln_f + ln_dropped,
                ln_rest: ln_f + ln_rest,
                dropped_weight: 0.0,
                rest_weight: 0.0,
            });
            later = Some((time, ln_f));
        }
        moments.reverse();
        moments
    }
}

/// ln(f(t) / f(0)).
fn ln_f(model: &Pareto, n: f64, t: f64) -> Jet<4> {
    let (a, b) = (libm::log1p(t / model.alpha), libm::log1p(t / model.beta));
    // How much of alpha + t is t, which is −∂a / ∂ ln alpha.
    let (past_alpha, past_beta) = (t / (model.alpha + t), t / (model.beta + t));
    let mut jet = Jet::constant(-n * a - model.s * b);
    jet.gradient = [-model.r * a, n * past_alpha, -model.s * b, model.s * past_beta];
    jet.hessian[0][0] = -model.r * a;
    jet.hessian[0][1] = model.r * past_alpha;
    jet.hessian[1][0] = jet.hessian[0][1];
    jet.hessian[1][1] = -n * past_alpha * (1.0 - past_alpha);
    jet.hessian[2][2] = -model.s * b;
    jet.hessian[2][3] = model.s * past_beta;
    jet.hessian[3][2] = jet.hessian[2][3];
    jet.hessian[3][3] = -model.s * past_beta * (1.0 - past_beta);
    jet
}

/// s ∫ f(u) / (beta + u) du / f(from) over one cell.
///
/// The first and second derivatives of the integrand's logarithm are polynomials of at most the second
/// degree in z = (ln ((alpha+u)/(alpha+from)), alpha/(alpha+u) − alpha/(alpha+from), and the same of
/// beta), so the moments of z under the integrand are all that its derivatives need.
fn cell(model: &Pareto, survival: &Survival, from: f64, to: f64) -> Jet<4> {
    let (alpha, beta) = (survival.alpha + from, survival.beta + from);
    let (at_alpha, at_beta) = (survival.alpha / alpha, survival.beta / beta);
    let mut sum = 0.0;
    let mut first = [0.0; 4];
    let mut second = [[0.0; 4]; 4];
    survival.visit(from, to, |node| {
        let z = [
            node.ln_alpha,
            -at_alpha * node.elapsed / (alpha + node.elapsed),
            node.ln_beta,
            -at_beta * node.elapsed / (beta + node.elapsed),
        ];
        sum += node.weight;
        for i in 0..4 {
            let weighted = node.weight * z[i];
            first[i] += weighted;
            for j in 0..4 {
                second[i][j] += weighted * z[j];
            }
        }
    });
    // The integrand's logarithm has the slopes factor · z + offset.
    let Survival { n, s, .. } = *survival;
    let factor = [-model.r, -n, -s, -(s + 1.0)];
    let offset = [0.0, 0.0, 1.0, -at_beta];
    let mut jet = Jet::constant(sum);
    for i in 0..4 {
        jet.gradient[i] = factor[i] * first[i] + offset[i] * sum;
        for j in 0..4 {
            jet.hessian[i][j] = factor[i] * factor[j] * second[i][j]
                + factor[i] * offset[j] * first[i]
                + factor[j] * offset[i] * first[j]
                + offset[i] * offset[j] * sum;
        }
    }
    // And these are its own second derivatives.
    let curve = |at: f64, i: usize| (1.0 - 2.0 * at) * first[i] - second[i][i];
    jet.hessian[0][0] -= model.r * first[0];
    jet.hessian[0][1] -= model.r * first[1];
    jet.hessian[1][0] -= model.r * first[1];
    jet.hessian[1][1] -= n * curve(at_alpha, 1);
    jet.hessian[2][2] -= s * first[2];
    jet.hessian[2][3] -= s * first[3];
    jet.hessian[3][2] -= s * first[3];
    jet.hessian[3][3] -= (s + 1.0) * curve(at_beta, 3) + at_beta * (1.0 - at_beta) * sum;
    jet
}

#[cfg(test)]
mod tests {
    use super::super::super::purchases::Purchases;
    use super::*;
    use crate::domain::{Draws, Seed};

    /// Customers of a model, at the resolution of days.
    fn customers(n: usize, model: &Pareto, span: f64) -> Vec<Purchases> {
        let mut draws = Draws::new(Seed(4));
        let customer = |_| {
            let age = (draws.unit() * span).ceil();
            let rate = draws.gamma(model.r) / model.alpha;
            let lifetime = draws.exponential() * model.beta / draws.gamma(model.s);
            let (mut time, mut frequency, mut recency) = (0.0, 0, 0.0);
            loop {
                time += draws.exponential() / rate;
                let day = f64::ceil(time);
                if time > lifetime || day > age {
                    break Purchases { frequency, recency, age, ln_gaps: 0.0 };
                }
                if day > recency {
                    (frequency, recency) = (frequency + 1, day);
                }
            }
        };
        (0..n).map(customer).collect()
    }

    const MODEL: Pareto = Pareto { r: 0.6, alpha: 30.0, s: 0.7, beta: 40.0 };

    #[test]
    fn a_cohort_is_as_likely_as_its_customers() {
        let customers = customers(20_000, &MODEL, 100.0);
        let cohort = Cohort::new(&customers).unwrap();
        let layout = Layout::new(&cohort);
        for model in [
            MODEL,
            Pareto { r: 20.0, alpha: 0.01, s: 0.02, beta: 1e4 },
            Pareto { r: 0.02, alpha: 1e4, s: 20.0, beta: 0.01 },
        ] {
            let unit = cohort.unit;
            let theta = [model.r, model.alpha / unit, model.s, model.beta / unit].map(libm::log);
            let n_purchases: f64 = customers.iter().map(|each| f64::from(each.frequency)).sum();
            let got = layout.value(&theta).value - n_purchases * libm::log(unit);
            let expected: f64 = customers.iter().map(|each| model.ln_likelihood(each)).sum();
            assert!((got / expected - 1.0).abs() < 1e-11, "{got} {expected}");
        }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let layout = Layout::new(&Cohort::new(&customers(500, &MODEL, 100.0)).unwrap());
        for at in [[-0.5, -0.6, -0.4, -0.2], [1.0, -3.0, 2.0, 4.0], [-2.0, 3.0, -3.0, -4.0]] {
            let got = layout.value(&at);
            for i in 0..4 {
                let step = 1e-4;
                let (mut above, mut below) = (at, at);
                above[i] += step;
                below[i] -= step;
                let (above, below) = (layout.value(&above), layout.value(&below));
                let slope = (above.value - below.value) / (2.0 * step);
                assert!((got.gradient[i] - slope).abs() < 1e-5 * (1.0 + slope.abs()));
                for j in 0..4 {
                    let curve = (above.gradient[j] - below.gradient[j]) / (2.0 * step);
                    let difference = (got.hessian[i][j] - curve).abs();
                    assert!(difference < 1e-5 * (1.0 + curve.abs()), "{at:?} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn a_fit_finds_the_model_in_any_unit_of_time() {
        let mut customers = customers(20_000, &MODEL, 300.0);
        let (fitted, optimum) = Pareto::fit(&Cohort::new(&customers).unwrap());
        assert!(optimum.converged && optimum.n_iter < 20);
        let near = |got: f64, expected: f64, by: f64| (got / expected - 1.0).abs() < by;
        // Days that hold several purchases make r, alpha and beta seem a little larger.
        assert!(near(fitted.r, MODEL.r, 0.15) && near(fitted.alpha, MODEL.alpha, 0.15));
        assert!(near(fitted.s, MODEL.s, 0.15) && near(fitted.beta, MODEL.beta, 0.3), "{fitted:?}");
        for customer in &mut customers {
            customer.age /= 1000.0;
            customer.recency /= 1000.0;
        }
        let (rescaled, _) = Pareto::fit(&Cohort::new(&customers).unwrap());
        assert!(near(rescaled.r, fitted.r, 1e-6) && near(rescaled.s, fitted.s, 1e-6));
        assert!(near(1000.0 * rescaled.beta, fitted.beta, 1e-6));
    }

    #[test]
    fn cohorts_that_determine_nothing_still_end() {
        let alike =
            |frequency, recency, age| vec![Purchases { frequency, recency, age, ln_gaps: 0.0 }; 9];
        for customers in [
            alike(0, 0.0, 0.0),
            alike(0, 0.0, 5.0),
            alike(1, 5.0, 5.0),
            alike(3, 2.0, 5.0),
            alike(10_000, 1e-3, 5.0),
            [alike(1, 1e-200, 2e-200), alike(0, 0.0, 5.0)].concat(),
        ] {
            let (fitted, optimum) = Pareto::fit(&Cohort::new(&customers).unwrap());
            assert!(optimum.value.is_finite() && fitted.check(), "{customers:?} {fitted:?}");
        }
    }
}
