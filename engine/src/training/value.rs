//! The value head: tried, chosen, measured, fitted again.

use super::evaluation::{Trial, ValueMetrics};
use super::settings::ValueBy;
use super::stage::{Cuts, Encoded, Rival};
use crate::domain::Seed;
use crate::models::linear::Labelled;
use crate::models::value::{HurdleParams, IntervalMap, NaiveRate, ValueModel};
use crate::models::{Diagnostics, Estimator, FitError};
use crate::version::{Replaced, ValueHead};
use ndarray::Array1;

/// The share of customers that the interval is meant to hold.
pub(super) const INTERVAL_LEVEL: f64 = 0.8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Hurdle,
    Purchases,
    NaiveRate,
}

/// A family with its fit at c1, or why there is none.
type Tried = (Family, Result<Fitted, FitError>);

/// Fits at c1, scales and chooses at c2, measures at c3, and fits the chosen family again on `last`,
/// which keeps its scale and interval from c2.
pub fn head(
    cuts: &Cuts,
    last: &Encoded,
    by: ValueBy,
    window_days: u32,
    seed: Seed,
) -> (ValueHead, Vec<Trial<ValueMetrics>>) {
    let naive_rate = NaiveRate { window_days };
    let fit = |family, data: &Encoded| fit(family, data, &naive_rate, seed);
    let run = |family| -> Result<Fitted, FitError> {
        let (model, diagnostics) = fit(family, &cuts.c1)?;
        Ok(Fitted::of(&model, diagnostics, cuts))
    };
    let wanted: &[Family] = match by {
        ValueBy::Auto => &[Family::Hurdle, Family::Purchases],
        ValueBy::Hurdle => &[Family::Hurdle],
        ValueBy::Purchases => &[Family::Purchases],
    };
    let mut tried: Vec<Tried> = wanted.iter().map(|&family| (family, run(family))).collect();
    let naive_model = ValueModel::NaiveRate(naive_rate.clone());
    let naive = Fitted::of(&naive_model, None, cuts);
    let best = best(&tried, wanted[0]);
    let refitted = worth(best.1, &naive)
        .and_then(|()| fit(best.0, last).map_err(|error| format!("the last fit failed: {error}")));
    let wanted = best.0;
    let (family, (model, diagnostics), reason) = match refitted {
        Ok(refitted) => (wanted, refitted, None),
        Err(reason) => (Family::NaiveRate, (naive_model, None), Some(reason)),
    };
    tried.push((Family::NaiveRate, Ok(naive)));
    let served = tried
        .iter()
        .find(|(candidate, _)| *candidate == family)
        .and_then(|(_, fitted)| fitted.as_ref().ok());
    let (scale, interval) = served.map_or_else(
        || (1.0, IntervalMap { level: INTERVAL_LEVEL, bins: Vec::new() }),
        |served| (served.scale, served.interval.clone()),
    );
    let replaced = reason.map(|reason| Replaced {
        family: name(wanted).to_owned(),
        by: name(family).to_owned(),
        reason,
    });
    let head = ValueHead { model, scale, interval, diagnostics, replaced };
    let trial = |(candidate, fitted): Tried| {
        let outcome = fitted.map(|fitted| (fitted.calibrated, fitted.holdout, fitted.diagnostics));
        Trial::of(name(candidate), candidate == family, outcome)
    };
    (head, tried.into_iter().map(trial).collect())
}

/// Every family but the baseline as it would serve: fitted on `last`, with the scale and the interval of
/// its fit at c1 from c2.
pub fn each(cuts: &Cuts, last: &Encoded, window_days: u32, seed: Seed) -> Vec<Rival<ValueHead>> {
    let naive_rate = NaiveRate { window_days };
    let serve = |family| {
        let (first, diagnostics) = fit(family, &cuts.c1, &naive_rate, seed)?;
        let Fitted { scale, interval, .. } = Fitted::of(&first, diagnostics, cuts);
        let (model, diagnostics) = fit(family, last, &naive_rate, seed)?;
        Ok(ValueHead { model, scale, interval, diagnostics, replaced: None })
    };
    [Family::Hurdle, Family::Purchases].map(|family| (name(family), serve(family))).into()
}

/// The family with the largest normalised Gini at c2; the first where none has one.
fn best(tried: &[Tried], first: Family) -> (Family, Result<&Fitted, String>) {
    let gini = |fitted: &Fitted| fitted.calibrated.normalised_gini.unwrap_or(f64::NEG_INFINITY);
    let fitted = tried.iter().filter_map(|(family, fitted)| Some((*family, fitted.as_ref().ok()?)));
    // Of equals the first.
    let best = fitted.reduce(|a, b| if gini(b.1) > gini(a.1) { b } else { a });
    match (best, tried.first()) {
        (Some((family, fitted)), _) => (family, Ok(fitted)),
        (None, Some((family, Err(error)))) => (*family, Err(error.to_string())),
        (None, _) => (first, Err("nothing was tried".to_owned())),
    }
}

/// Whether a model may serve by its normalised Gini at c2; the reason where it may not.
fn worth(model: Result<&Fitted, String>, naive: &Fitted) -> Result<(), String> {
    match (model?.calibrated.normalised_gini, naive.calibrated.normalised_gini) {
        (Some(model), Some(naive)) if model >= naive => Ok(()),
        (Some(model), Some(naive)) => {
            Err(format!("normalised Gini at calibration {model:.6}, the baseline's {naive:.6}"))
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

fn fit(
    family: Family,
    data: &Encoded,
    naive_rate: &NaiveRate,
    seed: Seed,
) -> Result<(ValueModel, Option<Diagnostics>), FitError> {
    match family {
        Family::Hurdle => {
            let targets = Array1::from_vec(data.stage.spend.clone());
            let labelled = Labelled { rows: data.rows.clone(), targets };
            let fit = HurdleParams::default().fit(&labelled, seed)?;
            Ok((ValueModel::Hurdle(fit.model), Some(fit.diagnostics)))
        }
        Family::Purchases => {
            let fitted = data.outlooks.as_ref().map(|_| (ValueModel::Purchases, None));
            fitted.ok_or(FitError::NoPurchaseModel)
        }
        Family::NaiveRate => Ok((ValueModel::NaiveRate(naive_rate.clone()), None)),
    }
}

fn predictions(model: &ValueModel, scale: f64, data: &Encoded) -> Vec<f64> {
    let rows = data.rows.outer_iter().zip(&data.stage.lifetimes).enumerate();
    rows.map(|(index, (row, life))| {
        let purchases = data.outlook(index).map(|outlook| outlook.expected_spend);
        scale * model.predict(&row.to_vec(), life, purchases)
    })
    .collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Hurdle => "hurdle",
        Family::Purchases => "purchases",
        Family::NaiveRate => "naive_rate",
    }
}
