//! What a retraining keeps: segments, names, and the place of a better version.

use crate::support::{as_of, settings, shop, train, train_after};
use habitus_engine::domain::{AsOf, CustomerId, History, SegmentId};
use habitus_engine::models::selection::Family;
use habitus_engine::segments::LineageRecord;
use habitus_engine::training::{
    GateParams, Outcome, Predecessor, Trained, TrainingSettings, judge, judge_fitted_on,
};
use habitus_engine::version::{Incumbent, SegmentBy};
use std::collections::HashSet;

const SEPTEMBER: &str = "2021-09-30";
const OCTOBER: &str = "2021-10-31";

fn named(name: &str) -> Incumbent {
    Incumbent { version: name.to_owned(), digest: format!("digest of {name}") }
}

fn after<'a>(trained: &'a Trained, incumbent: &'a Incumbent, as_of: AsOf) -> Predecessor<'a> {
    Predecessor { incumbent, version: &trained.version, as_of }
}

fn ids(trained: &Trained) -> Vec<SegmentId> {
    trained.version.segment.catalogue.iter().map(|segment| segment.id.clone()).collect()
}

#[test]
fn ids_and_names_survive_a_retraining_a_month_later() {
    let log = shop(600, 1);
    for family in [Family::Kmeans, Family::GaussianMixture] {
        let mut settings = settings(family, 4, 4);
        let first = train(&log, &settings, as_of(SEPTEMBER)).unwrap();
        let renamed = ids(&first)[1].clone();
        settings.segment_names.insert(renamed.0.clone(), "Regulars".to_owned());
        let old = named("first");
        let second = train_after(
            &log,
            &settings,
            as_of(OCTOBER),
            Some(after(&first, &old, as_of(SEPTEMBER))),
        );
        let second = second.unwrap();
        settings.segment_names.clear();
        let new = named("second");
        let third = train_after(
            &log,
            &settings,
            as_of("2021-11-30"),
            Some(after(&second, &new, as_of(OCTOBER))),
        )
        .unwrap();
        for version in [&second, &third] {
            let lineage = version.version.segment.lineage.as_ref().unwrap();
            assert!(lineage.n_common > 500);
            assert!(lineage.moved_by_model <= lineage.moved_by_index, "{lineage:?}");
            assert!(lineage.moved_by_model * 5 < lineage.n_common, "{lineage:?}");
            let catalogue = &version.version.segment.catalogue;
            let kept = catalogue.iter().find(|segment| segment.id == renamed).unwrap();
            assert_eq!(kept.name, "Regulars");
            let distinct: HashSet<&SegmentId> = catalogue.iter().map(|s| &s.id).collect();
            assert_eq!(distinct.len(), catalogue.len());
        }
    }
}

#[test]
fn another_number_of_clusters_gives_births_and_deaths_that_add_up() {
    let log = shop(600, 1);
    let first = train(&log, &settings(Family::Kmeans, 3, 3), as_of(SEPTEMBER)).unwrap();
    let old = named("first");
    for k in [2, 5] {
        let predecessor = after(&first, &old, as_of(SEPTEMBER));
        let second =
            train_after(&log, &settings(Family::Kmeans, k, k), as_of(OCTOBER), Some(predecessor))
                .unwrap();
        let before: HashSet<SegmentId> = ids(&first).into_iter().collect();
        let now: HashSet<SegmentId> = ids(&second).into_iter().collect();
        let records = &second.version.segment.lineage.as_ref().unwrap().records;
        let count = |is: fn(&LineageRecord) -> bool| records.iter().filter(|r| is(r)).count();
        let continued = count(|r| matches!(r, LineageRecord::Continued { .. }));
        assert_eq!(continued, before.intersection(&now).count());
        assert_eq!(count(|r| matches!(r, LineageRecord::Birth { .. })), k - continued);
        assert_eq!(count(|r| matches!(r, LineageRecord::Death { .. })), 3 - continued);
        assert!(continued >= 1);
    }
}

#[test]
fn the_same_model_moves_nobody_and_only_customers_move() {
    let log = shop(600, 1);
    let settings = settings(Family::Kmeans, 4, 4);
    let first = train(&log, &settings, as_of(OCTOBER)).unwrap();
    let old = named("first");
    let predecessor = after(&first, &old, as_of(OCTOBER));
    let again = train_after(&log, &settings, as_of(OCTOBER), Some(predecessor)).unwrap();
    let lineage = again.version.segment.lineage.as_ref().unwrap();
    assert_eq!((lineage.moved_by_model, lineage.moved_by_customer), (0, 0));
    assert_eq!((lineage.n_common, lineage.n_remained), (600, 600));
    assert_eq!(ids(&first), ids(&again));
}

#[test]
fn a_warm_start_begins_with_the_incumbents_segments() {
    let log = shop(600, 1);
    for family in [Family::Kmeans, Family::GaussianMixture] {
        let mut settings = settings(family, 2, 6);
        settings.segmentation.warm_start = true;
        let first = train(&log, &settings, as_of(SEPTEMBER)).unwrap();
        let old = named("first");
        let predecessor = after(&first, &old, as_of(SEPTEMBER));
        let warm = train_after(&log, &settings, as_of(OCTOBER), Some(predecessor)).unwrap();
        let SegmentBy::Clusters(clusters) = &warm.version.segment.by else { panic!() };
        assert_eq!(clusters.selection.len(), 1, "only the incumbent's number is tried");
        assert_eq!(clusters.selection[0].k, ids(&first).len());
        assert!(clusters.diagnostics.notes[0].contains("incumbent"), "{family:?}");
        let lineage = warm.version.segment.lineage.as_ref().unwrap();
        assert!(lineage.moved_by_model * 10 < lineage.n_common, "{lineage:?}");
    }
}

#[test]
fn a_later_or_differently_read_incumbent_is_told_and_left_aside() {
    let log = shop(400, 2);
    let base = settings(Family::Kmeans, 3, 3);
    let late = train(&log, &base, as_of(OCTOBER)).unwrap();
    let old = named("late");
    let predecessor = after(&late, &old, as_of(OCTOBER));
    let early = train_after(&log, &base, as_of(SEPTEMBER), Some(predecessor)).unwrap();
    assert!(early.version.segment.lineage.is_none());
    assert!(early.evaluation.notes[0].contains("is later than"), "{:?}", early.evaluation.notes);

    let mut other = base.clone();
    other.rules.currency.code = "EUR".to_owned();
    let predecessor = after(&early, &old, as_of(SEPTEMBER));
    let euros = train_after(&log, &other, as_of(OCTOBER), Some(predecessor)).unwrap();
    assert!(euros.evaluation.notes[0].contains("data.currency"), "{:?}", euros.evaluation.notes);
}

#[test]
fn few_customers_get_tiers_from_one_on() {
    let mut settings = settings(Family::GaussianMixture, 3, 8);
    settings.small_below = 200;
    for n in [1, 2, 30, 199] {
        let trained = train(&shop(n, 1), &settings, as_of("2021-12-31")).unwrap();
        let segment = &trained.version.segment;
        let names: Vec<&str> = segment.catalogue.iter().map(|s| s.name.as_str()).collect();
        assert_eq!((segment.family(), names), ("tiers", vec!["Tier A", "Tier B", "Tier C"]));
        assert!(trained.evaluation.notes[0].contains("too few"), "{n}");
        let sizes: u64 = segment.catalogue.iter().map(|s| s.profile.n_customers).sum();
        assert_eq!(sizes, n as u64);
    }
    let few = train(&shop(30, 1), &settings, as_of(SEPTEMBER)).unwrap();
    let enough = train(&shop(200, 1), &settings, as_of("2021-12-31")).unwrap();
    assert_eq!(enough.version.segment.family(), "gaussian_mixture");
    // Tiers are a rule, so their ids are the same in every version.
    assert_eq!(ids(&few), ids(&train(&shop(40, 2), &settings, as_of(OCTOBER)).unwrap()));
}

/// A version as of the end of September, and what the gate says of others three months later.
struct Trial {
    log: Vec<History>,
    incumbent: Trained,
    name: Incumbent,
}

impl Trial {
    fn new() -> Trial {
        let log = shop(2_000, 3);
        let incumbent = train(&log, &settings(Family::Kmeans, 3, 3), as_of(SEPTEMBER)).unwrap();
        Trial { log, incumbent, name: named("incumbent") }
    }

    fn judge(&self, fitted_on: &[History], settings: &TrainingSettings, until: &str) -> Outcome {
        let incumbent = after(&self.incumbent, &self.name, as_of(SEPTEMBER));
        let params = GateParams::default();
        judge_fitted_on(
            fitted_on,
            &self.log,
            settings,
            &incumbent,
            as_of(until),
            Some(0.05),
            &params,
        )
        .unwrap()
        .outcome
    }
}

#[test]
fn the_gate_passes_the_same_and_refuses_the_worse() {
    let trial = Trial::new();
    let same = settings(Family::Kmeans, 3, 3);
    let until = "2021-12-31";
    assert_eq!(trial.judge(&trial.log, &same, until), Outcome::Passed);

    // Histories that belong to somebody else: what was learned of them is wrong.
    let n = trial.log.len();
    let events = |row: usize| trial.log[row].until(as_of("2021-05-31")).into_owned();
    let later = |row: usize| trial.log[row].events().to_vec();
    let shuffled: Vec<History> = (0..n)
        .map(|row| {
            let mut mixed = events(row);
            let stranger = later((row * 7 + 1) % n);
            mixed.extend(stranger.into_iter().filter(|event| event.at > as_of("2021-05-31").at));
            History::new(CustomerId::new(trial.log[row].customer().as_str()), mixed)
        })
        .collect();
    assert_eq!(trial.judge(&shuffled, &same, until), Outcome::Refused);
}

#[test]
fn the_gate_decides_nothing_on_little_and_refuses_relabelling_at_once() {
    let trial = Trial::new();
    let same = settings(Family::Kmeans, 3, 3);
    assert_eq!(trial.judge(&trial.log, &same, "2021-10-15"), Outcome::Undecided);
    let incumbent = after(&trial.incumbent, &trial.name, as_of(SEPTEMBER));
    let verdict = |log: &[History], relabelled, until| {
        let params = GateParams::default();
        judge(log, &same, &incumbent, as_of(until), relabelled, &params).unwrap()
    };
    assert_eq!(verdict(&trial.log, Some(0.5), "2021-12-31").outcome, Outcome::Refused);
    let few = verdict(&trial.log[..50], None, "2021-12-31");
    assert_eq!(few.outcome, Outcome::Undecided);
    assert!(few.reasons[0].contains("50 customers"), "{:?}", few.reasons);
    assert!(!few.comparisons.is_empty(), "numbers are told all the same");
    let earlier = verdict(&trial.log, None, "2021-03-31");
    assert!(earlier.reasons[0].contains("is later than"), "{:?}", earlier.reasons);
}
