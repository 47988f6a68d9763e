//! The whole of training, from histories to a version.

use super::evaluation::{Evaluation, FeatureSummary};
use super::forecast::{Forecasted, forecast, is_undated, start};
use super::identity::{self, Old};
use super::roll::{Customers, Roll};
use super::segment::{self, Segmented};
use super::settings::TrainingSettings;
use super::{Clock, Population, TrainError};
use crate::domain::{AsOf, Day, History, Lifetime, SegmentId, sha256};
use crate::features::Plan;
use crate::matrix::FeatureMatrix;
use crate::segments::{Bands, Identity, Member, catalogue, tier_ids};
use crate::version::{FORMAT, Facts, Forecast, Incumbent, Lineage, ModelVersion, SegmentHead};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The version whose segments a new one takes over.
#[derive(Debug, Clone, Copy)]
pub struct Predecessor<'a> {
    pub incumbent: &'a Incumbent,
    pub version: &'a ModelVersion,
    pub as_of: AsOf,
}

/// What training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    pub version: ModelVersion,
    pub evaluation: Evaluation,
    pub population: Population,
    /// Customers that the version can answer about, among those that training saw.
    pub n_customers: usize,
}

/// What training is given.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Those that heads are learned from: the population's customers, or a sample of them, sorted by
    /// customer id.
    pub histories: &'a [History],
    pub population: &'a Population,
    pub as_of: AsOf,
    /// The version whose segments are taken over. One that cannot be compared is told in a note.
    pub predecessor: Option<Predecessor<'a>>,
}

/// Trains on the events up to the as-of, telling `progress` which stage begins. Segments are learned
/// from `everybody`. The same input and settings give the same bits, for any number of threads.
///
/// # Errors
/// [`TrainError`].
pub fn train(
    input: &Input<'_>,
    everybody: Box<dyn Customers + '_>,
    settings: &TrainingSettings,
    progress: &dyn Fn(&str),
) -> Result<Trained, TrainError> {
    let Input { histories, population, as_of, .. } = *input;
    let settings = &settings.resolved(histories);
    let plan = Plan::compile(&settings.spec, &settings.rules)?;
    let lens = settings.lens(&plan);
    start(histories, settings, as_of).ok_or(TrainError::NoEvents { as_of: as_of.day })?;
    progress("features at the as-of");
    let mut notes = Vec::new();
    let is_small = population.n_customers < settings.small_below;
    // Tiers are told by a rule: there is nothing to match.
    let predecessor = if is_small { None } else { comparable(input, settings, &mut notes) };
    let mut old = match predecessor {
        Some(predecessor) => Old::new(predecessor)?,
        None => None,
    };
    let Roll { matrix, lifetimes } =
        Roll::call(everybody, population.n_customers, &lens, as_of, &mut old)?;
    // Of percentiles of nobody's probabilities there would be nothing to freeze.
    let is_lost = |life: &Lifetime| settings.eligibility.is_lost(settings.churn_is, life);
    if lifetimes.iter().all(is_lost) {
        return Err(TrainError::NobodyAt { day: as_of.day });
    }
    let bands = Bands::of(&lifetimes);

    progress("segments");
    let (segmented, identities, lineage) = if is_small {
        notes.push(format!(
            "too few customers for clusters ({}, and segments.small_below is {}): segments are value \
             tiers by quantiles of spend",
            population.n_customers, settings.small_below
        ));
        (segment::tiers(&bands, &lifetimes), tiers_after(input.predecessor), None)
    } else {
        cluster(input, settings, &matrix, old.as_ref())?
    };
    let was_small = input.predecessor.map(|old| old.version.segment.clusters().is_none());
    if was_small.is_some_and(|was_small| was_small != is_small) {
        notes.push(
            "the incumbent's segments are of another sort (tiers or clusters), so every customer \
             sees another segment id"
                .to_owned(),
        );
    }

    let Forecasted { mut forecast, purchases, tracking, churn, value, clock, measured, .. } =
        forecast(histories, &matrix, &lifetimes, settings, &plan, as_of, progress)?;
    if is_undated(histories, settings) {
        notes.push(
            "labels have no dates: customers were drawn to fit (60 %), calibrate (20 %) and measure \
             (20 %), and the horizon is whatever time the labels cover"
                .to_owned(),
        );
    }
    notes.extend(quiet_note(histories, clock, as_of));

    progress("profiles");
    let members =
        members(&mut forecast, settings, as_of.day, &segmented.labels, &matrix, &lifetimes);
    let identities = named(identities, &settings.segment_names);
    let mut evaluation = Evaluation {
        clock,
        bridged: clock.bridged(),
        purchases,
        tracking,
        churn,
        value,
        interval_coverage: None,
        segments: segmented.metrics,
        features: FeatureSummary::all(&matrix),
        notes,
    };
    let version = ModelVersion {
        format: FORMAT,
        rules: settings.rules.clone(),
        eligibility: settings.eligibility,
        churn_is: settings.churn_is,
        spec: settings.spec.clone(),
        segment: SegmentHead {
            by: segmented.by,
            catalogue: catalogue(identities, &lifetimes, &members),
            lineage,
        },
        bands,
        forecast,
    };
    evaluation.interval_coverage =
        measured.map(|measured| measured.by_segment(&version.segment, &version.bands));
    let population = population.clone();
    Ok(Trained { version, evaluation, population, n_customers: members.len() })
}

/// The tiers, with the names that they have in an earlier version.
fn tiers_after(predecessor: Option<Predecessor<'_>>) -> Vec<Identity> {
    let known = predecessor.map_or(&[][..], |old| &old.version.segment.catalogue);
    let named = |tier: Identity| {
        let same = known.iter().find(|segment| segment.id == tier.id);
        Identity { name: same.map(|segment| segment.name.clone()).or(tier.name), id: tier.id }
    };
    tier_ids().into_iter().map(named).collect()
}

/// The version whose segments are taken over, where it can be compared; a note says why not.
fn comparable<'a>(
    input: &'a Input<'_>,
    settings: &TrainingSettings,
    notes: &mut Vec<String>,
) -> Option<&'a Predecessor<'a>> {
    let predecessor = input.predecessor.as_ref()?;
    match identity::check(predecessor, settings, input.as_of) {
        Ok(()) => Some(predecessor),
        Err(reason) => {
            let version = &predecessor.incumbent.version;
            notes.push(format!("segments were not matched to those of {version}: {reason}"));
            None
        }
    }
}

/// Clusters, who they are, and how they descend from the incumbent's.
fn cluster(
    input: &Input<'_>,
    settings: &TrainingSettings,
    matrix: &FeatureMatrix,
    old: Option<&Old<'_>>,
) -> Result<(Segmented, Vec<Identity>, Option<Lineage>), TrainError> {
    let segmented = segment::clusters(matrix, settings, old)?;
    // An id must not come again in a later version, so the incumbent is part of where it is from.
    let origin = format!(
        "{} {} {}{}",
        settings.seed.0,
        input.population.fingerprint,
        segmentation_of(settings),
        input.predecessor.map_or(String::new(), |old| format!(" after {}", old.incumbent.digest)),
    );
    let n_new = segmented.n_clusters;
    let (identities, lineage) = match old {
        None => (Identity::mint(n_new, &origin), None),
        Some(old) => {
            let (identities, lineage) = old.descend(&segmented.labels, n_new, &origin);
            (identities, Some(lineage))
        }
    };
    Ok((segmented, identities, lineage))
}

/// The names that the settings give stand over those that segments have.
fn named(identities: Vec<Identity>, names: &BTreeMap<String, String>) -> Vec<Identity> {
    let rename = |Identity { id: SegmentId(id), name }| {
        let name = names.get(&id).cloned().or(name);
        Identity { id: SegmentId(id), name }
    };
    identities.into_iter().map(rename).collect()
}

/// A feed that has stopped looks like customers who have.
fn quiet_note(histories: &[History], clock: Clock, as_of: AsOf) -> Option<String> {
    let last = |history: &History| history.until(as_of).last().map(|event| event.day);
    let newest = histories.iter().filter_map(last).max()?;
    if clock.measure == clock.as_of {
        return None;
    }
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

/// Every customer as the profiles need it; freezes the churn percentiles on the way.
fn members(
    forecast: &mut Forecast,
    settings: &TrainingSettings,
    as_of: Day,
    labels: &[usize],
    matrix: &FeatureMatrix,
    lifetimes: &[Lifetime],
) -> Vec<Member> {
    let (known, days) = (&*forecast, forecast.bridge.horizon_days);
    let member = |encoded: &mut Vec<f64>, row: usize| {
        let (raw, lifetime) = (matrix.row(row), &lifetimes[row]);
        known.encoder.encode(raw, encoded);
        let facts = Facts { raw, encoded, lifetime, as_of };
        let expected = known.within(&facts, settings.churn_is, days);
        let lost = settings.eligibility.is_lost(settings.churn_is, lifetime);
        Member {
            cluster: labels[row],
            ltv: expected.spend,
            churn_probability: (!lost).then_some(expected.churn),
        }
    };
    let room = || vec![0.0; known.encoder.width()];
    let members: Vec<Member> =
        (0..lifetimes.len()).into_par_iter().map_init(room, member).collect();
    let probabilities = members.iter().filter_map(|member| member.churn_probability).collect();
    forecast.churn.freeze_percentiles(probabilities);
    members
}
