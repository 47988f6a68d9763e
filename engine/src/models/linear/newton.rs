//! Generalised linear models with an elastic-net penalty by Newton's method, each step by coordinate
//! descent on the quadratic that the loss is near the last one (Friedman, Hastie & Tibshirani 2010,
//! "Regularization Paths for Generalized Linear Models", *Journal of Statistical Software* 33(1)).
//!
//! A pass over the rows gives the gradient and the curvature; with a few dozen columns all else costs
//! nothing, so that a hundred thousand rows take milliseconds.

use super::Linear;
use super::logistic::{sigmoid, softplus};
use crate::models::{Diagnostics, Fit, FitError};
use rayon::prelude::*;

/// Rows that one task sums up. Sums are added in the order of the rows, whatever the threads.
const CHUNK_ROWS: usize = 4_096;

const MAX_STEPS: u32 = 100;
const MAX_SWEEPS: u32 = 100_000;

/// A step that moves no coefficient by more has arrived.
const TOLERANCE: f64 = 1e-9;

/// Beyond this e^η says no more than that a row is far off.
const LARGEST_LOG: f64 = 30.0;

/// How the linear predictor η tells the mean of the target, and by which loss it is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The mean is η; half the squared error.
    Identity,
    /// The log-odds are η; log loss.
    Logit,
    /// The logarithm of the mean is η; half the Poisson deviance, also of amounts.
    Log,
}

/// Hyperparameters of a generalised linear model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GlmParams {
    pub link: Link,
    /// Weight of the penalty against the mean loss: (1 - l1_ratio) / 2 |b|² + l1_ratio |b|₁. The
    /// intercept is free.
    pub penalty: f64,
    pub l1_ratio: f64,
}

/// Rows with a target each.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// `(n, width)`, row by row.
    pub rows: &'a [f64],
    pub width: usize,
    /// `(n,)`; 0 or 1 for [`Link::Logit`], not negative for [`Link::Log`].
    pub targets: &'a [f64],
}

/// What a pass over the rows gives, per row: the loss, its gradient by the coefficients and the
/// intercept, and its curvature, a full matrix of `(width + 1, width + 1)`.
struct Point {
    loss: f64,
    gradient: Vec<f64>,
    curvature: Vec<f64>,
}

impl GlmParams {
    /// Fits the model. The same rows give the same bits, for any number of threads.
    ///
    /// # Errors
    /// [`FitError::TooFewRows`] of no rows, [`FitError::NotFinite`], [`FitError::OneClass`] where all
    /// targets of a logit are the same or all of a log link are 0, and [`FitError::Solver`] where no
    /// step lowers the loss before the gradient is flat.
    pub fn fit(&self, data: &Targets<'_>) -> Result<Fit<Linear>, FitError> {
        let n = data.targets.len();
        if n == 0 {
            return Err(FitError::TooFewRows { got: 0, need: 1 });
        }
        let rows = || data.rows.chunks_exact(data.width.max(1)).zip(data.targets);
        let is_finite = |(row, target): (&[f64], &f64)| {
            row.iter().chain([target]).all(|value| value.is_finite())
        };
        if let Some(row) = rows().position(|row| !is_finite(row)) {
            return Err(FitError::NotFinite { row });
        }
        let mean = data.targets.iter().sum::<f64>() / n as f64;
        let start = match self.link {
            Link::Identity => mean,
            Link::Logit if mean > 0.0 && mean < 1.0 => libm::log(mean / (1.0 - mean)),
            Link::Log if mean > 0.0 => libm::log(mean),
            Link::Logit | Link::Log => return Err(FitError::OneClass),
        };
        // The intercept stands last.
        let mut at = vec![0.0; data.width + 1];
        at[data.width] = start;
        let mut point = self.point(data, &at);
        let mut objective = point.loss + self.penalty_of(&at);
        let (mut n_iter, mut converged) = (0, false);
        while n_iter < MAX_STEPS && !converged {
            n_iter += 1;
            let step = self.step(&point, &at);
            converged = step.iter().all(|step| step.abs() <= TOLERANCE);
            let mut share = 1.0;
            loop {
                let next: Vec<f64> =
                    at.iter().zip(&step).map(|(at, step)| at + share * step).collect();
                let there = self.point(data, &next);
                let reached = there.loss + self.penalty_of(&next);
                if reached <= objective {
                    (at, point, objective) = (next, there, reached);
                    break;
                }
                share *= 0.5;
                if share < 1e-6 {
                    // Rounding is all that is left to be gained, or nothing can be.
                    converged |= step.iter().all(|step| step.abs() <= 1e-4);
                    if converged {
                        break;
                    }
                    let message = "no step lowers the loss".to_owned();
                    return Err(FitError::Solver { solver: "newton", message });
                }
            }
        }
        let intercept = at.pop().unwrap_or_default();
        let notes = if converged { vec![] } else { vec![format!("stopped after {n_iter} steps")] };
        Ok(Fit {
            model: Linear { intercept, coefficients: at },
            diagnostics: Diagnostics { converged, n_iter: Some(n_iter), objective, run: 0, notes },
        })
    }

    fn penalty_of(&self, at: &[f64]) -> f64 {
        let coefficients = &at[..at.len() - 1];
        let squares: f64 = coefficients.iter().map(|value| value * value).sum();
        let sizes: f64 = coefficients.iter().map(|value| value.abs()).sum();
        self.penalty * ((1.0 - self.l1_ratio) * 0.5 * squares + self.l1_ratio * sizes)
    }

    fn point(&self, data: &Targets<'_>, at: &[f64]) -> Point {
        let width = data.width + 1;
        let chunks = data
            .rows
            .par_chunks(CHUNK_ROWS * data.width.max(1))
            .zip(data.targets.par_chunks(CHUNK_ROWS));
        let sums: Vec<Point> = chunks.map(|(rows, targets)| self.sums(rows, targets, at)).collect();
        let mut all =
            Point { loss: 0.0, gradient: vec![0.0; width], curvature: vec![0.0; width * width] };
        for sum in sums {
            all.loss += sum.loss;
            all.gradient.iter_mut().zip(sum.gradient).for_each(|(all, part)| *all += part);
            all.curvature.iter_mut().zip(sum.curvature).for_each(|(all, part)| *all += part);
        }
        let n = data.targets.len() as f64;
        all.loss /= n;
        all.gradient.iter_mut().for_each(|value| *value /= n);
        for row in 0..width {
            for column in 0..=row {
                let value = all.curvature[row * width + column] / n;
                all.curvature[row * width + column] = value;
                all.curvature[column * width + row] = value;
            }
        }
        all
    }

    /// The sums over some rows; of the curvature the lower triangle.
    fn sums(&self, rows: &[f64], targets: &[f64], at: &[f64]) -> Point {
        let width = at.len();
        let mut sums =
            Point { loss: 0.0, gradient: vec![0.0; width], curvature: vec![0.0; width * width] };
        // The intercept is the weight of a column of ones.
        let mut row = vec![1.0; width];
        for (values, &target) in rows.chunks_exact((width - 1).max(1)).zip(targets) {
            row[..width - 1].copy_from_slice(&values[..width - 1]);
            let eta: f64 = row.iter().zip(at).map(|(value, weight)| value * weight).sum();
            let (loss, slope, weight) = self.of_row(eta, target);
            sums.loss += loss;
            for (index, &value) in row.iter().enumerate() {
                sums.gradient[index] += slope * value;
                let weighted = weight * value;
                let of_index = &mut sums.curvature[index * width..][..=index];
                of_index.iter_mut().zip(&row).for_each(|(sum, other)| *sum += weighted * other);
            }
        }
        sums
    }

    /// The loss of one row, and its first two derivatives by η.
    fn of_row(&self, eta: f64, target: f64) -> (f64, f64, f64) {
        match self.link {
            Link::Identity => (0.5 * (target - eta) * (target - eta), eta - target, 1.0),
            Link::Logit => {
                let p = sigmoid(eta);
                (softplus(eta) - target * eta, p - target, p * (1.0 - p))
            }
            Link::Log => {
                let mean = libm::exp(eta.min(LARGEST_LOG));
                // Beyond that the loss goes on as a straight line.
                let beyond = mean * (eta - LARGEST_LOG).max(0.0);
                (mean + beyond - target * eta, mean - target, mean)
            }
        }
    }

    /// The step to the least of the quadratic and the penalty.
    fn step(&self, point: &Point, at: &[f64]) -> Vec<f64> {
        let width = at.len();
        let (l1, l2) = (self.penalty * self.l1_ratio, self.penalty * (1.0 - self.l1_ratio));
        let mut step = vec![0.0; width];
        // The gradient of the quadratic at the step.
        let mut slope = point.gradient.clone();
        for _ in 0..MAX_SWEEPS {
            let mut largest: f64 = 0.0;
            for index in 0..width {
                let curvature = point.curvature[index * width + index];
                let is_free = index + 1 == width;
                let (l1, l2) = if is_free { (0.0, 0.0) } else { (l1, l2) };
                if curvature + l2 <= 0.0 {
                    continue;
                }
                let here = at[index] + step[index];
                let wanted = curvature * here - slope[index];
                let next = soft(wanted, l1) / (curvature + l2);
                let moved = next - here;
                if moved != 0.0 {
                    step[index] += moved;
                    let row = &point.curvature[index * width..][..width];
                    slope.iter_mut().zip(row).for_each(|(slope, value)| *slope += moved * value);
                    largest = largest.max(moved.abs());
                }
            }
            if largest <= 1e-3 * TOLERANCE {
                break;
            }
        }
        step
    }
}

/// The least of a parabola with an absolute value on it.
fn soft(value: f64, threshold: f64) -> f64 {
    if value > threshold {
        value - threshold
    } else if value < -threshold {
        value + threshold
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;
    use rand::Rng;

    /// Rows of two columns that lean on each other, and targets by a known predictor.
    fn drawn(n: usize, link: Link) -> (Vec<f64>, Vec<f64>) {
        let mut rng = Seed(3).rng();
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let a: f64 = rng.gen_range(-1.0..1.0);
            let b = 0.9 * a + rng.gen_range(-0.3..0.3);
            rows.extend([a, b]);
            let eta = 0.5 + a - 2.0 * b;
            targets.push(match link {
                Link::Identity => eta + rng.gen_range(-0.1..0.1),
                Link::Logit => f64::from(u8::from(rng.gen_range(0.0..1.0) < sigmoid(eta))),
                Link::Log => (libm::exp(eta) * rng.gen_range(0.0..2.0)).floor(),
            });
        }
        (rows, targets)
    }

    #[test]
    fn at_the_optimum_the_gradient_is_the_penaltys() {
        for link in [Link::Identity, Link::Logit, Link::Log] {
            for l1_ratio in [0.0, 0.5, 1.0] {
                let (rows, targets) = drawn(10_000, link);
                let data = Targets { rows: &rows, width: 2, targets: &targets };
                let params = GlmParams { link, penalty: 0.02, l1_ratio };
                let fit = params.fit(&data).unwrap();
                assert!(fit.diagnostics.converged, "{link:?} {l1_ratio}");
                let mut at = fit.model.coefficients.clone();
                at.push(fit.model.intercept);
                let gradient = params.point(&data, &at).gradient;
                assert!(gradient[2].abs() < 1e-8, "{link:?}: {gradient:?}");
                for (weight, slope) in at[..2].iter().zip(&gradient) {
                    let smooth = slope + 0.02 * (1.0 - l1_ratio) * weight;
                    let l1 = 0.02 * l1_ratio;
                    let rest = if *weight == 0.0 {
                        (smooth.abs() - l1).max(0.0)
                    } else {
                        smooth + l1 * weight.signum()
                    };
                    assert!(rest.abs() < 1e-8, "{link:?} {l1_ratio}: {rest}");
                }
            }
        }
    }

    #[test]
    fn without_a_penalty_the_truth_is_found() {
        for link in [Link::Identity, Link::Logit] {
            let (rows, targets) = drawn(200_000, link);
            let data = Targets { rows: &rows, width: 2, targets: &targets };
            let fit = GlmParams { link, penalty: 0.0, l1_ratio: 0.0 }.fit(&data).unwrap().model;
            let [a, b] = [fit.coefficients[0], fit.coefficients[1]];
            let near = |value: f64, truth: f64| (value - truth).abs() < 0.1;
            assert!(near(a, 1.0) && near(b, -2.0) && near(fit.intercept, 0.5), "{link:?} {fit:?}");
        }
    }

    #[test]
    fn what_tells_nothing_is_refused() {
        let fit = |link, targets: &[f64]| {
            let rows = vec![1.0; targets.len()];
            GlmParams { link, penalty: 0.1, l1_ratio: 0.0 }
                .fit(&Targets { rows: &rows, width: 1, targets })
                .map(|fit| fit.model)
        };
        assert_eq!(fit(Link::Logit, &[1.0, 1.0]), Err(FitError::OneClass));
        assert_eq!(fit(Link::Log, &[0.0, 0.0]), Err(FitError::OneClass));
        assert_eq!(fit(Link::Identity, &[]), Err(FitError::TooFewRows { got: 0, need: 1 }));
        assert_eq!(fit(Link::Log, &[0.0, f64::NAN]), Err(FitError::NotFinite { row: 1 }));
        // A constant column adds nothing to the intercept.
        let model = fit(Link::Log, &[1.0, 3.0]).unwrap();
        assert!(
            (model.intercept + model.coefficients[0] - libm::log(2.0)).abs() < 1e-6,
            "{model:?}"
        );
    }
}
