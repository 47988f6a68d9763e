//! The gate's trial: both versions answer at the incumbent's as-of, and what happened next tells.

use super::forecast::{Forecasted, forecast};
use super::gate::{GateParams, Outcome, Outcomes, Rival, Verdict, compare, too_few};
use super::settings::TrainingSettings;
use super::stage::{self, Lens};
use super::train::Predecessor;
use super::{TrainError, identity};
use crate::domain::{AsOf, EventRules, History, Lifetime};
use crate::features::{FeatureSpec, FeatureTable, Plan, SpecError};
use crate::version::{ChurnIs, Eligibility, Facts, Forecast};

/// What answers in a trial: the part of a version that the outcomes can tell right or wrong.
struct Contestant<'a> {
    rules: &'a EventRules,
    spec: &'a FeatureSpec,
    eligibility: Eligibility,
    churn_is: ChurnIs,
    forecast: &'a Forecast,
}

/// Fits a candidate's settings to what was known at the incumbent's as-of, lets both answer there,
/// and compares them by what happened up to the candidate's as-of, or up to the candidate's horizon
/// where that is nearer.
///
/// `relabelled` is the share of customers that the candidate puts into another segment, where known.
/// A candidate that cannot be tried is undecided, with the reason.
///
/// # Errors
/// [`TrainError`] where a feature spec cannot be compiled.
pub fn judge(
    histories: &[History],
    settings: &TrainingSettings,
    incumbent: &Predecessor<'_>,
    as_of: AsOf,
    relabelled: Option<f64>,
    params: &GateParams,
) -> Result<Verdict, TrainError> {
    judge_fitted_on(histories, histories, settings, incumbent, as_of, relabelled, params)
}

/// The same with the candidate fitted on other histories than those that tell.
///
/// # Errors
/// As [`judge`].
pub fn judge_fitted_on(
    fitted_on: &[History],
    histories: &[History],
    settings: &TrainingSettings,
    incumbent: &Predecessor<'_>,
    as_of: AsOf,
    relabelled: Option<f64>,
    params: &GateParams,
) -> Result<Verdict, TrainError> {
    if let Err(reason) = identity::check(incumbent, settings, as_of) {
        let version = &incumbent.incumbent.version;
        let reason = format!("{version} cannot answer beside the candidate: {reason}");
        return Ok(undecided(reason, relabelled));
    }
    if settings.churn_is == ChurnIs::Label {
        let reason = "labels of contracts are not judged yet: what happened next is in the labels";
        return Ok(undecided(reason.to_owned(), relabelled));
    }
    let then = incumbent.as_of;
    let settings = &settings.resolved(fitted_on);
    let plan = Plan::compile(&settings.spec, &settings.rules)?;
    let FeatureTable { rows, matrix } = settings.lens(&plan).eligible(fitted_on, then);
    let life = |&row: &usize| settings.churn_is.lifetime(&fitted_on[row], then, &settings.rules);
    let lifetimes: Vec<Lifetime> = rows.iter().map(life).collect();
    let candidate = match forecast(fitted_on, &matrix, &lifetimes, settings, &plan, then, &|_| ()) {
        Ok(Forecasted { forecast, .. }) => forecast,
        Err(error @ TrainError::Spec(_)) => return Err(error),
        Err(error) => {
            let reason = format!("the candidate cannot be fitted up to {}: {error}", then.day);
            return Ok(undecided(reason, relabelled));
        }
    };
    // Inactivity is told by whole days alone, and the as-of's may have merely begun.
    let zone = &settings.rules.zone;
    let by_whole_days = settings.churn_is.is_of_the_window_alone();
    let last = if by_whole_days { zone.last_over(as_of) } else { as_of.day };
    let days = (last.since(then.day).max(0) as u32).min(settings.horizon_days);
    if days == 0 {
        let reason = format!("nothing has happened since the incumbent's as-of {}", then.day);
        return Ok(undecided(reason, relabelled));
    }
    let until = zone.end_of(then.day.plus(days as i32));
    let until = if until.at < as_of.at { until } else { as_of };
    let old = Contestant {
        rules: &incumbent.version.rules,
        spec: &incumbent.version.spec,
        eligibility: incumbent.version.eligibility,
        churn_is: settings.churn_is,
        forecast: &incumbent.version.forecast,
    };
    let new = Contestant {
        rules: &settings.rules,
        spec: &settings.spec,
        eligibility: settings.eligibility,
        churn_is: settings.churn_is,
        forecast: &candidate,
    };
    let asked: Vec<usize> = (0..histories.len())
        .filter(|&row| !histories[row].is_empty_until(then) && !histories[row].opted_out())
        .collect();
    let rivals =
        [old.answers(histories, &asked, then, days)?, new.answers(histories, &asked, then, days)?];
    let outcomes = outcomes(histories, &asked, settings, then, until);
    let [old, new] = rivals;
    let mut verdict = compare(&old, &new, &outcomes, days, relabelled, params, settings.seed);
    let horizons = [&incumbent.version.forecast, &candidate].map(|f| f.bridge.horizon_days);
    if settings.churn_is.is_of_the_window_alone() && horizons != [days; 2] {
        let [old, new] = horizons;
        // That nobody's churn is told follows from it, and would stand before it as if it were the reason.
        let none = too_few("churn", 0, params.least_customers);
        verdict.reasons.retain(|reason| *reason != none);
        verdict.reasons.push(format!(
            "churn is inactivity within {old} days in the incumbent and {new} in the candidate, of which \
             {days} days tell nothing"
        ));
    }
    Ok(verdict)
}

fn undecided(reason: String, relabelled: Option<f64>) -> Verdict {
    Verdict {
        outcome: Outcome::Undecided,
        reasons: vec![reason],
        window_days: 0,
        n_customers: 0,
        comparisons: Vec::new(),
        relabelled,
    }
}

impl Contestant<'_> {
    /// What it says of the `days` after `then`, row by row of `asked`.
    fn answers(
        &self,
        histories: &[History],
        asked: &[usize],
        then: AsOf,
        days: u32,
    ) -> Result<Rival, SpecError> {
        let rules = self.rules;
        let plan = Plan::compile(self.spec, self.rules)?;
        let (eligibility, churn_is) = (self.eligibility, self.churn_is);
        let lens = Lens { plan: &plan, rules, eligibility, churn_is, at_most: usize::MAX };
        let table = lens.eligible(histories, then);
        let encoder = &self.forecast.encoder;
        let mut encoded = vec![0.0; encoder.width()];
        let mut rival = Rival { churn: Vec::new(), value: Vec::new() };
        let mut rows = table.rows.iter().zip(table.matrix.rows()).peekable();
        for &row in asked {
            let raw = rows.next_if(|(answered, _)| **answered == row).map(|(_, raw)| raw);
            let Some(raw) = raw else {
                rival.churn.push(None);
                rival.value.push(None);
                continue;
            };
            let life = churn_is.lifetime(&histories[row], then, rules);
            encoder.encode(raw, &mut encoded);
            let facts = Facts { raw, encoded: &encoded, lifetime: &life, as_of: then.day };
            let expected = self.forecast.within(&facts, self.churn_is, days);
            let is_lost = self.eligibility.is_lost(churn_is, &life);
            rival.value.push(Some(expected.spend));
            rival.churn.push((!is_lost).then_some(expected.churn));
        }
        Ok(rival)
    }
}

/// What happened after `then` up to `until`.
fn outcomes(
    histories: &[History],
    asked: &[usize],
    settings: &TrainingSettings,
    then: AsOf,
    until: AsOf,
) -> Outcomes {
    let unit = settings.rules.currency.minor_per_major();
    let outcome = |&row: &usize| {
        let history = &histories[row];
        let spend = stage::window(history, then, until).unwrap_or(0) as f64 / unit;
        (stage::has_churned(settings.churn_is, history, then, until, &settings.rules.zone), spend)
    };
    let (churned, spend) = asked.iter().map(outcome).unzip();
    Outcomes { churned, spend }
}
