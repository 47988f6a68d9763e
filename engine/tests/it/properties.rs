//! Laws that hold for any input.

use crate::support::{as_of, purchase, rules, settings, shop, train};
use habitus_engine::domain::{CustomerId, Event, History, Seed, fingerprint};
use habitus_engine::features::{Plan, purchases};
use habitus_engine::models::churn::Platt;
use habitus_engine::models::selection::Family;
use habitus_engine::models::value::IntervalMap;
use habitus_engine::models::{FitError, SegmentModel};
use habitus_engine::scoring::Scorer;
use habitus_engine::training::{auc, ece, normalised_gini};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::Rng;
use std::sync::OnceLock;

/// Purchases on days of 2020 and 2021, in cents.
fn events() -> impl Strategy<Value = Vec<Event>> {
    vec((1u32..=12, 1u32..=28, 0u32..2, 0u32..500_000), 0..30).prop_map(|rows| {
        rows.into_iter()
            .map(|(month, day, year, cents)| {
                let time = format!("{}-{month:02}-{day:02}", 2020 + year);
                purchase(&time, &format!("{}.{:02}", cents / 100, cents % 100))
            })
            .collect()
    })
}

fn history(events: Vec<Event>) -> History {
    History::new(CustomerId::new("c"), events)
}

fn row(history: &History, date: &str) -> Vec<u64> {
    let plan = Plan::compile(&purchases(), &rules()).unwrap();
    let mut row = vec![0.0; plan.names().len()];
    plan.evaluate(history, as_of(date), &mut row);
    row.iter().map(|value| value.to_bits()).collect()
}

fn scorer() -> &'static Scorer {
    static SCORER: OnceLock<Scorer> = OnceLock::new();
    SCORER.get_or_init(|| {
        let settings = settings(Family::GaussianMixture, 3, 3);
        let trained = train(&shop(400, 1), &settings, as_of("2021-12-31")).unwrap();
        Scorer::new(trained.version).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn events_after_the_as_of_change_no_feature_and_no_answer(all in events()) {
        let cut = as_of("2020-12-31");
        let before: Vec<Event> = all.iter().filter(|event| event.at <= cut.at).cloned().collect();
        let (whole, before) = (history(all), history(before));
        prop_assert_eq!(row(&whole, "2020-12-31"), row(&before, "2020-12-31"));
        prop_assert_eq!(scorer().predict(&whole, cut), scorer().predict(&before, cut));
        prop_assert_eq!(
            fingerprint(std::slice::from_ref(&whole), cut),
            fingerprint(std::slice::from_ref(&before), cut)
        );
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(all in events(), rotate in 0usize..30) {
        let mut other = all.clone();
        let middle = rotate.min(other.len());
        other.rotate_left(middle);
        other.reverse();
        let shaped = |events| vec![rules().shape(CustomerId::new("c"), events).history];
        let (a, b) = (shaped(all), shaped(other));
        prop_assert_eq!(fingerprint(&a, as_of("2021-12-31")), fingerprint(&b, as_of("2021-12-31")));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn answers_stay_in_their_ranges(all in events()) {
        let answer = scorer().predict(&history(all.clone()), as_of("2021-06-30"));
        prop_assert_eq!(answer.segment.given().is_some(), answer.newest_event.is_some());
        if let Some(value) = answer.value.given() {
            prop_assert!(0.0 <= value.ltv_low && value.ltv_low <= value.ltv);
            prop_assert!(value.ltv <= value.ltv_high && value.ltv_high.is_finite());
        }
        if let Some(churn) = answer.churn.given() {
            prop_assert!((0.0..=1.0).contains(&churn.probability));
            prop_assert!((0.0..=1.0).contains(&churn.percentile));
        }
        if let Some(segment) = answer.segment.given() {
            prop_assert!((0.0..=1.0).contains(&segment.probability.unwrap()));
        }
    }

    #[test]
    fn responsibilities_sum_to_one_however_far_the_row(values in vec(-1e6f32..1e6, 11)) {
        let SegmentModel::GaussianMixture(mixture) = &scorer().version().segment.clusters().unwrap().model
        else {
            panic!("the fixture is a mixture");
        };
        let shares = mixture.responsibilities(&values);
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", shares);
    }

    #[test]
    fn metrics_do_not_depend_on_the_order_of_rows(
        rows in vec((0u8..6, any::<bool>(), 0.0f64..100.0), 20..80), rotate in 0usize..80,
    ) {
        let measure = |rows: &[(u8, bool, f64)]| {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 6.0).collect();
            let outcomes: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let spend: Vec<f64> = rows.iter().map(|row| row.2).collect();
            [auc(&outcomes, &scores), Some(ece(&outcomes, &scores)), normalised_gini(&spend, &scores)]
        };
        let mut turned = rows.clone();
        turned.rotate_left(rotate % rows.len());
        turned.reverse();
        for (a, b) in measure(&rows).into_iter().zip(measure(&turned)) {
            prop_assert!(a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-9), "{:?} {:?}", a, b);
        }
    }

    #[test]
    fn an_interval_holds_its_prediction(
        pairs in vec((0.0f64..100.0, 0.0f64..100.0), 1..200), predicted in 0.0f64..500.0,
    ) {
        let (predictions, actual): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let (low, high) = IntervalMap::fit(0.8, &predictions, &actual).bounds(predicted);
        prop_assert!(low <= predicted && predicted <= high);
    }
}

#[test]
fn derived_seeds_differ_by_purpose_and_run() {
    let seeds = [
        Seed(1).derive("a", 0),
        Seed(1).derive("a", 1),
        Seed(1).derive("b", 0),
        Seed(2).derive("a", 0),
    ];
    for (index, seed) in seeds.iter().enumerate() {
        assert!(!seeds[..index].contains(seed));
    }
}

#[test]
fn platt_finds_the_line_that_made_the_outcomes() {
    let mut rng = Seed(3).rng();
    let (probabilities, outcomes): (Vec<f64>, Vec<bool>) = (0..20_000)
        .map(|_| {
            let p: f64 = rng.gen_range(0.02..0.98);
            let truth = Platt { slope: 0.5, intercept: -1.0 }.apply(p);
            (p, rng.gen_bool(truth))
        })
        .unzip();
    let platt = Platt::fit(&probabilities, &outcomes).unwrap();
    assert!((platt.slope - 0.5).abs() < 0.05 && (platt.intercept + 1.0).abs() < 0.05, "{platt:?}");
}

#[test]
fn platt_stays_finite_where_outcomes_are_separable_and_refuses_what_runs_backwards() {
    let p: Vec<f64> = (0..30).map(|row| if row < 15 { 0.3 } else { 0.7 }).collect();
    let churned: Vec<bool> = (0..30).map(|row| row >= 15).collect();
    let platt = Platt::fit(&p, &churned).unwrap();
    assert!(platt.apply(0.7) > 0.8 && platt.apply(0.7) < 0.9999, "{platt:?}");
    let backwards: Vec<bool> = churned.iter().map(|churned| !churned).collect();
    assert!(Platt::fit(&p, &backwards).is_err());
    assert_eq!(Platt::fit(&p, &[true; 30]), Err(FitError::OneClass));
}

#[test]
fn an_interval_covers_its_level_even_where_predictions_are_tied() {
    let predictions = vec![10.0; 600];
    let actual: Vec<f64> = (0..600).map(|row| f64::from(row) / 30.0).collect();
    let (low, high) = IntervalMap::fit(0.8, &predictions, &actual).bounds(10.0);
    let held = actual.iter().filter(|&&value| low <= value && value <= high).count();
    assert!((470..=490).contains(&held), "{held} of 600 in {low}..{high}");
}
