//! The churn head: tried, chosen, measured, fitted again.

use super::evaluation::{ChurnMetrics, Trial};
use super::settings::ChurnBy;
use super::stage::{Cuts, Encoded, Rival};
use crate::domain::{Lifetime, Seed};
use crate::models::churn::{BaseRate, ChurnModel, Platt, RecencyParams};
use crate::models::linear::{Labelled, LogisticParams};
use crate::models::{Diagnostics, Estimator, FitError};
use crate::version::{ChurnHead, Replaced};
use ndarray::Array1;
use rayon::prelude::*;

/// A model learned from fewer customers than this would be noise.
const LEAST_CUSTOMERS: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Blend,
    Logistic,
    Purchases,
    Recency,
    BaseRate,
}

/// A family with its fit at c1, or why there is none.
type Tried = (Family, Result<Fitted, FitError>);

/// Fits at c1, calibrates and chooses at c2, measures at c3, and fits the chosen family again on
/// `last`, which keeps its calibration from c2.
pub fn head(
    cuts: &Cuts,
    last: &Encoded,
    by: ChurnBy,
    seed: Seed,
) -> (ChurnHead, Vec<Trial<ChurnMetrics>>) {
    let wanted: &[Family] = match by {
        ChurnBy::Auto => &[Family::Blend, Family::Logistic, Family::Purchases],
        ChurnBy::Blend => &[Family::Blend],
        ChurnBy::Logistic => &[Family::Logistic],
        ChurnBy::Purchases => &[Family::Purchases],
    };
    let run = |&family: &Family| (family, Fitted::run(family, cuts, seed));
    let mut tried: Vec<Tried> = wanted.par_iter().chain(&[Family::Recency]).map(run).collect();
    let (wanted, chosen, reason) =
        choose_blend(&tried, cuts).unwrap_or_else(|| choose(&tried, wanted));
    let served = refit(wanted, chosen, reason, last, seed);
    if served.family == Family::BaseRate {
        tried.push((served.family, Fitted::run(served.family, cuts, seed)));
    }
    let calibration = tried
        .iter()
        .find(|(family, _)| *family == served.family)
        .and_then(|(_, fitted)| fitted.as_ref().ok())
        .map_or(Platt::IDENTITY, |fitted| fitted.calibration);
    let trials = tried
        .into_iter()
        .map(|(family, fitted)| {
            let outcome =
                fitted.map(|fitted| (fitted.calibrated, fitted.holdout, fitted.diagnostics));
            Trial::of(name(family), family == served.family, outcome)
        })
        .collect();
    let head = ChurnHead {
        model: served.model,
        calibration,
        percentiles: Vec::new(),
        diagnostics: served.diagnostics,
        replaced: served.replaced,
    };
    (head, trials)
}

/// The blend, where it was tried and could be learned, or what was better at c2 by more than chance: one
/// standard error of the difference. All answer as they were before c2, since the blend has no
/// calibration that could learn from it.
fn choose_blend(tried: &[Tried], cuts: &Cuts) -> Option<(Family, Family, Option<String>)> {
    let fitted = |family: Family| {
        let (_, fitted) = tried.iter().find(|(candidate, _)| *candidate == family)?;
        fitted.as_ref().ok()
    };
    let errors = |fitted: &Fitted| -> Vec<f64> {
        let pairs = fitted.raw.iter().zip(&cuts.c2.stage.churned);
        pairs.map(|(p, &churned)| p - f64::from(u8::from(churned))).map(|e| e * e).collect()
    };
    let ours = errors(fitted(Family::Blend)?);
    let lead = |family: Family| {
        let theirs = errors(fitted(family)?);
        let differences: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        let (mean, error) = mean_and_error(&differences);
        (mean > error).then_some((mean, error))
    };
    let of = |lead: Option<(f64, f64)>| lead.map_or(0.0, |(mean, _)| mean);
    let (purchases, recency) = (lead(Family::Purchases), lead(Family::Recency));
    Some(match recency {
        // It knows seasons, which the blend does not.
        _ if of(purchases) > of(recency) => (Family::Purchases, Family::Purchases, None),
        Some((mean, error)) => {
            let reason = format!(
                "Brier score at calibration larger than the baseline's by {mean:.6} ± {error:.6}"
            );
            (Family::Blend, Family::Recency, Some(reason))
        }
        None => (Family::Blend, Family::Blend, None),
    })
}

/// The mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (squares / n / (n - 1.0).max(1.0)).sqrt())
}

/// Every family but the baselines as it would serve: fitted on `last`, with the calibration of its fit
/// at c1 from c2.
pub fn each(cuts: &Cuts, last: &Encoded, seed: Seed) -> Vec<Rival<ChurnHead>> {
    let serve = |family| {
        let calibration = Fitted::run(family, cuts, seed)?.calibration;
        let (model, diagnostics) = fit(family, last, seed)?;
        let (percentiles, replaced) = (Vec::new(), None);
        Ok(ChurnHead { model, calibration, percentiles, diagnostics, replaced })
    };
    [Family::Blend, Family::Logistic, Family::Purchases]
        .map(|family| (name(family), serve(family)))
        .into()
}

/// The wanted family with the best Brier score at c2, the family that serves by its, and why they
/// are not the same where they are not.
fn choose(tried: &[Tried], wanted: &[Family]) -> (Family, Family, Option<String>) {
    let fitted =
        |family: Family| tried.iter().find(|(candidate, _)| *candidate == family).map(|(_, f)| f);
    let brier = |family: Family| Some(fitted(family)?.as_ref().ok()?.calibrated.brier);
    let scored = wanted.iter().filter_map(|&family| Some((family, brier(family)?)));
    // Of equals the first.
    let best = scored.reduce(|a, b| if b.1 < a.1 { b } else { a });
    match (best, brier(Family::Recency)) {
        (Some((family, model)), Some(baseline)) if model > baseline => {
            let reason =
                format!("Brier score at calibration {model:.6}, the baseline's {baseline:.6}");
            (family, Family::Recency, Some(reason))
        }
        (Some((family, _)), _) => (family, family, None),
        (None, baseline) => {
            // That there is no blend says least of why nothing could be learned.
            let family = wanted.iter().copied().find(|&family| family != Family::Blend);
            let family = family.or(wanted.first().copied()).unwrap_or(Family::Logistic);
            let reason = match fitted(family) {
                Some(Err(error)) => error.to_string(),
                _ => "nothing was tried".to_owned(),
            };
            let by = if baseline.is_some() { Family::Recency } else { Family::BaseRate };
            (family, by, Some(reason))
        }
    }
}

/// What the last fit gave.
struct Served {
    family: Family,
    model: ChurnModel,
    diagnostics: Option<Diagnostics>,
    replaced: Option<Replaced>,
}

/// Fits the chosen family again. Where that fails the baselines stand in, visibly.
fn refit(
    wanted: Family,
    chosen: Family,
    mut reason: Option<String>,
    last: &Encoded,
    seed: Seed,
) -> Served {
    let replaced = |by: Family, reason: Option<String>| {
        let (family, by) = (name(wanted).to_owned(), name(by).to_owned());
        reason.map(|reason| Replaced { family, by, reason })
    };
    for family in [chosen, Family::Recency] {
        match fit(family, last, seed) {
            Ok((model, diagnostics)) => {
                return Served { family, model, diagnostics, replaced: replaced(family, reason) };
            }
            Err(error) => reason = Some(format!("the last fit failed: {error}")),
        }
    }
    let base_rate = BaseRate::of(last.stage.churned.iter().copied());
    Served {
        family: Family::BaseRate,
        model: ChurnModel::BaseRate(base_rate),
        diagnostics: None,
        replaced: replaced(Family::BaseRate, reason),
    }
}

/// A model fitted at c1, with what c2 and c3 say of it.
struct Fitted {
    diagnostics: Option<Diagnostics>,
    /// At c2, before calibration.
    raw: Vec<f64>,
    calibration: Platt,
    calibrated: ChurnMetrics,
    holdout: ChurnMetrics,
}

impl Fitted {
    fn run(family: Family, cuts: &Cuts, seed: Seed) -> Result<Fitted, FitError> {
        for stage in [&cuts.c2.stage, &cuts.c3.stage] {
            if stage.n_customers() == 0 {
                return Err(FitError::TooFewRows { got: 0, need: 1 });
            }
        }
        // A blend is fitted anew at each cut-off.
        let first = if family == Family::Blend { &cuts.c2 } else { &cuts.c1 };
        let (model, mut diagnostics) = fit(family, first, seed)?;
        let raw = probabilities(&model, &cuts.c2);
        let calibration = match Platt::fit(&raw, &cuts.c2.stage.churned) {
            _ if matches!(family, Family::BaseRate | Family::Blend) => Platt::IDENTITY,
            Ok(platt) => platt,
            Err(error) => {
                // A model of purchases was fitted elsewhere, with diagnostics of its own.
                let unfitted = Diagnostics {
                    converged: true,
                    n_iter: None,
                    objective: 0.0,
                    run: 0,
                    notes: Vec::new(),
                };
                let diagnostics = diagnostics.get_or_insert(unfitted);
                diagnostics.notes.push(format!("not calibrated: {error}"));
                Platt::IDENTITY
            }
        };
        let metrics =
            |data: &Encoded, raw| ChurnMetrics::of(&data.stage.churned, &applied(calibration, raw));
        Ok(Fitted {
            diagnostics,
            calibration,
            calibrated: metrics(&cuts.c2, raw.clone()),
            raw,
            holdout: metrics(&cuts.c3, probabilities(&model, &cuts.c3)),
        })
    }
}

fn fit(
    family: Family,
    data: &Encoded,
    seed: Seed,
) -> Result<(ChurnModel, Option<Diagnostics>), FitError> {
    let stage = &data.stage;
    if family != Family::BaseRate && stage.n_customers() < LEAST_CUSTOMERS {
        return Err(FitError::TooFewRows { got: stage.n_customers(), need: LEAST_CUSTOMERS });
    }
    match family {
        Family::Blend => {
            let fitted = data.blended.as_ref().map(|_| (ChurnModel::Blend, None));
            fitted.map_err(Clone::clone)
        }
        Family::Logistic => {
            let targets = Array1::from_vec(stage.churned.clone());
            let fit = LogisticParams::default()
                .fit(&Labelled { rows: data.rows.clone(), targets }, seed)?;
            Ok((ChurnModel::Logistic(fit.model), Some(fit.diagnostics)))
        }
        Family::Purchases => {
            let fitted = data.outlooks.as_ref().map(|_| (ChurnModel::Purchases, None));
            fitted.ok_or(FitError::NoPurchaseModel)
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
    let probability = |(index, life): (usize, &Lifetime)| {
        let silent = match (model, &data.blended) {
            (ChurnModel::Blend, Ok(blended)) => Some(blended.answers[index].p_no_purchase),
            _ => data.outlook(index).map(|outlook| outlook.p_no_purchase),
        };
        model.probability(&data.rows.row(index).to_vec(), life, silent)
    };
    data.stage.lifetimes.par_iter().enumerate().map(probability).collect()
}

fn applied(calibration: Platt, raw: Vec<f64>) -> Vec<f64> {
    if calibration == Platt::IDENTITY {
        return raw;
    }
    raw.into_iter().map(|probability| calibration.apply(probability)).collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Blend => "blend",
        Family::Logistic => "logistic",
        Family::Purchases => "purchases",
        Family::Recency => "recency",
        Family::BaseRate => "base_rate",
    }
}
