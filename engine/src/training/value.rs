//! The value head: tried, chosen, measured, fitted again.

use super::evaluation::{Trial, ValueMetrics};
use super::stage::Encoded;
use crate::domain::Seed;
use crate::models::linear::Labelled;
use crate::models::value::{HurdleParams, IntervalMap, NaiveRate, ValueModel};
use crate::models::{Diagnostics, Estimator, FitError};
use crate::version::{Replaced, ValueHead};
use ndarray::Array1;

/// The share of customers that the interval is meant to hold.
const INTERVAL_LEVEL: f64 = 0.8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Hurdle,
    NaiveRate,
}

/// What was chosen at c2: enough to fit the head again.
pub struct Choice {
    family: Family,
    scale: f64,
    interval: IntervalMap,
    replaced: Option<Replaced>,
}

/// Fits at c1, scales and chooses by normalised Gini at c2, measures at c3.
pub fn evaluate(
    c1: &Encoded,
    c2: &Encoded,
    c3: &Encoded,
    window_days: u32,
    seed: Seed,
) -> (Choice, Vec<Trial<ValueMetrics>>) {
    let hurdle = Fitted::run(Family::Hurdle, c1, c2, window_days, seed);
    let naive = Fitted::of(naive_rate(window_days), None, c2);
    let gini = |trial: &Fitted| trial.calibrated.normalised_gini.unwrap_or(f64::NEG_INFINITY);
    let replaced_because = |reason| Replaced {
        family: name(Family::Hurdle).to_owned(),
        by: name(Family::NaiveRate).to_owned(),
        reason,
    };
    let (family, chosen, replaced) = match &hurdle {
        Ok(trial) if gini(trial) >= gini(&naive) => (Family::Hurdle, trial, None),
        Ok(trial) => {
            let reason = format!(
                "normalised Gini at calibration {:.6}, the baseline's {:.6}",
                gini(trial),
                gini(&naive)
            );
            (Family::NaiveRate, &naive, Some(replaced_because(reason)))
        }
        Err(error) => (Family::NaiveRate, &naive, Some(replaced_because(error.to_string()))),
    };
    let choice =
        Choice { family, scale: chosen.scale, interval: chosen.interval.clone(), replaced };
    let trials = vec![
        report(Family::Hurdle, hurdle, family, c3),
        report(Family::NaiveRate, Ok(naive), family, c3),
    ];
    (choice, trials)
}

/// Fits the chosen family again. Where that fails the baseline stands in, visibly.
pub fn refit(choice: &Choice, data: &Encoded, window_days: u32, seed: Seed) -> ValueHead {
    let (model, replaced) = match fit(choice.family, data, window_days, seed) {
        Ok((model, _)) => (model, choice.replaced.clone()),
        Err(error) => {
            let replaced = Replaced {
                family: name(choice.family).to_owned(),
                by: name(Family::NaiveRate).to_owned(),
                reason: format!("the last fit failed: {error}"),
            };
            (naive_rate(window_days), Some(replaced))
        }
    };
    ValueHead { model, scale: choice.scale, interval: choice.interval.clone(), replaced }
}

/// A model fitted at c1 with what c2 says of it.
struct Fitted {
    model: ValueModel,
    diagnostics: Option<Diagnostics>,
    scale: f64,
    interval: IntervalMap,
    calibrated: ValueMetrics,
}

impl Fitted {
    fn run(
        family: Family,
        c1: &Encoded,
        c2: &Encoded,
        window_days: u32,
        seed: Seed,
    ) -> Result<Fitted, FitError> {
        let (model, diagnostics) = fit(family, c1, window_days, seed)?;
        Ok(Fitted::of(model, diagnostics, c2))
    }

    fn of(model: ValueModel, diagnostics: Option<Diagnostics>, c2: &Encoded) -> Fitted {
        let raw = predictions(&model, 1.0, c2);
        let (promised, spent): (f64, f64) = (raw.iter().sum(), c2.stage.spend.iter().sum());
        let scale = if promised > 0.0 && spent > 0.0 { spent / promised } else { 1.0 };
        let scaled: Vec<f64> = raw.iter().map(|prediction| scale * prediction).collect();
        let interval = IntervalMap::fit(INTERVAL_LEVEL, &scaled, &c2.stage.spend);
        let calibrated = ValueMetrics::of(&c2.stage.spend, &scaled, &interval);
        Fitted { model, diagnostics, scale, interval, calibrated }
    }
}

fn report(
    family: Family,
    fitted: Result<Fitted, FitError>,
    chosen: Family,
    c3: &Encoded,
) -> Trial<ValueMetrics> {
    let outcome = fitted.map(|fitted| {
        let predicted = predictions(&fitted.model, fitted.scale, c3);
        let holdout = ValueMetrics::of(&c3.stage.spend, &predicted, &fitted.interval);
        (fitted.calibrated, holdout, fitted.diagnostics)
    });
    Trial::of(name(family), family == chosen, outcome)
}

fn fit(
    family: Family,
    data: &Encoded,
    window_days: u32,
    seed: Seed,
) -> Result<(ValueModel, Option<Diagnostics>), FitError> {
    match family {
        Family::Hurdle => {
            let targets = Array1::from_vec(data.stage.spend.clone());
            let labelled = Labelled { rows: data.rows.clone(), targets };
            let fit = HurdleParams::default().fit(&labelled, seed)?;
            Ok((ValueModel::Hurdle(fit.model), Some(fit.diagnostics)))
        }
        Family::NaiveRate => Ok((naive_rate(window_days), None)),
    }
}

fn naive_rate(window_days: u32) -> ValueModel {
    ValueModel::NaiveRate(NaiveRate { window_days })
}

fn predictions(model: &ValueModel, scale: f64, data: &Encoded) -> Vec<f64> {
    let rows = data.rows.outer_iter().zip(&data.stage.lifetimes);
    rows.map(|(row, life)| scale * model.predict(&row.to_vec(), life)).collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Hurdle => "hurdle",
        Family::NaiveRate => "naive_rate",
    }
}
