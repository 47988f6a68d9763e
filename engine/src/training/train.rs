//! The whole of training, from histories to a version.

use super::evaluation::{ChurnMetrics, Evaluation, Trial, ValueMetrics};
use super::segment::{self, Clustered};
use super::stage::{self, Cuts, Encoded, Stage};
use super::{Clock, TrainError, churn, value};
use crate::domain::{AsOf, Day, EventRules, History, Lifetime, Seed, fingerprint, sha256};
use crate::features::{Encoder, FeatureSpec, FeatureTable, Plan, lifetime};
use crate::models::selection::SegmentationParams;
use crate::segments::{Member, catalogue};
use crate::version::{Bridge, Eligibility, FORMAT, Forecast, ModelVersion, SegmentHead};
use serde::{Deserialize, Serialize};

/// Everything that shapes a version besides the events. Part of the manifest and of the digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    pub rules: EventRules,
    pub eligibility: Eligibility,
    pub horizon_days: u32,
    pub seed: Seed,
    pub spec: FeatureSpec,
    pub segmentation: SegmentationParams,
    /// The features that segments are learned from; all of the spec's where empty.
    pub segment_features: Vec<String>,
}

/// What training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    pub version: ModelVersion,
    pub evaluation: Evaluation,
    /// Of the accepted events up to the as-of.
    pub fingerprint: String,
    pub n_customers: usize,
}

/// Trains on the events up to `as_of`, telling `progress` which stage begins.
///
/// `histories` must be sorted by customer id. The same events and settings give the same bits, for
/// any number of threads.
///
/// # Errors
/// [`TrainError`].
pub fn train(
    histories: &[History],
    settings: &TrainingSettings,
    as_of: AsOf,
    progress: &dyn Fn(&str),
) -> Result<Trained, TrainError> {
    let plan = Plan::compile(&settings.spec, &settings.rules.currency)?;
    let first = start(histories, as_of).ok_or(TrainError::NoEvents { as_of: as_of.day })?;
    let fingerprint = fingerprint(histories, as_of);

    progress("features at the as-of");
    let table = stage::eligible(histories, &plan, settings.eligibility, as_of);
    progress("segments");
    let clustered = segment::fit(
        &table.matrix,
        &settings.spec,
        &settings.segment_features,
        &settings.segmentation,
        settings.seed,
    )?;

    let clock = Clock::plan(first, as_of, settings.horizon_days)?;
    let (mut forecast, churn, value) =
        forecast(histories, settings, &plan, clock, as_of, progress)?;

    progress("profiles");
    let lifetimes: Vec<Lifetime> = table
        .rows
        .iter()
        .filter_map(|&row| lifetime(&histories[row], as_of, &settings.rules.currency))
        .collect();
    let members = members(&mut forecast, settings, &clustered, &table, &lifetimes);
    let origin = format!("{} {fingerprint} {}", settings.seed.0, segmentation_of(settings));
    let catalogue = catalogue(clustered.metrics.k, &members, &origin);
    let evaluation = Evaluation {
        clock,
        bridged: clock.bridged(),
        churn,
        value,
        segments: clustered.metrics,
        notes: quiet_note(histories, clock, as_of).into_iter().collect(),
    };
    let version = ModelVersion {
        format: FORMAT,
        rules: settings.rules.clone(),
        eligibility: settings.eligibility,
        spec: settings.spec.clone(),
        segment: SegmentHead {
            encoder: clustered.encoder,
            model: clustered.selected.model,
            diagnostics: clustered.selected.diagnostics,
            selection: clustered.selected.table,
            catalogue,
        },
        forecast,
    };
    Ok(Trained { version, evaluation, fingerprint, n_customers: members.len() })
}

/// Customers that a log needs before its clock starts: a handful of misdated rows must not stretch
/// it over decades in which there was no business.
const LEAST_STARTERS: usize = 30;

/// The day by which the first tenth of the customers, at most [`LEAST_STARTERS`], had an event.
fn start(histories: &[History], as_of: AsOf) -> Option<Day> {
    let mut firsts: Vec<Day> = histories
        .iter()
        .filter_map(|history| history.until(as_of).first().map(|event| event.day))
        .collect();
    firsts.sort_unstable();
    let starters = firsts.len().div_ceil(10).min(LEAST_STARTERS);
    firsts.get(starters.checked_sub(1)?).copied()
}

/// A feed that has stopped looks like customers who have.
fn quiet_note(histories: &[History], clock: Clock, as_of: AsOf) -> Option<String> {
    let newest = histories.iter().filter_map(|history| history.until(as_of).last()).max()?.day;
    (newest <= clock.measure).then(|| {
        format!(
            "the newest event is of {newest}, {} days before the as-of {}: nothing happened in the \
             window that the heads were measured and last fitted on",
            as_of.day.since(newest),
            as_of.day,
        )
    })
}

/// What besides seed and events makes one segmentation another, so that its segments get other ids.
fn segmentation_of(settings: &TrainingSettings) -> String {
    let TrainingSettings { spec, segmentation, segment_features, eligibility, .. } = settings;
    let parts = serde_json::json!([spec, segmentation, segment_features, eligibility.min_age_days]);
    sha256(parts.to_string().as_bytes())
}

type Forecasted = (Forecast, Vec<Trial<ChurnMetrics>>, Vec<Trial<ValueMetrics>>);

/// Fits, calibrates and measures the value and churn heads, then fits them again.
fn forecast(
    histories: &[History],
    settings: &TrainingSettings,
    plan: &Plan,
    clock: Clock,
    as_of: AsOf,
    progress: &dyn Fn(&str),
) -> Result<Forecasted, TrainError> {
    progress("heads: fit, calibrate, measure");
    let stages = stages(histories, settings, plan, clock, as_of)?;
    let not_lost = stages.each_ref().map(|stage| stage.not_lost(settings.eligibility));
    if not_lost[2].n_customers() == 0 {
        return Err(TrainError::NobodyAt { cutoff: clock.measure });
    }
    let first_encoder = Encoder::fit(&settings.spec, &[], &stages[0].raw)?;
    let encoder = Encoder::fit(&settings.spec, &[], &stages[2].raw)?;
    let (value, value_trials) = value::head(
        &Cuts::new(&stages, &first_encoder),
        &Encoded::new(&stages[2], &encoder),
        clock.window_days,
        settings.seed,
    );
    let (churn, churn_trials) = churn::head(
        &Cuts::new(&not_lost, &first_encoder),
        &Encoded::new(&not_lost[2], &encoder),
        settings.seed,
    );
    let bridge = Bridge { window_days: clock.window_days, horizon_days: clock.horizon_days };
    Ok((Forecast { encoder, bridge, value, churn }, churn_trials, value_trials))
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
    let stage = |cutoff: Day, until: Day| {
        let (currency, eligibility) = (&settings.rules.currency, settings.eligibility);
        let stage =
            Stage::at(histories, plan, currency, eligibility, end_of(cutoff), end_of(until));
        if stage.n_customers() == 0 { Err(TrainError::NobodyAt { cutoff }) } else { Ok(stage) }
    };
    Ok([
        stage(clock.fit, clock.calibrate)?,
        stage(clock.calibrate, clock.measure)?,
        stage(clock.measure, clock.as_of)?,
    ])
}

/// Every customer as the profiles need it; freezes the churn percentiles on the way.
fn members(
    forecast: &mut Forecast,
    settings: &TrainingSettings,
    clustered: &Clustered,
    table: &FeatureTable,
    lifetimes: &[Lifetime],
) -> Vec<Member> {
    let mut encoded = vec![0.0; forecast.encoder.width()];
    let members: Vec<Member> = table
        .matrix
        .rows()
        .zip(lifetimes)
        .zip(&clustered.labels)
        .map(|((raw, lifetime), &cluster)| {
            forecast.encoder.encode(raw, &mut encoded);
            let within_window = forecast.churn.within_window(&encoded, lifetime);
            let lost = settings.eligibility.is_lost(lifetime);
            Member {
                cluster,
                lifetime: *lifetime,
                ltv: forecast.bridge.spend(forecast.value.within_window(&encoded, lifetime)),
                churn_probability: (!lost).then(|| forecast.bridge.survival(within_window)),
            }
        })
        .collect();
    let probabilities = members.iter().filter_map(|member| member.churn_probability).collect();
    forecast.churn.freeze_percentiles(probabilities);
    members
}
