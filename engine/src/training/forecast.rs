//! The heads of value, churn and purchases: where the log is cut for them, and how they are learned.

use super::coverage::Measured;
use super::evaluation::{ChurnMetrics, PurchaseMetrics, Trial, ValueMetrics};
use super::purchases::{self, Known};
use super::settings::TrainingSettings;
use super::stage::{Ask, Cuts, Encoded, Rival, Stage};
use super::tracking::PurchaseTracking;
use super::{Clock, TrainError, blend, churn, value};
use crate::domain::{AsOf, Day, History, Lifetime};
use crate::features::{Encoder, Plan};
use crate::matrix::FeatureMatrix;
use crate::models::blend::{Blend, Blended};
use crate::models::churn::ChurnModel;
use crate::models::value::ValueModel;
use crate::models::{Fit, FitError};
use crate::version::{BlendHead, Bridge, ChurnHead, ChurnIs, Forecast, ValueHead};
use rayon::prelude::*;

/// The heads, how they were chosen, and the clock that they were fitted by.
pub(super) struct Forecasted {
    pub forecast: Forecast,
    pub purchases: Vec<Trial<PurchaseMetrics>>,
    pub tracking: Option<PurchaseTracking>,
    pub churn: Vec<Trial<ChurnMetrics>>,
    pub value: Vec<Trial<ValueMetrics>>,
    pub clock: Clock,
    /// What the served intervals held at c3; absent where labels have no dates.
    pub measured: Option<Measured>,
    /// What might have served; without any where nobody asked.
    pub rivals: Rivals,
}

/// Every family of a head, served or not, in the place of which it would answer.
#[derive(Default)]
pub(super) struct Rivals {
    pub churn: Vec<Rival<ChurnHead>>,
    pub value: Vec<Rival<ValueHead>>,
}

/// Fits, calibrates and measures the value and churn heads, then fits them again. `matrix` and
/// `lifetimes` are of everybody at the as-of, row by row.
pub(super) fn forecast(
    histories: &[History],
    matrix: &FeatureMatrix,
    lifetimes: &[Lifetime],
    settings: &TrainingSettings,
    plan: &Plan,
    as_of: AsOf,
    progress: &dyn Fn(&str),
) -> Result<Forecasted, TrainError> {
    forecast_among(histories, matrix, lifetimes, settings, plan, as_of, false, progress)
}

/// The same, and where `with_rivals` says so also every family that might have served.
#[expect(clippy::too_many_arguments, reason = "those of `forecast` and one more")]
pub(super) fn forecast_among(
    histories: &[History],
    matrix: &FeatureMatrix,
    lifetimes: &[Lifetime],
    settings: &TrainingSettings,
    plan: &Plan,
    as_of: AsOf,
    with_rivals: bool,
    progress: &dyn Fn(&str),
) -> Result<Forecasted, TrainError> {
    let first = start(histories, settings, as_of);
    let first = first.ok_or(TrainError::NoEvents { as_of: as_of.day })?;
    let undated = is_undated(histories, settings);
    let clock = if undated {
        Clock::at_once(as_of, settings.horizon_days)
    } else {
        Clock::plan(first, as_of, settings.horizon_days)?
    };
    if let ChurnIs::Inactivity(inactivity) = settings.churn_is
        && clock.bridged()
    {
        return Err(TrainError::InactivityNotBridged {
            span_days: as_of.day.since(first),
            window_days: clock.window_days,
            horizon_days: clock.horizon_days,
            inactive_days: inactivity.days,
        });
    }
    progress("heads: fit, calibrate, measure");
    let (stages, last) = if undated {
        let (stages, all) = drawn_stages(histories, settings, plan, as_of)?;
        (stages, Some(all))
    } else {
        (stages(histories, settings, plan, clock, as_of)?, None)
    };
    // The last fit is at c3, or, where customers were drawn, of them all.
    let last = last.as_ref().unwrap_or(&stages[2]);
    let is_lost = |life: &Lifetime| settings.eligibility.is_lost(settings.churn_is, life);
    if stages[2].lifetimes.iter().all(is_lost) {
        return Err(TrainError::NobodyAt { day: clock.measure });
    }
    let window_days = clock.window_days;
    let (chosen, purchases) = if undated {
        (None, Vec::new())
    } else {
        let c1 = settings.rules.zone.end_of(clock.fit);
        let stages = &stages;
        let seed = settings.seed;
        let heads = &settings.heads;
        purchases::head(&Known {
            stages,
            matrix,
            lifetimes,
            histories,
            start: first,
            c1,
            as_of,
            window_days,
            seed,
            settings: heads,
        })
    };
    let first_ask = Ask { head: chosen.as_ref().map(|chosen| &chosen.first), window_days };
    let head = chosen.as_ref().map(|chosen| &chosen.head);
    let ask = Ask { head, window_days };
    let first_encoder = Encoder::fit(&settings.spec, &[], &stages[0].raw)?;
    let encoder = Encoder::fit(&settings.spec, &[], &last.raw)?;
    progress("heads: blend");
    let blend = |cutoff: Day, days: u32, encoder: &Encoder| {
        if !settings.wants_blend() {
            return Err(FitError::NoBlend);
        }
        blend::fit(&blend::Known {
            histories,
            lens: &settings.lens(plan),
            zone: &settings.rules.zone,
            start: first,
            as_of: if cutoff == as_of.day { as_of } else { settings.rules.zone.end_of(cutoff) },
            days,
            encoder,
            extras: &blend::extras(&settings.spec, encoder),
        })
    };
    let model = |fit: Fit<Blend>| fit.model;
    let trial = |cutoff| blend(cutoff, window_days, &first_encoder).map(model);
    let mut served = blend(as_of.day, clock.horizon_days, &encoder);
    // A blend that cannot be learned of everything need not be tried on less.
    let blends = match &served {
        Ok(_) => [trial(clock.calibrate), trial(clock.measure)],
        Err(error) => [Err(error.clone()), Err(error.clone())],
    };
    if let Some(Err(error)) = blends.iter().find(|blend| blend.is_err()) {
        served = Err(error.clone());
    }
    let served_blend = served.as_ref().map(|fit| &fit.model);
    let value_cuts = Cuts::new(&stages, &first_encoder, &first_ask, &blends);
    let value_last = Encoded::new(last, &encoder, &ask).blended(served_blend, window_days);
    // The churn head answers about those alone who are not lost.
    let is_kept = |life: &Lifetime| !is_lost(life);
    let has_lost = |stage: &Stage| stage.lifetimes.iter().any(is_lost);
    let (fewer_cuts, fewer_last);
    let (churn_cuts, churn_last) = if stages.iter().any(has_lost) || has_lost(last) {
        (fewer_cuts, fewer_last) = (value_cuts.only(is_kept), value_last.only(is_kept));
        (&fewer_cuts, &fewer_last)
    } else {
        (&value_cuts, &value_last)
    };
    let rivals = if with_rivals {
        Rivals {
            churn: churn::each(churn_cuts, churn_last, settings.seed),
            value: value::each(&value_cuts, &value_last, window_days, settings.seed),
        }
    } else {
        Rivals::default()
    };
    let ((value, value_trials, held), (churn, churn_trials)) = rayon::join(
        || value::head(&value_cuts, &value_last, settings.heads.value, window_days, settings.seed),
        || churn::head(churn_cuts, churn_last, settings.churn_by(), settings.seed),
    );
    let bridge = Bridge { window_days: clock.window_days, horizon_days: clock.horizon_days };
    let (head, tracking) = chosen.map(|chosen| (chosen.head, chosen.tracking)).unzip();
    let purchases_held = match (&value.model, &value_cuts.c3.blended, &blends[1]) {
        (ValueModel::Blend, Ok(blended), Ok(blend)) => {
            let is_held = |(answer, &bought): (&Blended, &u32)| {
                let (low, high) = blend.purchases_interval(answer);
                (low..=high).contains(&f64::from(bought))
            };
            let bought = stages[2].purchases.par_iter();
            Some(blended.answers.par_iter().zip(bought).map(is_held).collect())
        }
        _ => None,
    };
    let serves = value.model == ValueModel::Blend || churn.model == ChurnModel::Blend;
    let level = value.interval.level;
    let [.., c3] = stages;
    let measured =
        (!undated).then_some(Measured { stage: c3, level, spend: held, purchases: purchases_held });
    let blend = served.ok().filter(|_| serves || with_rivals).map(BlendHead::from);
    Ok(Forecasted {
        forecast: Forecast { encoder, bridge, purchases: head, blend, value, churn },
        purchases,
        tracking: tracking.flatten(),
        churn: churn_trials,
        value: value_trials,
        clock,
        measured,
        rivals,
    })
}

/// Whether churn is a label and no contract's end has a date.
pub(super) fn is_undated(histories: &[History], settings: &TrainingSettings) -> bool {
    let label = |history: &History| history.attributes()?.label;
    settings.churn_is == ChurnIs::Label
        && !histories.iter().filter_map(label).any(|label| label.at.is_some())
}

/// Three stages of customers drawn by the seed, where labels have no dates, and one of them all.
fn drawn_stages(
    histories: &[History],
    settings: &TrainingSettings,
    plan: &Plan,
    as_of: AsOf,
) -> Result<([Stage; 3], Stage), TrainError> {
    // What a customer did after leaving would tell the label.
    if histories.iter().any(|history| !history.events().is_empty()) {
        return Err(TrainError::UndatedBesideEvents);
    }
    let seed = settings.seed.derive("split of the labelled", 0);
    let lens = settings.lens(plan);
    let drawn = |range: std::ops::Range<u64>| {
        let stage = Stage::undated(histories, &lens, as_of, |history| {
            range.contains(&(seed.hash(history.customer().hash()) % 10))
        });
        if stage.n_customers() == 0 { Err(TrainError::TooFewLabels) } else { Ok(stage) }
    };
    Ok(([drawn(0..6)?, drawn(6..8)?, drawn(8..10)?], drawn(0..10)?))
}

/// The stages at c1, c2 and c3, each with the labels of the window after it.
fn stages(
    histories: &[History],
    settings: &TrainingSettings,
    plan: &Plan,
    clock: Clock,
    as_of: AsOf,
) -> Result<[Stage; 3], TrainError> {
    let zone = &settings.rules.zone;
    let end_of = |day: Day| if day == as_of.day { as_of } else { zone.end_of(day) };
    let lens = settings.lens(plan);
    let stage = |cutoff: Day, until: Day| {
        let stage = Stage::at(histories, &lens, end_of(cutoff), end_of(until));
        if stage.n_customers() == 0 { Err(TrainError::NobodyAt { day: cutoff }) } else { Ok(stage) }
    };
    Ok([
        stage(clock.fit, clock.calibrate)?,
        stage(clock.calibrate, clock.measure)?,
        stage(clock.measure, clock.as_of)?,
    ])
}

/// Customers that a log needs before its clock starts: a handful of misdated rows must not stretch
/// it over decades in which there was no business.
const LEAST_STARTERS: usize = 30;

/// The day by which the first tenth of the customers, at most [`LEAST_STARTERS`], had an event, or
/// had registered where that makes a customer.
pub(super) fn start(
    histories: &[History],
    settings: &TrainingSettings,
    as_of: AsOf,
) -> Option<Day> {
    let silent = settings.churn_is.knows_silent();
    let zone = &settings.rules.zone;
    let known =
        |history: &&History| !history.is_empty_until(as_of) || silent && history.is_known_at(as_of);
    let first = |history: &History| {
        let event = history.events().first().filter(|event| event.at <= as_of.at);
        let registered = history.attributes().filter(|_| silent).map(|attributes| {
            attributes.registered.map_or(as_of.day, |registered| zone.day_of(registered))
        });
        event.map(|event| event.day).into_iter().chain(registered).min()
    };
    let mut firsts: Vec<Day> = histories.iter().filter(known).filter_map(first).collect();
    firsts.sort_unstable();
    let starters = firsts.len().div_ceil(10).min(LEAST_STARTERS);
    firsts.get(starters.checked_sub(1)?).copied()
}
