//! What every model would have said at a cut-off, beside what happened after it.

mod curves;
mod deciles;
mod scorecard;

pub use curves::{Curves, Decile};
pub use scorecard::{Metric, ModelScores, Scorecard, Section, Who};

use super::forecast::{Forecasted, Rivals, forecast_among, start};
use super::purchases::{plain, spend_interval};
use super::settings::TrainingSettings;
use super::stage::{has_churned, purchase_days, window};
use super::value::INTERVAL_LEVEL;
use super::{Clock, TrainError};
use crate::domain::{AsOf, CustomerId, Day, Draws, History, Lifetime, Seed};
use crate::features::{FeatureTable, Plan};
use crate::matrix::FeatureMatrix;
use crate::models::Estimator;
use crate::models::btyd::PurchaseFamily;
use crate::models::churn::RecencyParams;
use crate::models::value::{NaiveRate, ValueModel};
use crate::version::{ChurnIs, Eligibility, Expected, Facts, Forecast, PurchaseHead};
use rayon::prelude::*;
use std::borrow::Cow;

/// The row of what training would serve.
pub const SERVED: &str = "served";
/// The rows that models are held against: days since the last purchase for churn, and the historical
/// rate for purchases and spend.
pub const CHURN_BASELINE: &str = "recency";
pub const VALUE_BASELINE: &str = "naive_rate";
/// The row that interval scores are held against: the quantiles of what customers with alike predictions
/// did earlier.
pub const INTERVAL_BASELINE: &str = "decile_quantiles";

/// The customers who were known at a cut-off, what they did in the horizon after it, and what each
/// model had said of them. Row by row the same customer throughout, in the order of the histories.
#[derive(Debug, Clone)]
pub struct Backtest {
    /// The day at whose end the cut-off is.
    pub cutoff: Day,
    /// The last day of the horizon.
    pub until: Day,
    /// Where what is served was fitted, calibrated and measured; all of it by the cut-off.
    pub clock: Clock,
    pub customers: Vec<CustomerId>,
    /// What churn is in it.
    pub churn_is: ChurnIs,
    /// Whether each churned within the horizon; `None` of who had churned by the cut-off, which
    /// inactivity alone can tell.
    pub churned: Vec<Option<bool>>,
    /// Days with a purchase within the horizon.
    pub purchases: Vec<f64>,
    /// Spend within the horizon, in major currency units.
    pub spend: Vec<f64>,
    /// Whether the heads of value and churn would answer: old enough, and for churn not yet lost.
    pub is_valued: Vec<bool>,
    pub is_churning: Vec<bool>,
    pub models: Vec<Answers>,
}

/// What one model says of the horizon, `(n_customers,)` each. A model need not answer everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    pub model: String,
    /// P(churn): of no purchase, or of inactivity.
    pub silence: Option<Vec<f64>>,
    /// In the place of that, any number by which customers are ranked from the likeliest to stay.
    pub silence_score: Option<Vec<f64>>,
    /// Expected days with a purchase.
    pub purchases: Option<Vec<f64>>,
    pub purchase_interval: Option<Bounds>,
    /// Expected spend, in major currency units.
    pub spend: Option<Vec<f64>>,
    pub spend_interval: Option<Bounds>,
    /// What the model is made of where its name does not say it, or why it does not answer.
    pub notes: Vec<String>,
}

/// An interval for each customer, `(n_customers,)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// The share of customers that it is meant to hold.
    pub level: f64,
    pub low: Vec<f64>,
    pub high: Vec<f64>,
}

/// Whom models are asked about, and when.
#[derive(Clone, Copy)]
struct Asked<'a> {
    cutoff: Day,
    days: u32,
    /// Features before transforms, `(n_customers, n_features)`.
    raw: &'a FeatureMatrix,
    lifetimes: &'a [Lifetime],
    churn_is: ChurnIs,
}

/// Lets every model answer at `cutoff` about the days up to `until`, of which `settings.horizon_days`
/// says nothing, and looks at what happened. Models learn from what was known at the cut-off alone.
///
/// `histories` are sorted by customer id; those who did nothing by the cut-off, or opted out, are
/// left aside. Who was too new or lost is asked about too, and told apart by
/// [`Backtest::is_valued`] and [`Backtest::is_churning`].
///
/// # Errors
/// [`TrainError`], as training at the cut-off has it; [`TrainError::LabelsNotEvaluated`] where churn is
/// the end of a contract.
pub fn backtest(
    histories: &[History],
    settings: &TrainingSettings,
    cutoff: AsOf,
    until: AsOf,
    progress: &dyn Fn(&str),
) -> Result<Backtest, TrainError> {
    if settings.churn_is == ChurnIs::Label {
        return Err(TrainError::LabelsNotEvaluated);
    }
    let days = u32::try_from(until.day.since(cutoff.day)).ok().filter(|&days| days > 0);
    let no_horizon = TrainError::NoHorizon { cutoff: cutoff.day, until: until.day };
    let days = days.ok_or(no_horizon)?;
    let known = known_at(histories, cutoff);
    if known.is_empty() {
        return Err(TrainError::NoEvents { as_of: cutoff.day });
    }
    let settings = TrainingSettings { horizon_days: days, ..settings.resolved(&known) };
    let plan = Plan::compile(&settings.spec, &settings.rules)?;
    let (currency, churn_is) = (&settings.rules.currency, settings.churn_is);
    progress("features at the cut-off");
    let rows = (0..known.len()).filter(|&row| !known[row].opted_out()).collect();
    let FeatureTable { rows, matrix } = plan.rows(&known, rows, cutoff);
    let life = |&row: &usize| churn_is.lifetime(&known[row], cutoff, &settings.rules);
    let lifetimes: Vec<Lifetime> = rows.par_iter().map(life).collect();
    let eligibility = settings.eligibility;
    let is_valued: Vec<bool> =
        rows.iter().map(|&row| eligibility.answers(churn_is, &known[row], cutoff)).collect();
    let is_churning = is_valued
        .iter()
        .zip(&lifetimes)
        .map(|(&is_valued, lifetime)| is_valued && !eligibility.is_lost(churn_is, lifetime))
        .collect();

    let eligible: Vec<usize> = (0..rows.len()).filter(|&row| is_valued[row]).collect();
    if eligible.is_empty() {
        return Err(TrainError::NobodyAt { day: cutoff.day });
    }
    let learned = matrix.select(&eligible);
    let lived: Vec<Lifetime> = eligible.iter().map(|&row| lifetimes[row]).collect();
    let Forecasted { forecast, clock, rivals, .. } =
        forecast_among(&known, &learned, &lived, &settings, &plan, cutoff, true, progress)?;

    progress("every model answers");
    let lifetimes = &lifetimes;
    let asked = Asked { cutoff: cutoff.day, days, raw: &matrix, lifetimes, churn_is };
    let families: Vec<Answers> = PurchaseFamily::ALL
        .par_iter()
        .map(|&family| asked.family(family, &lived, settings.seed))
        .collect();
    // One more model is one more row here.
    let mut models = vec![asked.naive_rate(), asked.recency(&known, &settings, cutoff)];
    models.push(asked.decile_quantiles(&known, &settings, &plan, cutoff, &forecast));
    models.extend(asked.rivals(&forecast, rivals));
    models.extend(families);
    models.push(asked.served(&forecast));

    let unit = currency.minor_per_major();
    let outcome = |(&row, lifetime): (&usize, &Lifetime)| {
        // Days of inactivity that are complete by the cut-off are no outcome of the horizon.
        let is_over = Eligibility::EVERYBODY.is_lost(churn_is, lifetime);
        (!is_over).then(|| has_churned(churn_is, &known[row], cutoff, until, &settings.rules.zone))
    };
    let churned = rows.par_iter().zip(lifetimes).map(outcome).collect();
    let spent = |&row: &usize| window(&known[row], cutoff, until).unwrap_or(0) as f64 / unit;
    let bought = |&row: &usize| f64::from(purchase_days(&known[row], cutoff, until));
    Ok(Backtest {
        cutoff: cutoff.day,
        until: until.day,
        clock,
        customers: rows.iter().map(|&row| known[row].customer().clone()).collect(),
        churn_is,
        churned,
        purchases: rows.par_iter().map(bought).collect(),
        spend: rows.par_iter().map(spent).collect(),
        is_valued,
        is_churning,
        models: models.into_iter().map(Answers::finite).collect(),
    })
}

/// The customers of whom there was an event by then, as training at that as-of is given them.
fn known_at(histories: &[History], cutoff: AsOf) -> Cow<'_, [History]> {
    let is_known = |history: &&History| !history.is_empty_until(cutoff);
    if histories.iter().all(|history| is_known(&history)) {
        return Cow::Borrowed(histories);
    }
    Cow::Owned(histories.iter().filter(is_known).cloned().collect())
}

impl Backtest {
    /// Those of these customers who can churn within the horizon, and whether they did.
    pub fn outcomes_of_churn(&self, is_asked: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<bool>) {
        let outcomes = self.churned.iter().enumerate();
        outcomes
            .filter_map(|(row, &churned)| Some((row, churned?)))
            .filter(|&(row, _)| is_asked(row))
            .unzip()
    }

    /// The answers of a model.
    pub fn model(&self, name: &str) -> Option<&Answers> {
        self.models.iter().find(|answers| answers.model == name)
    }
}

impl Answers {
    fn named(model: &str) -> Answers {
        Answers { model: model.to_owned(), ..Answers::default() }
    }

    /// Leaves out what is not finite for everybody, with a note of it.
    fn finite(mut self) -> Answers {
        let mut notes = Vec::new();
        let mut check = |name: &str, column: &mut Option<Vec<f64>>| {
            let n = column.iter().flatten().filter(|number| !number.is_finite()).count();
            if n > 0 {
                notes.push(format!("{name} left out: not finite for {n} customers"));
                *column = None;
            }
        };
        check("P(churn)", &mut self.silence);
        check("purchases", &mut self.purchases);
        check("spend", &mut self.spend);
        let mut check = |name: &str, bounds: &mut Option<Bounds>| {
            let both = bounds.iter().flat_map(|bounds| bounds.low.iter().zip(&bounds.high));
            let n = both.filter(|(low, high)| !(low.is_finite() && high.is_finite())).count();
            if n > 0 {
                notes.push(format!("interval of {name} left out: not finite for {n} customers"));
                *bounds = None;
            }
        };
        check("purchases", &mut self.purchase_interval);
        check("spend", &mut self.spend_interval);
        self.notes.extend(notes);
        self
    }
}

impl Asked<'_> {
    /// The past goes on; customers are ranked for churn by their silence.
    fn naive_rate(&self) -> Answers {
        let rate = NaiveRate { window_days: self.days };
        let silent = |life: &Lifetime| f64::from(life.silent_days());
        Answers {
            silence_score: Some(self.lifetimes.iter().map(silent).collect()),
            purchases: Some(self.lifetimes.iter().map(|life| rate.purchases(life)).collect()),
            spend: Some(self.lifetimes.iter().map(|life| rate.predict(life)).collect()),
            ..Answers::named(VALUE_BASELINE)
        }
    }

    /// Days of silence alone, learned from the window before the cut-off, which is as long as the horizon
    /// or half of the log. Longer horizons are asked about in units of themselves, so that no other
    /// model has a part in it. (Of inactivity there are none: training has refused them.)
    fn recency(&self, known: &[History], settings: &TrainingSettings, cutoff: AsOf) -> Answers {
        let mut answers = Answers::named(CHURN_BASELINE);
        let span = start(known, settings, cutoff).map_or(0, |start| cutoff.day.since(start));
        let window_days = self.days.min(span.max(2) as u32 / 2);
        let then = settings.rules.zone.end_of(self.cutoff.plus(-(window_days as i32)));
        let answered =
            |history: &&History| settings.eligibility.answers(settings.churn_is, history, then);
        let churn_is = settings.churn_is;
        let life = |history: &History| churn_is.lifetime(history, then, &settings.rules);
        let (lifetimes, churned) = known
            .iter()
            .filter(answered)
            .map(|history| {
                (life(history), has_churned(churn_is, history, then, cutoff, &settings.rules.zone))
            })
            .filter(|(lifetime, _)| !settings.eligibility.is_lost(churn_is, lifetime))
            .unzip();
        match RecencyParams.fit(&(lifetimes, churned), settings.seed) {
            Err(error) => answers.notes.push(error.to_string()),
            Ok(fit) => {
                let windows = f64::from(self.days) / f64::from(window_days);
                let silent = |life: &Lifetime| fit.model.probability_within(life, windows);
                answers.silence = Some(self.lifetimes.iter().map(silent).collect());
                answers
                    .notes
                    .push(format!("learned from the {window_days} days before the cut-off"));
            }
        }
        answers
    }

    /// A model of purchases as it is, fitted to everybody eligible at the cut-off.
    fn family(&self, family: PurchaseFamily, lived: &[Lifetime], seed: Seed) -> Answers {
        let head = match plain(family, lived) {
            Ok(head) => head,
            Err(error) => {
                let notes = vec![error.to_string()];
                return Answers { notes, ..Answers::named(family.name()) };
            }
        };
        let ask = |row: usize| {
            let (raw, lifetime) = (self.raw.row(row), &self.lifetimes[row]);
            let outlook = head.outlook(raw, lifetime, self.cutoff, self.days);
            let mut draws = Draws::new(seed.derive("spend interval", row as u64));
            let bounds = spend_interval(&head, raw, lifetime, self.cutoff, self.days, &mut draws);
            (outlook, bounds)
        };
        let asked: Vec<_> = (0..self.lifetimes.len()).into_par_iter().map(ask).collect();
        let (low, high) = asked.iter().map(|(_, bounds)| *bounds).unzip();
        Answers {
            silence: (self.churn_is.is_of_purchases())
                .then(|| asked.iter().map(|(outlook, _)| outlook.p_no_purchase).collect()),
            purchases: Some(asked.iter().map(|(outlook, _)| outlook.expected_purchases).collect()),
            spend: Some(asked.iter().map(|(outlook, _)| outlook.expected_spend).collect()),
            spend_interval: Some(Bounds { level: INTERVAL_LEVEL, low, high }),
            notes: head.diagnostics.notes,
            ..Answers::named(family.name())
        }
    }

    /// What a forecast says of everybody within the horizon.
    fn expected(&self, forecast: &Forecast) -> Vec<Expected> {
        let ask = |encoded: &mut Vec<f64>, row: usize| {
            let (raw, lifetime) = (self.raw.row(row), &self.lifetimes[row]);
            forecast.encoder.encode(raw, encoded);
            let facts = Facts { raw, encoded, lifetime, as_of: self.cutoff };
            forecast.within(&facts, self.churn_is, self.days)
        };
        let room = || vec![0.0; forecast.encoder.width()];
        (0..self.lifetimes.len()).into_par_iter().map_init(room, ask).collect()
    }

    /// The families that each head chose among, in the place of those that were chosen.
    fn rivals(&self, forecast: &Forecast, rivals: Rivals) -> Vec<Answers> {
        let mut models: Vec<Answers> = Vec::new();
        for (name, churn) in rivals.churn {
            // What cannot tell of churn here may still tell value.
            if !self.churn_is.is_of_purchases() && name != "logistic" {
                continue;
            }
            let mut answers = Answers::named(name);
            match churn {
                Err(error) => answers.notes.push(format!("churn: {error}")),
                Ok(churn) => {
                    let expected = self.expected(&Forecast { churn, ..forecast.clone() });
                    answers.silence = Some(expected.iter().map(|said| said.churn).collect());
                }
            }
            models.push(answers);
        }
        for (name, value) in rivals.value {
            let place = models.iter().position(|answers| answers.model == name);
            let place = place.unwrap_or_else(|| {
                models.push(Answers::named(name));
                models.len() - 1
            });
            let answers = &mut models[place];
            match value {
                Err(error) => answers.notes.push(format!("value: {error}")),
                Ok(value) => {
                    let by = Forecast { value, ..forecast.clone() };
                    let expected = self.expected(&by);
                    answers.take_value(&by, &expected);
                    if matches!(by.value.model, ValueModel::Purchases | ValueModel::Blend) {
                        answers.take_purchases(&by, &expected);
                    }
                }
            }
        }
        models
    }

    /// What training with the cut-off as its as-of, and this horizon, would serve.
    fn served(&self, forecast: &Forecast) -> Answers {
        let expected = self.expected(forecast);
        let mut answers = Answers::named(SERVED);
        answers.silence = Some(expected.iter().map(|said| said.churn).collect());
        answers.take_value(forecast, &expected);
        answers.take_purchases(forecast, &expected);
        let (churn, value) = (forecast.churn.model.family(), forecast.value.model.family());
        answers.notes.insert(0, format!("churn by {churn}, value by {value}"));
        answers
    }
}

impl Answers {
    fn take_value(&mut self, forecast: &Forecast, expected: &[Expected]) {
        self.spend = Some(expected.iter().map(|said| said.spend).collect());
        let (low, high) = expected.iter().map(|said| (said.spend_low, said.spend_high)).unzip();
        let level = forecast.value.interval.level;
        self.spend_interval = Some(Bounds { level, low, high });
    }

    fn take_purchases(&mut self, forecast: &Forecast, expected: &[Expected]) {
        let purchases = |said: &Expected| Some(said.outlook.as_ref()?.expected_purchases);
        self.purchases = expected.iter().map(purchases).collect();
        if forecast.value.model == ValueModel::Blend {
            let level = forecast.value.interval.level;
            let bounds = expected.iter().map(|said| said.purchases_interval);
            let (low, high) = bounds.map(Option::unwrap_or_default).unzip();
            self.purchase_interval = Some(Bounds { level, low, high });
            return;
        }
        let family = forecast.purchases.as_ref().map(PurchaseHead::family);
        self.notes.extend(family.map(|family| format!("purchases by {family}")));
    }
}
