//! The churn head: tried, chosen, measured, fitted again.

use super::evaluation::{ChurnMetrics, Trial};
use super::stage::Encoded;
use crate::domain::{Lifetime, Seed};
use crate::models::churn::{BaseRate, ChurnModel, Platt, RecencyParams};
use crate::models::linear::{Labelled, LogisticParams};
use crate::models::{Diagnostics, Estimator, FitError};
use crate::version::{ChurnHead, Replaced};
use ndarray::Array1;

/// A model learned from fewer customers than this would be noise.
const LEAST_CUSTOMERS: usize = 30;

/// The families, the model first and the baseline after it.
const FAMILIES: [Family; 2] = [Family::Logistic, Family::Recency];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Logistic,
    Recency,
    BaseRate,
}

/// What was chosen at c2: enough to fit the head again.
pub struct Choice {
    family: Family,
    calibration: Platt,
    replaced: Option<Replaced>,
}

/// Fits at c1, calibrates and chooses by Brier score at c2, measures at c3.
pub fn evaluate(
    c1: &Encoded,
    c2: &Encoded,
    c3: &Encoded,
    seed: Seed,
) -> (Choice, Vec<Trial<ChurnMetrics>>) {
    let tried = FAMILIES.map(|family| (family, Fitted::run(family, c1, c2, seed)));
    let brier =
        |trial: &Result<Fitted, FitError>| trial.as_ref().ok().map(|trial| trial.calibrated.brier);
    let (model, baseline) = (brier(&tried[0].1), brier(&tried[1].1));
    let family = match (model, baseline) {
        (Some(model), Some(baseline)) if model <= baseline => Family::Logistic,
        (Some(_), None) => Family::Logistic,
        (_, Some(_)) => Family::Recency,
        (None, None) => Family::BaseRate,
    };
    let mut trials: Vec<(Family, Result<Fitted, FitError>)> = tried.into();
    if family == Family::BaseRate {
        trials.push((family, Fitted::run(family, c1, c2, seed)));
    }
    let replaced = (family != Family::Logistic).then(|| Replaced {
        family: name(Family::Logistic).to_owned(),
        by: name(family).to_owned(),
        reason: match (&trials[0].1, model.zip(baseline)) {
            (Err(error), _) => error.to_string(),
            (_, Some((model, baseline))) => {
                format!("Brier score at calibration {model:.6}, the baseline's {baseline:.6}")
            }
            _ => "no model could be compared".to_owned(),
        },
    });
    let calibration = trials
        .iter()
        .find(|(candidate, _)| *candidate == family)
        .and_then(|(_, trial)| trial.as_ref().ok())
        .map_or(Platt::IDENTITY, |trial| trial.calibration);
    let report =
        trials.into_iter().map(|(candidate, trial)| report(candidate, trial, family, c3)).collect();
    (Choice { family, calibration, replaced }, report)
}

/// Fits the chosen family again. Where that fails the baselines stand in, visibly.
pub fn refit(choice: &Choice, data: &Encoded, seed: Seed) -> ChurnHead {
    let head = |model, calibration, replaced| ChurnHead {
        model,
        calibration,
        percentiles: Vec::new(),
        replaced,
    };
    let instead = |family, error: FitError| {
        Some(Replaced {
            family: name(choice.family).to_owned(),
            by: name(family).to_owned(),
            reason: format!("the last fit failed: {error}"),
        })
    };
    let error = match fit(choice.family, data, seed) {
        Ok((model, _)) => return head(model, choice.calibration, choice.replaced.clone()),
        Err(error) => error,
    };
    match fit(Family::Recency, data, seed) {
        Ok((model, _)) => head(model, Platt::IDENTITY, instead(Family::Recency, error)),
        Err(_) => {
            let base_rate = BaseRate::of(data.stage.churned.iter().copied());
            let replaced = instead(Family::BaseRate, error);
            head(ChurnModel::BaseRate(base_rate), Platt::IDENTITY, replaced)
        }
    }
}

/// A model fitted at c1 with what c2 says of it.
struct Fitted {
    model: ChurnModel,
    diagnostics: Option<Diagnostics>,
    calibration: Platt,
    calibrated: ChurnMetrics,
}

impl Fitted {
    fn run(family: Family, c1: &Encoded, c2: &Encoded, seed: Seed) -> Result<Fitted, FitError> {
        let (model, diagnostics) = fit(family, c1, seed)?;
        let raw = probabilities(&model, c2);
        let calibration = match family {
            Family::BaseRate => Platt::IDENTITY,
            _ => Platt::fit(&raw, &c2.stage.churned),
        };
        let calibrated = ChurnMetrics::of(&c2.stage.churned, &applied(calibration, raw));
        Ok(Fitted { model, diagnostics, calibration, calibrated })
    }
}

fn report(
    family: Family,
    fitted: Result<Fitted, FitError>,
    chosen: Family,
    c3: &Encoded,
) -> Trial<ChurnMetrics> {
    let outcome = fitted.map(|fitted| {
        let raw = probabilities(&fitted.model, c3);
        let holdout = ChurnMetrics::of(&c3.stage.churned, &applied(fitted.calibration, raw));
        (fitted.calibrated, holdout, fitted.diagnostics)
    });
    Trial::of(name(family), family == chosen, outcome)
}

fn fit(
    family: Family,
    data: &Encoded,
    seed: Seed,
) -> Result<(ChurnModel, Option<Diagnostics>), FitError> {
    let stage = data.stage;
    if family != Family::BaseRate && stage.n_customers() < LEAST_CUSTOMERS {
        return Err(FitError::TooFewRows { got: stage.n_customers(), need: LEAST_CUSTOMERS });
    }
    match family {
        Family::Logistic => {
            let targets = Array1::from_vec(stage.churned.clone());
            let fit = LogisticParams::default()
                .fit(&Labelled { rows: data.rows.clone(), targets }, seed)?;
            Ok((ChurnModel::Logistic(fit.model), Some(fit.diagnostics)))
        }
        Family::Recency => {
            let input: (Vec<Lifetime>, Vec<bool>) =
                (stage.lifetimes.clone(), stage.churned.clone());
            let fit = RecencyParams.fit(&input, seed)?;
            Ok((ChurnModel::Recency(fit.model), Some(fit.diagnostics)))
        }
        Family::BaseRate => {
            Ok((ChurnModel::BaseRate(BaseRate::of(stage.churned.iter().copied())), None))
        }
    }
}

fn probabilities(model: &ChurnModel, data: &Encoded) -> Vec<f64> {
    let rows = data.rows.outer_iter().zip(&data.stage.lifetimes);
    rows.map(|(row, life)| model.probability(&row.to_vec(), life)).collect()
}

fn applied(calibration: Platt, raw: Vec<f64>) -> Vec<f64> {
    if calibration == Platt::IDENTITY {
        return raw;
    }
    raw.into_iter().map(|probability| calibration.apply(probability)).collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Logistic => "logistic",
        Family::Recency => "recency",
        Family::BaseRate => "base_rate",
    }
}
