//! The model of purchases and drop-out: tried, chosen, fitted again. It learns from purchases alone
//! and needs no labels, so the last fit is at the as-of, of everybody.

use super::evaluation::{PurchaseMetrics, Trial};
use super::stage::Stage;
use super::tracking::{Days, PurchaseTracking};
use crate::domain::{AsOf, Draws, History, Lifetime, Seed};
use crate::matrix::quantile;
use crate::models::btyd::{
    Cohort, GammaGamma, PurchaseFamily, PurchaseParams, Purchases, Spend, SpendCohort,
};
use crate::models::{Estimator, FitError};
use crate::version::{Outlook, PurchaseHead, Replaced};
use rayon::prelude::*;

/// Fewer customers say too little about how customers differ.
const LEAST_CUSTOMERS: usize = 30;

/// The share of customers that intervals of draws are meant to hold, and how they are measured.
const INTERVAL_LEVEL: f64 = 0.8;
const N_DRAWS: usize = 200;
const ASKED_FOR_INTERVALS: usize = 1_000;

/// What the heads are learned from, as far as purchases go.
pub struct Known<'a> {
    pub stages: &'a [Stage; 3],
    /// Of everybody at the as-of.
    pub lifetimes: &'a [Lifetime],
    pub histories: &'a [History],
    /// The end of c1.
    pub c1: AsOf,
    pub as_of: AsOf,
    pub window_days: u32,
    pub seed: Seed,
}

/// The family that was chosen.
pub struct Chosen {
    /// Fitted at c1, as the other heads' candidates are.
    pub first: PurchaseHead,
    /// Fitted at the as-of.
    pub head: PurchaseHead,
    /// What the first expected of the log.
    pub tracking: Option<PurchaseTracking>,
}

/// A family's head as fitted at c1, with what c2 and c3 say of it.
struct Fitted {
    first: PurchaseHead,
    calibrated: PurchaseMetrics,
    holdout: PurchaseMetrics,
}

/// Fits each of `families` at c1, chooses by the Brier score of P(no purchase) at c2, measures at c3
/// and fits the best one again at the as-of. Seasons come on top where they help the best one at c2.
/// Nothing is chosen where no family can be fitted.
pub fn head(
    known: &Known<'_>,
    families: &[PurchaseFamily],
) -> (Option<Chosen>, Vec<Trial<PurchaseMetrics>>) {
    let run = |family| {
        let first = fit(family, &known.stages[0].lifetimes)?;
        Ok(Fitted::of(first, known))
    };
    let mut tried: Vec<(String, Result<Fitted, FitError>)> =
        families.iter().map(|&family| (family.name().to_owned(), run(family))).collect();
    let best = tried
        .iter()
        .enumerate()
        .filter_map(|(index, (_, fitted))| Some((index, fitted.as_ref().ok()?.calibrated.brier)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index);
    let mut chosen = None;
    let mut served = best;
    if let Some(index) = best {
        let (name, again) = (tried[index].0.clone(), fit(families[index], known.lifetimes));
        match (again, &tried[index].1) {
            (Ok(mut head), Ok(fitted)) => {
                let mut first = fitted.first.clone();
                match seasonal(fitted, known) {
                    Ok(better) => {
                        first = better.first.clone();
                        head.season = days(known, known.as_of).and_then(|d| d.season(&head.model));
                        served = Some(tried.len());
                        tried.push((format!("{name}, with seasons"), Ok(better)));
                    }
                    Err(reason) => head.diagnostics.notes.push(format!("no seasons: {reason}")),
                }
                let stage = &known.stages[0];
                let tracking = days(known, known.as_of)
                    .map(|days| PurchaseTracking::of(&first, &days, stage, known.window_days));
                chosen = Some(Chosen { first, head, tracking });
            }
            (Err(error), _) => tried[index].1 = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    let trials = tried
        .into_iter()
        .enumerate()
        .map(|(index, (name, fitted))| {
            let is_chosen = chosen.is_some() && Some(index) == served;
            let outcome = fitted
                .map(|fitted| (fitted.calibrated, fitted.holdout, Some(fitted.first.diagnostics)));
            Trial::of(&name, is_chosen, outcome)
        })
        .collect();
    (chosen, trials)
}

impl Fitted {
    fn of(first: PurchaseHead, known: &Known<'_>) -> Fitted {
        let metrics = |stage: &Stage| {
            let outlooks = outlooks(&first, stage, known.window_days);
            let coverage = coverage(&first, stage, known);
            PurchaseMetrics::of(&stage.purchases, &outlooks, INTERVAL_LEVEL, coverage)
        };
        let (calibrated, holdout) = (metrics(&known.stages[1]), metrics(&known.stages[2]));
        Fitted { first, calibrated, holdout }
    }
}

/// The share of customers, of at most so many, whose spend lies within the interval of their draws.
fn coverage(head: &PurchaseHead, stage: &Stage, known: &Known<'_>) -> f64 {
    let step = stage.n_customers().div_ceil(ASKED_FOR_INTERVALS).max(1);
    let asked: Vec<usize> = (0..stage.n_customers()).step_by(step).collect();
    let tail = 0.5 * (1.0 - INTERVAL_LEVEL);
    let held = |&&row: &&usize| {
        let mut draws = Draws::new(known.seed.derive("spend interval", row as u64));
        let lifetime = &stage.lifetimes[row];
        let mut spends: Vec<f64> = (0..N_DRAWS)
            .map(|_| head.draw_spend(lifetime, stage.cutoff, known.window_days, &mut draws))
            .collect();
        spends.sort_unstable_by(f64::total_cmp);
        let spend = stage.spend[row];
        quantile(&spends, tail) <= spend && spend <= quantile(&spends, 1.0 - tail)
    };
    asked.par_iter().filter(held).count() as f64 / asked.len().max(1) as f64
}

/// The same with the seasons of the days up to c1, or why they are left out.
fn seasonal(fitted: &Fitted, known: &Known<'_>) -> Result<Fitted, String> {
    let season = days(known, known.c1).and_then(|days| days.season(&fitted.first.model));
    let Some(season) = season else {
        return Err("the log holds less than a year before the first cut-off".to_owned());
    };
    let first = PurchaseHead { season: Some(season), ..fitted.first.clone() };
    let better = Fitted::of(first, known);
    let (with, without) = (better.calibrated.brier, fitted.calibrated.brier);
    if with < without {
        return Ok(better);
    }
    Err(format!("Brier score at calibration {with:.6} with them, {without:.6} without"))
}

fn days(known: &Known<'_>, as_of: AsOf) -> Option<Days> {
    Days::of(known.histories, as_of)
}

/// What a head says of the window after a stage.
pub fn outlooks(head: &PurchaseHead, stage: &Stage, window_days: u32) -> Vec<Outlook> {
    let outlook = |lifetime| head.outlook(lifetime, stage.cutoff, window_days);
    stage.lifetimes.iter().map(outlook).collect()
}

/// The most likely model of the customers who bought, and of what they spent on the days on which
/// they came again.
fn fit(family: PurchaseFamily, lifetimes: &[Lifetime]) -> Result<PurchaseHead, FitError> {
    let buyers = || lifetimes.iter().filter(|lifetime| lifetime.purchase_days > 0);
    let customers: Vec<Purchases> = buyers().map(Purchases::from).collect();
    if customers.len() < LEAST_CUSTOMERS {
        return Err(FitError::TooFewRows { got: customers.len(), need: LEAST_CUSTOMERS });
    }
    // Nothing is drawn, so no seed matters.
    let fit = PurchaseParams { family }.fit(&Cohort::new(&customers)?, Seed(0))?;
    let mut diagnostics = fit.diagnostics;
    let spend: Vec<(Spend, f64)> = buyers()
        .map(|lifetime| Spend { frequency: lifetime.frequency, mean: lifetime.monetary_value })
        .filter(Spend::check)
        .map(|spend| (spend, 1.0))
        .collect();
    let spend = match SpendCohort::new(&spend).map(|cohort| GammaGamma::fit(&cohort)) {
        Ok(fit) => {
            diagnostics.notes.extend(fit.findings.iter().map(ToString::to_string));
            // A new customer must have an expected spend.
            Some(fit.model).filter(|model| model.population_mean().is_some())
        }
        Err(error) => {
            diagnostics.notes.push(format!("no model of spend: {error}"));
            None
        }
    };
    let replaced = fit.model.replaced.map(|reason| Replaced {
        family: family.name().to_owned(),
        by: fit.model.model.family().name().to_owned(),
        reason,
    });
    let (model, evidence) = (fit.model.model, fit.model.evidence);
    Ok(PurchaseHead { model, evidence, diagnostics, spend, season: None, replaced })
}
