//! The value head: tried, chosen, measured, fitted again.

use super::evaluation::{Trial, ValueMetrics};
use super::settings::ValueBy;
use super::stage::{AllBlended, Cuts, Encoded, Rival};
use super::{bootstrap::difference_interval, metrics::normalised_gini};
use crate::domain::{Lifetime, Seed};
use crate::models::linear::Labelled;
use crate::models::value::{HurdleParams, IntervalMap, NaiveRate, ValueModel};
use crate::models::{Diagnostics, Estimator, FitError};
use crate::version::{Replaced, ValueHead};
use ndarray::Array1;
use rayon::prelude::*;

/// The share of customers that the interval is meant to hold.
pub(super) const INTERVAL_LEVEL: f64 = super::blend::INTERVAL_LEVEL;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Blend,
    Hurdle,
    Purchases,
    NaiveRate,
}

/// A family with its fit at c1, or why there is none.
type Tried = (Family, Result<Fitted, FitError>);

/// Fits at c1, scales and chooses at c2, measures at c3, and fits the chosen family again on `last`,
/// which keeps its scale and interval from c2. Tells also whose spend after c3 the interval held.
pub fn head(
    cuts: &Cuts,
    last: &Encoded,
    by: ValueBy,
    window_days: u32,
    seed: Seed,
) -> (ValueHead, Vec<Trial<ValueMetrics>>, Vec<bool>) {
    let naive_rate = NaiveRate { window_days };
    let fit = |family, data: &Encoded| fit(family, data, &naive_rate, seed);
    let run = |family| -> Result<Fitted, FitError> {
        let (model, diagnostics) = fit(family, first_of(family, cuts))?;
        Ok(Fitted::of(&model, diagnostics, cuts))
    };
    let wanted: &[Family] = match by {
        ValueBy::Auto => &[Family::Blend, Family::Hurdle, Family::Purchases],
        ValueBy::Blend => &[Family::Blend],
        ValueBy::Hurdle => &[Family::Hurdle],
        ValueBy::Purchases => &[Family::Purchases],
    };
    let mut tried: Vec<Tried> = wanted.par_iter().map(|&family| (family, run(family))).collect();
    let naive_model = ValueModel::NaiveRate(naive_rate.clone());
    let naive = Fitted::of(&naive_model, None, cuts);
    let fitted = |family: Family| {
        let (_, fitted) = tried.iter().find(|(candidate, _)| *candidate == family)?;
        fitted.as_ref().ok()
    };
    let best = match (fitted(Family::Blend), fitted(Family::Purchases)) {
        // It knows seasons, which the blend does not.
        (Some(blend), Some(rival)) if holds_against(blend, rival, cuts, seed).is_err() => {
            (Family::Purchases, Ok(rival))
        }
        (Some(blend), _) => (Family::Blend, Ok(blend)),
        (None, _) => best(&tried, wanted[0]),
    };
    let is_worth = match best {
        (Family::Blend, Ok(blend)) => holds_against(blend, &naive, cuts, seed),
        (_, fitted) => worth(fitted, &naive),
    };
    let refitted = is_worth
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
    let held = served.map_or_else(Vec::new, |served| served.held.clone());
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
    (head, tried.into_iter().map(trial).collect(), held)
}

/// Every family but the baseline as it would serve: fitted on `last`, with the scale and the interval of
/// its fit at c1 from c2.
pub fn each(cuts: &Cuts, last: &Encoded, window_days: u32, seed: Seed) -> Vec<Rival<ValueHead>> {
    let naive_rate = NaiveRate { window_days };
    let serve = |family| {
        let (first, diagnostics) = fit(family, first_of(family, cuts), &naive_rate, seed)?;
        let Fitted { scale, interval, .. } = Fitted::of(&first, diagnostics, cuts);
        let (model, diagnostics) = fit(family, last, &naive_rate, seed)?;
        Ok(ValueHead { model, scale, interval, diagnostics, replaced: None })
    };
    [Family::Blend, Family::Hurdle, Family::Purchases]
        .map(|family| (name(family), serve(family)))
        .into()
}

/// The family with the largest normalised Gini at c2; the first where none has one.
fn best(tried: &[Tried], first: Family) -> (Family, Result<&Fitted, String>) {
    let gini = |fitted: &Fitted| fitted.calibrated.normalised_gini.unwrap_or(f64::NEG_INFINITY);
    let fitted = tried.iter().filter_map(|(family, fitted)| Some((*family, fitted.as_ref().ok()?)));
    // Of equals the first.
    let best = fitted.reduce(|a, b| if gini(b.1) > gini(a.1) { b } else { a });
    match (best, tried.first()) {
        (Some((family, fitted)), _) => (family, Ok(fitted)),
        // That there is no blend says least of why nothing could be learned.
        (None, Some((Family::Blend, _))) if tried.len() > 1 => self::best(&tried[1..], first),
        (None, Some((family, Err(error)))) => (*family, Err(error.to_string())),
        (None, _) => (first, Err("nothing was tried".to_owned())),
    }
}

/// Customers whose normalised Gini is drawn again and again.
const MOST_DRAWN: usize = 20_000;
const REPLICATES: u32 = 100;

/// Whether the blend may serve: unless a rival ranks customers better at c2 by more than chance, one
/// standard error of the difference. The reason where it may not.
fn holds_against(blend: &Fitted, rival: &Fitted, cuts: &Cuts, seed: Seed) -> Result<(), String> {
    let actual = &cuts.c2.stage.spend;
    let gini = |predicted: &[f64], rows: &[usize]| {
        let pick = |values: &[f64]| rows.iter().map(|&row| values[row]).collect::<Vec<f64>>();
        normalised_gini(&pick(actual), &pick(predicted))
    };
    let step = actual.len().div_ceil(MOST_DRAWN).max(1);
    let asked: Vec<usize> = (0..actual.len()).step_by(step).collect();
    let difference = |rows: &[usize]| {
        let rows: Vec<usize> = rows.iter().map(|&row| asked[row]).collect();
        Some(gini(&rival.raw, &rows)? - gini(&blend.raw, &rows)?)
    };
    // Of a normal distribution one standard error to either side holds so many.
    const ONE_ERROR: f64 = 0.6827;
    let seed = seed.derive("value baseline", 0);
    match difference_interval(asked.len(), difference, seed, REPLICATES, ONE_ERROR) {
        None => Err("nobody bought in the calibration window, so nothing could be compared".into()),
        Some(interval) if interval.estimate > 0.5 * (interval.high - interval.low) => Err(format!(
            "normalised Gini at calibration smaller than the baseline's by {:.6} ± {:.6}",
            interval.estimate,
            0.5 * (interval.high - interval.low)
        )),
        Some(_) => Ok(()),
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
    /// At c2, before scaling.
    raw: Vec<f64>,
    scale: f64,
    interval: IntervalMap,
    calibrated: ValueMetrics,
    holdout: ValueMetrics,
    /// Whose spend after c3 the interval held.
    held: Vec<bool>,
}

impl Fitted {
    fn of(model: &ValueModel, diagnostics: Option<Diagnostics>, cuts: &Cuts) -> Fitted {
        let actual = &cuts.c2.stage.spend;
        let raw = predictions(model, 1.0, &cuts.c2);
        if let (ValueModel::Blend, Ok(c2), Ok(c3)) = (model, &cuts.c2.blended, &cuts.c3.blended) {
            let level = INTERVAL_LEVEL;
            let held =
                |spend: &[f64], blended: &AllBlended| within(spend, |row| blended.intervals[row]);
            let (spend, held_at_c3) = (&cuts.c3.stage.spend, held(&cuts.c3.stage.spend, c3));
            let at_c3 = predictions(model, 1.0, &cuts.c3);
            return Fitted {
                diagnostics,
                scale: 1.0,
                interval: IntervalMap { level, bins: Vec::new() },
                calibrated: ValueMetrics::of(actual, &raw, level, &held(actual, c2)),
                holdout: ValueMetrics::of(spend, &at_c3, level, &held_at_c3),
                raw,
                held: held_at_c3,
            };
        }
        let (promised, spent): (f64, f64) = (raw.iter().sum(), actual.iter().sum());
        let scale = if promised > 0.0 && spent > 0.0 { spent / promised } else { 1.0 };
        let scaled: Vec<f64> = raw.iter().map(|prediction| scale * prediction).collect();
        let interval = IntervalMap::fit(INTERVAL_LEVEL, &scaled, actual);
        let at_c3 = predictions(model, scale, &cuts.c3);
        let held = |actual: &[f64], predicted: &[f64]| {
            within(actual, |row| interval.bounds(predicted[row]))
        };
        let (spend, level) = (&cuts.c3.stage.spend, interval.level);
        let held_at_c3 = held(spend, &at_c3);
        Fitted {
            diagnostics,
            raw,
            scale,
            calibrated: ValueMetrics::of(actual, &scaled, level, &held(actual, &scaled)),
            holdout: ValueMetrics::of(spend, &at_c3, level, &held_at_c3),
            held: held_at_c3,
            interval,
        }
    }
}

/// Whose spend lies within their bounds, ends included.
fn within(spend: &[f64], bounds: impl Fn(usize) -> (f64, f64)) -> Vec<bool> {
    let is_within = |(row, spend): (usize, &f64)| {
        let (low, high) = bounds(row);
        low <= *spend && *spend <= high
    };
    spend.iter().enumerate().map(is_within).collect()
}

/// Where a family is first fitted. A blend is fitted anew at each cut-off.
fn first_of<'c, 'a>(family: Family, cuts: &'c Cuts<'a>) -> &'c Encoded<'a> {
    if family == Family::Blend { &cuts.c2 } else { &cuts.c1 }
}

fn fit(
    family: Family,
    data: &Encoded,
    naive_rate: &NaiveRate,
    seed: Seed,
) -> Result<(ValueModel, Option<Diagnostics>), FitError> {
    match family {
        Family::Blend => {
            let fitted = data.blended.as_ref().map(|_| (ValueModel::Blend, None));
            fitted.map_err(Clone::clone)
        }
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
    let prediction = |(index, life): (usize, &Lifetime)| {
        let expected = match (model, &data.blended) {
            (ValueModel::Blend, Ok(blended)) => Some(blended.answers[index].expected_spend),
            _ => data.outlook(index).map(|outlook| outlook.expected_spend),
        };
        scale * model.predict(&data.rows.row(index).to_vec(), life, expected)
    };
    data.stage.lifetimes.par_iter().enumerate().map(prediction).collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Blend => "blend",
        Family::Hurdle => "hurdle",
        Family::Purchases => "purchases",
        Family::NaiveRate => "naive_rate",
    }
}
