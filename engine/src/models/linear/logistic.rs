//! Logistic regression with an L2 penalty, by linfa-logistic's L-BFGS, and of many rows by our own
//! Newton's method.

use super::{GlmParams, Labelled, Linear, Link, Targets, linear_predictor};
use crate::domain::Seed;
use crate::models::{Diagnostics, Estimator, Fit, FitError};
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_logistic::LogisticRegression;
use serde::{Deserialize, Serialize};

/// From so many rows on, Newton's method is used, which needs far fewer passes over them.
const MANY_ROWS: usize = 100_000;

/// Hyperparameters of a logistic regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogisticParams {
    /// Weight of |coefficients|² / 2 against the summed log loss; 1 / C in scikit-learn.
    pub alpha: f64,
    pub max_iter: u64,
}

impl Default for LogisticParams {
    fn default() -> LogisticParams {
        LogisticParams { alpha: 1.0, max_iter: 500 }
    }
}

/// A fitted logistic regression: P(true) = 1 / (1 + exp(-(intercept + coefficients · row))).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logistic {
    pub intercept: f64,
    /// `(n_features,)`.
    pub coefficients: Vec<f64>,
}

impl Logistic {
    /// The log-odds of one encoded row `(n_features,)`.
    pub fn log_odds<'a>(&self, row: impl IntoIterator<Item = &'a f64>) -> f64 {
        linear_predictor(self.intercept, &self.coefficients, row)
    }

    /// The probability for one encoded row, in `(0, 1)`.
    pub fn probability<'a>(&self, row: impl IntoIterator<Item = &'a f64>) -> f64 {
        sigmoid(self.log_odds(row))
    }
}

impl Estimator for LogisticParams {
    type Input<'a> = Labelled<bool>;
    type Fitted = Logistic;

    fn fit(&self, input: &Labelled<bool>, _seed: Seed) -> Result<Fit<Logistic>, FitError> {
        input.check_finite()?;
        let positives = input.targets.iter().filter(|&&target| target).count();
        if positives == 0 || positives == input.targets.len() {
            return Err(FitError::OneClass);
        }
        let (model, n_iter) = match input.rows.as_slice() {
            Some(rows) if input.targets.len() >= MANY_ROWS => self.newton(rows, input)?,
            _ => (self.climb(input)?, None),
        };
        // linfa does not say whether it converged; the gradient of the mean loss does.
        let gradient = self.gradient_norm(&model, input);
        let converged = gradient <= 1e-4;
        let notes =
            if converged { vec![] } else { vec![format!("the gradient is still {gradient:e}")] };
        let objective = self.loss(&model, input);
        Ok(Fit { model, diagnostics: Diagnostics { converged, n_iter, objective, run: 0, notes } })
    }
}

impl LogisticParams {
    /// linfa's L-BFGS over rows of both classes.
    fn climb(&self, input: &Labelled<bool>) -> Result<Logistic, FitError> {
        let n = input.targets.len() as f64;
        let fitted = LogisticRegression::default()
            .alpha(self.alpha)
            .max_iterations(self.max_iter)
            .gradient_tolerance(1e-8 * n)
            .fit(&DatasetBase::new(input.rows.view(), input.targets.view()))
            .map_err(|error| FitError::Solver { solver: "logistic", message: error.to_string() })?;
        // linfa calls the larger class positive, so the sign is only known after the fit.
        let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
        Ok(Logistic {
            intercept: sign * fitted.intercept(),
            coefficients: fitted.params().iter().map(|weight| sign * weight).collect(),
        })
    }

    /// The same optimum by Newton's method, whose loss is the mean, and how many steps it took. `rows`
    /// are those of the input.
    fn newton(
        &self,
        rows: &[f64],
        input: &Labelled<bool>,
    ) -> Result<(Logistic, Option<u32>), FitError> {
        let targets: Vec<f64> =
            input.targets.iter().map(|&target| f64::from(u8::from(target))).collect();
        let penalty = self.alpha / targets.len() as f64;
        let params = GlmParams { link: Link::Logit, penalty, l1_ratio: 0.0 };
        let fit = params.fit(&Targets { rows, width: input.rows.ncols(), targets: &targets })?;
        let Linear { intercept, coefficients } = fit.model;
        Ok((Logistic { intercept, coefficients }, fit.diagnostics.n_iter))
    }

    /// Summed log loss plus penalty.
    fn loss(&self, model: &Logistic, input: &Labelled<bool>) -> f64 {
        let penalty: f64 = model.coefficients.iter().map(|weight| weight * weight).sum();
        let losses = input.rows.outer_iter().zip(&input.targets).map(|(row, &target)| {
            let log_odds = model.log_odds(row);
            softplus(if target { -log_odds } else { log_odds })
        });
        losses.sum::<f64>() + 0.5 * self.alpha * penalty
    }

    /// Largest entry of the gradient of the loss, per row.
    fn gradient_norm(&self, model: &Logistic, input: &Labelled<bool>) -> f64 {
        let mut gradient: Vec<f64> =
            model.coefficients.iter().map(|weight| self.alpha * weight).collect();
        let mut intercept = 0.0;
        for (row, &target) in input.rows.outer_iter().zip(&input.targets) {
            let residual = model.probability(row) - f64::from(u8::from(target));
            intercept += residual;
            gradient.iter_mut().zip(&row).for_each(|(slope, value)| *slope += residual * value);
        }
        let n = input.targets.len() as f64;
        gradient.iter().fold(f64::abs(intercept), |largest, slope| largest.max(slope.abs())) / n
    }
}

/// 1 / (1 + exp(-x)), without overflow.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// ln(p / (1 - p)) of a probability kept a millionth away from 0 and 1, so that it stays finite.
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    libm::log(p) - libm::log1p(-p)
}

/// ln(1 + exp(x)), without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Draws;
    use ndarray::{Array1, Array2};

    /// Rows of three columns whose labels follow the first two.
    fn drawn(n: usize, tilt: f64) -> Labelled<bool> {
        let mut draws = Draws::new(Seed(7));
        let rows = Array2::from_shape_fn((n, 3), |_| draws.normal());
        let label = |row: ndarray::ArrayView1<'_, f64>| {
            draws.chance(sigmoid(tilt + 1.5 * row[0] - 0.5 * row[1]))
        };
        let targets: Array1<bool> = rows.outer_iter().map(label).collect();
        Labelled { rows, targets }
    }

    #[test]
    fn of_many_rows_newtons_method_finds_linfas_optimum() {
        let params = LogisticParams::default();
        let input = drawn(MANY_ROWS, -0.7);
        let fit = params.fit(&input, Seed(0)).expect("a fit");
        let linfas = params.climb(&input).expect("a fit");
        // Closer than linfa stops.
        assert!(params.gradient_norm(&fit.model, &input) < 1e-11, "{fit:?}");
        assert!(params.loss(&fit.model, &input) <= params.loss(&linfas, &input) + 1e-7);
        let pairs = fit.model.coefficients.iter().zip(&linfas.coefficients);
        for (a, b) in pairs.chain([(&fit.model.intercept, &linfas.intercept)]) {
            assert!((a - b).abs() < 1e-5, "{fit:?} {linfas:?}");
        }
        assert!(fit.diagnostics.converged);
    }

    #[test]
    fn a_rare_class_and_equal_columns_are_no_obstacle() {
        let mut input = drawn(MANY_ROWS, 0.0);
        input.targets.fill(false);
        (1..=40).for_each(|row| input.targets[2_000 * row + 1] = true);
        for row in 0..MANY_ROWS {
            input.rows[[row, 2]] = input.rows[[row, 1]];
        }
        let fit = LogisticParams::default().fit(&input, Seed(0)).expect("a fit");
        let mean = input.rows.outer_iter().map(|row| fit.model.probability(row)).sum::<f64>();
        assert!((mean - 40.0).abs() < 1e-3, "{mean}");
        assert!(fit.diagnostics.converged);
    }
}
