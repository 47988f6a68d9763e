//! The model of purchases and drop-out: tried, chosen, fitted again. It learns from purchases alone
//! and needs no labels, so the last fit is at the as-of, of everybody.

use super::evaluation::{PurchaseMetrics, Trial};
use super::settings::HeadSettings;
use super::stage::Stage;
use super::tracking::{Days, PurchaseTracking};
use super::value::INTERVAL_LEVEL;
use crate::domain::{AsOf, Day, Draws, History, Lifetime, Seed};
use crate::matrix::{FeatureMatrix, quantile};
use crate::models::btyd::{
    BtydError, Cohort, CovariateCohort, CovariateParams, GammaGamma, PurchaseFamily, PurchaseModel,
    PurchaseParams, Purchases, Spend, SpendCohort,
};
use crate::models::{Estimator, FitError};
use crate::version::{CovariateColumn, CovariateHead, Outlook, PurchaseHead, Replaced};
use rayon::prelude::*;

/// Fewer customers say too little about how customers differ.
const LEAST_CUSTOMERS: usize = 30;

/// More than these would tell a handful of parameters nothing more, and take memory: every so many-th
/// customer is looked at.
const MOST_CUSTOMERS: usize = 1_000_000;

/// How intervals of draws are measured.
const N_DRAWS: usize = 200;
const ASKED_FOR_INTERVALS: usize = 1_000;

/// What the heads are learned from, as far as purchases go.
pub struct Known<'a> {
    pub stages: &'a [Stage; 3],
    /// Of everybody at the as-of, row by row: raw features and lifetimes.
    pub matrix: &'a FeatureMatrix,
    pub lifetimes: &'a [Lifetime],
    pub histories: &'a [History],
    /// The day on which the clock starts.
    pub start: Day,
    /// The end of c1.
    pub c1: AsOf,
    pub as_of: AsOf,
    pub window_days: u32,
    pub seed: Seed,
    pub settings: &'a HeadSettings,
}

/// The model that was chosen.
pub struct Chosen {
    /// Fitted at c1, as the other heads' candidates are.
    pub first: PurchaseHead,
    /// Fitted at the as-of.
    pub head: PurchaseHead,
    /// What the first expected of the log.
    pub tracking: Option<PurchaseTracking>,
}

/// What a model is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recipe {
    family: PurchaseFamily,
    covariates: bool,
    seasons: bool,
}

/// A head as fitted at c1, with what c2 and c3 say of it.
struct Fitted {
    first: PurchaseHead,
    calibrated: PurchaseMetrics,
    holdout: PurchaseMetrics,
}

/// A recipe with its fit at c1, or why there is none.
type Tried = (Recipe, Result<Fitted, FitError>);

/// Fits each family at c1, chooses by the Brier score of P(no purchase) at c2, measures at c3 and fits
/// the best one again at the as-of. Covariates, where they are asked for, and seasons come on top where
/// they help the best one at c2. Nothing is chosen where no family can be fitted.
pub fn head(known: &Known<'_>) -> (Option<Chosen>, Vec<Trial<PurchaseMetrics>>) {
    let run = |recipe: Recipe| {
        let [c1, ..] = known.stages;
        let days = || Days::of(known.histories, known.start, known.c1);
        let days = recipe.seasons.then(days).flatten();
        let first = recipe.fit(known.settings, &c1.raw, &c1.lifetimes, known.c1, days.as_ref());
        (recipe, first.map(|first| Fitted::of(first, known)))
    };
    let plain = |&family| Recipe { family, covariates: false, seasons: false };
    let mut tried: Vec<Tried> = known.settings.purchases.iter().map(plain).map(run).collect();
    let score = |(_, fitted): &Tried| {
        let brier = fitted.as_ref().map_or(f64::INFINITY, |fitted| fitted.calibrated.brier);
        // What is no number wins over nothing.
        if brier.is_nan() { f64::INFINITY } else { brier }
    };
    let mut best = 0;
    for index in 1..tried.len() {
        if score(&tried[index]) < score(&tried[best]) {
            best = index;
        }
    }
    let mut notes = Vec::new();
    let additions: [fn(Recipe) -> Recipe; 2] = [
        |recipe| Recipe { covariates: true, ..recipe },
        |recipe| Recipe { seasons: true, ..recipe },
    ];
    for addition in additions {
        let Some((recipe, Ok(_))) = tried.get(best) else { break };
        let richer = addition(*recipe);
        if richer.covariates && known.settings.covariates.is_empty() {
            continue;
        }
        tried.push(run(richer));
        let (with, without) = (&tried[tried.len() - 1], &tried[best]);
        if score(with) < score(without) {
            best = tried.len() - 1;
        } else {
            let reason = match &with.1 {
                Err(error) => error.to_string(),
                Ok(_) => format!(
                    "Brier score at calibration {:.6}, {:.6} without them",
                    score(with),
                    score(without)
                ),
            };
            notes.push(format!("not {}: {reason}", richer.name()));
        }
    }
    let (served, chosen) = choose(known, &tried, best, notes).unzip();
    let trials = tried
        .into_iter()
        .enumerate()
        .map(|(index, (recipe, fitted))| {
            let outcome = fitted
                .map(|fitted| (fitted.calibrated, fitted.holdout, Some(fitted.first.diagnostics)));
            Trial::of(&recipe.name(), served == Some(index), outcome)
        })
        .collect();
    (chosen, trials)
}

/// Fits the best recipe again at the as-of, or what is left of it where that cannot be fitted to
/// everybody.
fn choose(
    known: &Known<'_>,
    tried: &[Tried],
    best: usize,
    mut notes: Vec<String>,
) -> Option<(usize, Chosen)> {
    let (wanted, _) = tried.get(best)?;
    let days = Days::of(known.histories, known.start, known.as_of);
    let simpler = |index: &usize| {
        let recipe = tried[*index].0;
        recipe.family == wanted.family
            && (wanted.covariates || !recipe.covariates)
            && (wanted.seasons || !recipe.seasons)
    };
    // Richer recipes were tried later.
    for index in (0..tried.len()).rev().filter(simpler) {
        let (recipe, Ok(fitted)) = &tried[index] else { continue };
        let Known { settings, matrix, lifetimes, as_of, .. } = *known;
        match recipe.fit(settings, matrix, lifetimes, as_of, days.as_ref()) {
            Err(error) => notes.push(format!("not {} at the as-of: {error}", recipe.name())),
            Ok(mut head) => {
                head.diagnostics.notes.extend(notes);
                let first = fitted.first.clone();
                let (stage, window_days) = (&known.stages[0], known.window_days);
                let tracking =
                    days.map(|days| PurchaseTracking::of(&first, &days, stage, window_days));
                return Some((index, Chosen { first, head, tracking }));
            }
        }
    }
    None
}

impl Recipe {
    fn name(self) -> String {
        let covariates = if self.covariates { ", with covariates" } else { "" };
        let seasons = if self.seasons { ", with seasons" } else { "" };
        format!("{}{covariates}{seasons}", self.family.name())
    }

    /// Fits to the customers of raw rows and lifetimes, as they are at `as_of`. Seasons are learned from
    /// the purchases day by day up to then.
    fn fit(
        self,
        settings: &HeadSettings,
        matrix: &FeatureMatrix,
        lifetimes: &[Lifetime],
        as_of: AsOf,
        days: Option<&Days>,
    ) -> Result<PurchaseHead, FitError> {
        let plain = |lifetime: &Lifetime| Purchases::from(lifetime);
        if !self.seasons {
            return self.fit_lived(settings, matrix, lifetimes, &plain);
        }
        let unseasonal = self.fit_lived(settings, matrix, lifetimes, &plain)?;
        let season = days.and_then(|days| days.season(&unseasonal.model));
        let season = season.ok_or(BtydError::ShortYear)?;
        // Once more, in the average days that the season makes of the past.
        let lived = |lifetime: &Lifetime| season.lived(lifetime, as_of.day);
        let mut head = self.fit_lived(settings, matrix, lifetimes, &lived)?;
        head.season = Some(season);
        Ok(head)
    }

    /// Fits to what customers' lives amount to.
    fn fit_lived(
        self,
        settings: &HeadSettings,
        matrix: &FeatureMatrix,
        lifetimes: &[Lifetime],
        lived: &dyn Fn(&Lifetime) -> Purchases,
    ) -> Result<PurchaseHead, FitError> {
        let mut head = fit(self.family, lifetimes, lived)?;
        if self.covariates {
            let (covariates, replaced) =
                covariates(self.family, settings, matrix, lifetimes, lived)?;
            let notes = covariates.diagnostics.notes.iter();
            head.diagnostics.notes.extend(notes.map(|note| format!("covariates: {note}")));
            head.covariates = Some(covariates);
            head.replaced = replaced;
        }
        Ok(head)
    }
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
    let held = |&&row: &&usize| {
        let mut draws = Draws::new(known.seed.derive("spend interval", row as u64));
        let (raw, lifetime) = (stage.raw.row(row), &stage.lifetimes[row]);
        let (as_of, days) = (stage.cutoff, known.window_days);
        let (low, high) = spend_interval(head, raw, lifetime, as_of, days, &mut draws);
        (low..=high).contains(&stage.spend[row])
    };
    asked.par_iter().filter(held).count() as f64 / asked.len().max(1) as f64
}

/// The interval of a customer's spend in the days after a cut-off, by draws.
pub fn spend_interval(
    head: &PurchaseHead,
    raw: &[f64],
    lifetime: &Lifetime,
    as_of: Day,
    days: u32,
    draws: &mut Draws,
) -> (f64, f64) {
    let mut spends = head.draw_spends(raw, lifetime, as_of, days, N_DRAWS, draws);
    spends.sort_unstable_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - INTERVAL_LEVEL);
    (quantile(&spends, tail), quantile(&spends, 1.0 - tail))
}

/// The most likely model of a family, with spend, and without covariates and seasons.
pub fn plain(family: PurchaseFamily, lifetimes: &[Lifetime]) -> Result<PurchaseHead, FitError> {
    fit(family, lifetimes, &|lifetime| Purchases::from(lifetime))
}

/// What a head says of the window after a stage.
pub fn outlooks(head: &PurchaseHead, stage: &Stage, window_days: u32) -> Vec<Outlook> {
    let ask = |row: usize| {
        head.outlook(stage.raw.row(row), &stage.lifetimes[row], stage.cutoff, window_days)
    };
    (0..stage.n_customers()).into_par_iter().map(ask).collect()
}

/// Every so many-th of very many customers. Those who are next to each other are alike in their ids
/// or in a hash of them, and so in nothing that matters here.
fn thinned(lifetimes: &[Lifetime]) -> impl Iterator<Item = &Lifetime> {
    lifetimes.iter().step_by(step(lifetimes))
}

fn step(lifetimes: &[Lifetime]) -> usize {
    lifetimes.len().div_ceil(MOST_CUSTOMERS).max(1)
}

/// The most likely model of the customers who bought, and of what they spent on the days on which
/// they came again.
fn fit(
    family: PurchaseFamily,
    lifetimes: &[Lifetime],
    lived: &dyn Fn(&Lifetime) -> Purchases,
) -> Result<PurchaseHead, FitError> {
    let buyers = || thinned(lifetimes).filter(|lifetime| lifetime.purchase_days > 0);
    let customers: Vec<Purchases> = buyers().map(lived).collect();
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
            fit.with_mean()
        }
        Err(error) => {
            diagnostics.notes.push(format!("no model of spend: {error}"));
            None
        }
    };
    let replaced = replaced(family, &fit.model.model, fit.model.replaced);
    let (model, evidence) = (fit.model.model, fit.model.evidence);
    let (covariates, season) = (None, None);
    Ok(PurchaseHead { model, evidence, diagnostics, covariates, spend, season, replaced })
}

/// The model without drop-out in the place of another, and why, where it is.
fn replaced(
    family: PurchaseFamily,
    model: &PurchaseModel,
    reason: Option<String>,
) -> Option<Replaced> {
    let by = match model.family() {
        PurchaseFamily::Nbd => PurchaseFamily::Nbd.name().to_owned(),
        regular => format!("{} without drop-out", regular.name()),
    };
    reason.map(|reason| Replaced { family: family.name().to_owned(), by, reason })
}

/// What the customers' attributes do to their rate and their drop-out.
fn covariates(
    family: PurchaseFamily,
    settings: &HeadSettings,
    matrix: &FeatureMatrix,
    lifetimes: &[Lifetime],
    lived: &dyn Fn(&Lifetime) -> Purchases,
) -> Result<(CovariateHead, Option<Replaced>), FitError> {
    let names = matrix.names().iter().enumerate();
    let is_wanted = |(_, name): &(usize, &String)| settings.covariates.contains(name);
    let columns: Vec<CovariateColumn> = names
        .filter(is_wanted)
        .map(|(feature, _)| CovariateColumn::of(feature, matrix.rows().map(|row| row[feature])))
        .collect();
    let name = |column: &CovariateColumn| matrix.names()[column.feature].clone();
    let names: Vec<String> = columns.iter().map(name).collect();
    let customers = matrix.rows().step_by(step(lifetimes)).zip(thinned(lifetimes));
    let buyers = customers.filter(|(_, lifetime)| lifetime.purchase_days > 0);
    let customers: Vec<(Purchases, Vec<f64>)> = buyers
        .map(|(raw, lifetime)| {
            // The fit must know everybody's.
            let known = |column: &CovariateColumn| column.read(raw).unwrap_or(column.mean);
            (lived(lifetime), columns.iter().map(known).collect())
        })
        .collect();
    let params = CovariateParams { family, penalty: settings.penalty, l1_ratio: settings.l1_ratio };
    let fit = params.fit(&CovariateCohort::new(names, &customers)?, Seed(0))?;
    let (model, evidence) = (fit.model.model, fit.model.evidence);
    let replaced = replaced(family, &model.base, fit.model.replaced);
    Ok((CovariateHead { columns, model, evidence, diagnostics: fit.diagnostics }, replaced))
}
