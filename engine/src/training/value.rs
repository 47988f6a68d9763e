//! The value head: tried, chosen, measured, fitted again.

use super::evaluation::{Trial, ValueMetrics};
use super::stage::{Cuts, Encoded};
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

/// Fits at c1, scales and chooses at c2, measures at c3, and fits the chosen family again on `last`,
/// which keeps its scale and interval from c2.
pub fn head(
    cuts: &Cuts,
    last: &Encoded,
    window_days: u32,
    seed: Seed,
) -> (ValueHead, Vec<Trial<ValueMetrics>>) {
    let hurdle = fit_hurdle(&cuts.c1, seed)
        .map(|(model, diagnostics)| Fitted::of(&model, Some(diagnostics), cuts));
    let naive_rate = ValueModel::NaiveRate(NaiveRate { window_days });
    let naive = Fitted::of(&naive_rate, None, cuts);
    let refitted = choose(&hurdle, &naive).and_then(|()| {
        fit_hurdle(last, seed).map_err(|error| format!("the last fit failed: {error}"))
    });
    let (family, model, diagnostics, reason) = match refitted {
        Ok((model, diagnostics)) => (Family::Hurdle, model, Some(diagnostics), None),
        Err(reason) => (Family::NaiveRate, naive_rate, None, Some(reason)),
    };
    let served = match (&hurdle, family) {
        (Ok(hurdle), Family::Hurdle) => hurdle,
        _ => &naive,
    };
    let head = ValueHead {
        model,
        scale: served.scale,
        interval: served.interval.clone(),
        diagnostics,
        replaced: reason.map(|reason| Replaced {
            family: name(Family::Hurdle).to_owned(),
            by: name(family).to_owned(),
            reason,
        }),
    };
    let trial = |candidate, fitted: Result<Fitted, FitError>| {
        let outcome = fitted.map(|fitted| (fitted.calibrated, fitted.holdout, fitted.diagnostics));
        Trial::of(name(candidate), candidate == family, outcome)
    };
    (head, vec![trial(Family::Hurdle, hurdle), trial(Family::NaiveRate, Ok(naive))])
}

/// Whether the hurdle may serve by its normalised Gini at c2; the reason where it may not.
fn choose(hurdle: &Result<Fitted, FitError>, naive: &Fitted) -> Result<(), String> {
    let hurdle = hurdle.as_ref().map_err(ToString::to_string)?;
    match (hurdle.calibrated.normalised_gini, naive.calibrated.normalised_gini) {
        (Some(hurdle), Some(naive)) if hurdle >= naive => Ok(()),
        (Some(hurdle), Some(naive)) => {
            Err(format!("normalised Gini at calibration {hurdle:.6}, the baseline's {naive:.6}"))
        }
        _ => {
            Err("nobody bought in the calibration window, so nothing could be compared".to_owned())
        }
    }
}

/// What c2 and c3 say of a model fitted at c1.
struct Fitted {
    diagnostics: Option<Diagnostics>,
    scale: f64,
    interval: IntervalMap,
    calibrated: ValueMetrics,
    holdout: ValueMetrics,
}

impl Fitted {
    fn of(model: &ValueModel, diagnostics: Option<Diagnostics>, cuts: &Cuts) -> Fitted {
        let actual = &cuts.c2.stage.spend;
        let raw = predictions(model, 1.0, &cuts.c2);
        let (promised, spent): (f64, f64) = (raw.iter().sum(), actual.iter().sum());
        let scale = if promised > 0.0 && spent > 0.0 { spent / promised } else { 1.0 };
        let scaled: Vec<f64> = raw.iter().map(|prediction| scale * prediction).collect();
        let interval = IntervalMap::fit(INTERVAL_LEVEL, &scaled, actual);
        let at_c3 = predictions(model, scale, &cuts.c3);
        Fitted {
            diagnostics,
            scale,
            calibrated: ValueMetrics::of(actual, &scaled, &interval),
            holdout: ValueMetrics::of(&cuts.c3.stage.spend, &at_c3, &interval),
            interval,
        }
    }
}

fn fit_hurdle(data: &Encoded, seed: Seed) -> Result<(ValueModel, Diagnostics), FitError> {
    let targets = Array1::from_vec(data.stage.spend.clone());
    let labelled = Labelled { rows: data.rows.clone(), targets };
    let fit = HurdleParams::default().fit(&labelled, seed)?;
    Ok((ValueModel::Hurdle(fit.model), fit.diagnostics))
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
