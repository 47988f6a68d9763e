//! The model of purchases and drop-out: tried, chosen, fitted again. It learns from purchases alone
//! and needs no labels, so the last fit is at the as-of, of everybody.

use super::evaluation::{PurchaseMetrics, Trial};
use super::stage::Stage;
use crate::domain::{Lifetime, Seed};
use crate::models::btyd::{
    Cohort, GammaGamma, PurchaseFamily, PurchaseParams, Purchases, Spend, SpendCohort,
};
use crate::models::{Estimator, FitError};
use crate::version::{Outlook, PurchaseHead, Replaced};

/// Fewer customers say too little about how customers differ.
const LEAST_CUSTOMERS: usize = 30;

/// The family that was chosen.
pub struct Chosen {
    /// Fitted at c1, as the other heads' candidates are.
    pub first: PurchaseHead,
    /// Fitted at the as-of.
    pub head: PurchaseHead,
}

/// Fits each of `families` at c1, chooses by the Brier score of P(no purchase) at c2, measures at c3
/// and fits the best one again on `lifetimes`, those of everybody at the as-of. Nothing is chosen
/// where no family can be fitted.
pub fn head(
    [c1, c2, c3]: &[Stage; 3],
    lifetimes: &[Lifetime],
    families: &[PurchaseFamily],
    window_days: u32,
) -> (Option<Chosen>, Vec<Trial<PurchaseMetrics>>) {
    let measured = |family: PurchaseFamily| {
        let first = fit(family, &c1.lifetimes)?;
        let metrics = |stage| metrics(&first, stage, window_days);
        let (calibration, holdout) = (metrics(c2), metrics(c3));
        Ok((first, calibration, holdout))
    };
    let mut tried: Vec<(PurchaseFamily, Result<_, FitError>)> =
        families.iter().map(|&family| (family, measured(family))).collect();
    let best = tried
        .iter()
        .enumerate()
        .filter_map(|(index, (_, fitted))| Some((index, fitted.as_ref().ok()?.1.brier)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index);
    let chosen = best.and_then(|index| {
        let (family, fitted) = &mut tried[index];
        match (fit(*family, lifetimes), &*fitted) {
            (Ok(head), Ok((first, ..))) => Some(Chosen { first: first.clone(), head }),
            (Err(error), _) => {
                *fitted = Err(error);
                None
            }
            (Ok(_), Err(_)) => None,
        }
    });
    let trials = tried
        .into_iter()
        .enumerate()
        .map(|(index, (family, fitted))| {
            let is_chosen = chosen.is_some() && Some(index) == best;
            let outcome = fitted
                .map(|(head, calibration, holdout)| (calibration, holdout, Some(head.diagnostics)));
            Trial::of(family.name(), is_chosen, outcome)
        })
        .collect();
    (chosen, trials)
}

/// What a head says of the window after a stage.
pub fn outlooks(head: &PurchaseHead, stage: &Stage, window_days: u32) -> Vec<Outlook> {
    stage.lifetimes.iter().map(|lifetime| head.outlook(lifetime, window_days)).collect()
}

fn metrics(head: &PurchaseHead, stage: &Stage, window_days: u32) -> PurchaseMetrics {
    PurchaseMetrics::of(&stage.purchases, &outlooks(head, stage, window_days))
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
    Ok(PurchaseHead { model, evidence, diagnostics, spend, replaced })
}
