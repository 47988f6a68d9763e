//! Laws that hold for any input.

use crate::support::{as_of, blobs, purchase, rules, settings, shop};
use habitus_engine::domain::{CustomerId, Event, History, HistoryBuilder, Seed, fingerprint};
use habitus_engine::features::{Plan, purchases};
use habitus_engine::models::churn::Platt;
use habitus_engine::models::selection::Family;
use habitus_engine::models::value::IntervalMap;
use habitus_engine::models::{SegmentModel, Segmenter};
use habitus_engine::scoring::Scorer;
use habitus_engine::training::train;
use proptest::collection::vec;
use proptest::prelude::*;
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
    let plan = Plan::compile(&purchases(), &rules().currency).unwrap();
    let mut row = vec![0.0; plan.names().len()];
    plan.evaluate(history, as_of(date), &mut row);
    row.iter().map(|value| value.to_bits()).collect()
}

fn scorer() -> &'static Scorer {
    static SCORER: OnceLock<Scorer> = OnceLock::new();
    SCORER.get_or_init(|| {
        let settings = settings(Family::GaussianMixture, 3, 3);
        let trained = train(&shop(400, 1), &settings, as_of("2021-12-31"), &|_| {}).unwrap();
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
        let mut builders = [HistoryBuilder::default(), HistoryBuilder::default()];
        all.into_iter().for_each(|event| builders[0].add("c", event));
        other.into_iter().for_each(|event| builders[1].add("c", event));
        let [a, b] = builders.map(HistoryBuilder::finish);
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
        let SegmentModel::GaussianMixture(mixture) = &scorer().version().segment.model else {
            panic!("the fixture is a mixture");
        };
        let shares = mixture.responsibilities(&values);
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", shares);
    }

    #[test]
    fn calibration_never_turns_a_ranking_around(
        pairs in vec((0.01f64..0.99, any::<bool>()), 30..80), a in 0.0f64..1.0, b in 0.0f64..1.0,
    ) {
        let (probabilities, outcomes): (Vec<f64>, Vec<bool>) = pairs.into_iter().unzip();
        let platt = Platt::fit(&probabilities, &outcomes);
        prop_assert!(platt.apply(a.min(b)) <= platt.apply(a.max(b)));
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
fn assigning_is_the_same_for_any_number_of_threads() {
    let rows = blobs(500, 3, 4, 1);
    let model = &scorer().version().segment.model;
    let wide: Vec<f32> = rows.rows().flat_map(|row| [row, row, row, &row[..2]].concat()).collect();
    let rows = habitus_engine::matrix::ScaledMatrix::new(11, wide);
    let in_pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| model.assign_all(&rows))
    };
    assert_eq!(in_pool(1), in_pool(4));
}
