//! The whole of training, from histories to a version.

use super::evaluation::Evaluation;
use super::segment::{self, Clustered};
use super::stage::{Encoded, Stage};
use super::{Clock, TrainError};
use super::{churn, value};
use crate::domain::{AsOf, Day, EventRules, History, Lifetime, Seed, fingerprint};
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
    let first = histories
        .iter()
        .filter_map(|history| history.until(as_of).first().map(|event| event.day))
        .min()
        .ok_or(TrainError::NoEvents { as_of: as_of.day })?;
    let fingerprint = fingerprint(histories, as_of);

    progress("features at the as-of");
    let table = plan.table(histories, as_of);
    progress("segments");
    let clustered = segment::fit(
        &table.matrix,
        &settings.spec,
        &settings.segment_features,
        &settings.segmentation,
        settings.seed,
    )?;

    let clock = Clock::plan(first, as_of, settings.horizon_days)?;
    let (mut forecast, mut evaluation) =
        forecast(histories, settings, &plan, clock, as_of, progress)?;
    evaluation.segments = clustered.metrics.clone();

    progress("profiles");
    let lifetimes: Vec<Lifetime> = table
        .rows
        .iter()
        .filter_map(|&row| lifetime(&histories[row], as_of, &settings.rules.currency))
        .collect();
    let members = members(&mut forecast, &clustered, &table, &lifetimes);
    let catalogue = catalogue(clustered.metrics.k, &members, settings.seed, &fingerprint);
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

/// Fits, calibrates and measures the value and churn heads, then fits them again.
fn forecast(
    histories: &[History],
    settings: &TrainingSettings,
    plan: &Plan,
    clock: Clock,
    as_of: AsOf,
    progress: &dyn Fn(&str),
) -> Result<(Forecast, Evaluation), TrainError> {
    let zone = &settings.rules.zone;
    let end_of = |day: Day| if day == as_of.day { as_of } else { zone.end_of(day) };
    let stage = |cutoff: Day, until: Day| {
        let currency = &settings.rules.currency;
        Stage::at(histories, plan, currency, end_of(cutoff), end_of(until))
    };
    progress("heads: fit, calibrate, measure");
    let fit = stage(clock.fit, clock.calibrate);
    let calibrate = stage(clock.calibrate, clock.measure);
    let measure = stage(clock.measure, clock.as_of);
    let encoder = Encoder::fit(&settings.spec, &[], &fit.raw)?;
    let [c1, c2, c3] = [&fit, &calibrate, &measure].map(|stage| Encoded::new(stage, &encoder));
    let (churn_choice, churn_trials) = churn::evaluate(&c1, &c2, &c3, settings.seed);
    let (value_choice, value_trials) =
        value::evaluate(&c1, &c2, &c3, clock.window_days, settings.seed);

    progress("heads: last fit");
    let encoder = Encoder::fit(&settings.spec, &[], &measure.raw)?;
    let last = Encoded::new(&measure, &encoder);
    let bridge = Bridge { window_days: clock.window_days, horizon_days: clock.horizon_days };
    let forecast = Forecast {
        value: value::refit(&value_choice, &last, clock.window_days, settings.seed),
        churn: churn::refit(&churn_choice, &last, settings.seed),
        encoder,
        bridge,
    };
    let evaluation = Evaluation {
        clock,
        bridged: bridge.bridged(),
        churn: churn_trials,
        value: value_trials,
        segments: Default::default(),
    };
    Ok((forecast, evaluation))
}

/// Every customer as the profiles need it; freezes the churn percentiles on the way.
fn members(
    forecast: &mut Forecast,
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
            Member {
                cluster,
                lifetime: *lifetime,
                ltv: forecast.bridge.spend(forecast.value.within_window(&encoded, lifetime)),
                churn_probability: forecast
                    .bridge
                    .survival(forecast.churn.within_window(&encoded, lifetime)),
            }
        })
        .collect();
    let probabilities = members.iter().map(|member| member.churn_probability).collect();
    forecast.churn.freeze_percentiles(probabilities);
    members
}
