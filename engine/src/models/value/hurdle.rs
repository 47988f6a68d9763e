//! A hurdle model: P(buys at all) x E[spend | buys], the latter log-normal with a linear mean
//! (Cragg 1971; Duan et al. 1983).

use crate::domain::Seed;
use crate::models::linear::{ElasticNetParams, Labelled, Linear, Logistic, LogisticParams};
use crate::models::{Diagnostics, Estimator, Fit, FitError};
use ndarray::{Array1, Axis};
use serde::{Deserialize, Serialize};

/// Fewer buyers than this say too little about a log-normal.
const LEAST_BUYERS: usize = 10;

/// Hyperparameters of both parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HurdleParams {
    pub buys: LogisticParams,
    pub spend: ElasticNetParams,
}

/// A fitted hurdle model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hurdle {
    /// P(spend > 0).
    pub buys: Logistic,
    /// Mean of ln(spend) of those who buy.
    pub log_spend: Linear,
    /// Variance of ln(spend) around it.
    pub log_variance: f64,
    /// The largest ln(spend) seen: no mean is extrapolated beyond it.
    pub log_ceiling: f64,
}

impl Hurdle {
    /// Expected spend for one encoded row `(n_features,)`, in the unit of the targets.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let mean = self.log_spend.predict(row).min(self.log_ceiling);
        self.buys.probability(row) * libm::exp(mean + 0.5 * self.log_variance)
    }
}

impl Estimator for HurdleParams {
    /// Encoded rows and the spend of each within the window, not negative.
    type Input<'a> = Labelled<f64>;
    type Fitted = Hurdle;

    fn fit(&self, input: &Labelled<f64>, seed: Seed) -> Result<Fit<Hurdle>, FitError> {
        let buys =
            Labelled { rows: input.rows.clone(), targets: input.targets.mapv(|spend| spend > 0.0) };
        let buyers: Vec<usize> =
            (0..input.targets.len()).filter(|&row| input.targets[row] > 0.0).collect();
        if buyers.len() < LEAST_BUYERS {
            return Err(FitError::TooFewRows { got: buyers.len(), need: LEAST_BUYERS });
        }
        let logs: Array1<f64> = buyers.iter().map(|&row| libm::log(input.targets[row])).collect();
        let spenders = Labelled { rows: input.rows.select(Axis(0), &buyers), targets: logs };
        let buys = self.buys.fit(&buys, seed)?;
        let spend = self.spend.fit(&spenders, seed)?;
        let squares: f64 = spenders
            .rows
            .outer_iter()
            .zip(&spenders.targets)
            .map(|(row, log)| (log - spend.model.predict(row)).powi(2))
            .sum();
        let notes = [("buys", &buys.diagnostics), ("spend", &spend.diagnostics)]
            .into_iter()
            .flat_map(|(part, diagnostics)| {
                diagnostics.notes.iter().map(move |note| format!("{part}: {note}"))
            })
            .collect();
        let diagnostics = Diagnostics {
            converged: buys.diagnostics.converged && spend.diagnostics.converged,
            n_iter: spend.diagnostics.n_iter,
            objective: buys.diagnostics.objective,
            run: 0,
            notes,
        };
        let model = Hurdle {
            buys: buys.model,
            log_spend: spend.model,
            log_variance: squares / buyers.len() as f64,
            log_ceiling: spenders.targets.fold(f64::NEG_INFINITY, |top, &log| top.max(log)),
        };
        Ok(Fit { model, diagnostics })
    }
}
