//! Laws that hold for any input.

use crate::support::{as_of, blobs, matched, purchase, rules, settings, shop, train};
use habitus_engine::domain::{CustomerId, Event, History, Seed, fingerprint};
use habitus_engine::features::{Plan, purchases};
use habitus_engine::matrix::{CHUNK_ROWS, RowSource, ScaledMatrix, SourceError, Weighted};
use habitus_engine::models::churn::Platt;
use habitus_engine::models::gmm::{
    CovarianceType, Covariances, GaussianMixture, GmmParams, Init, Parameters,
};
use habitus_engine::models::kmeans::KMeansParams;
use habitus_engine::models::selection::Family;
use habitus_engine::models::value::IntervalMap;
use habitus_engine::models::{Engine, Estimator, FitError, SegmentModel};
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

const COVARIANCES: [CovarianceType; 4] =
    [CovarianceType::Full, CovarianceType::Tied, CovarianceType::Diag, CovarianceType::Spherical];

fn kmeans(n_clusters: usize, max_iter: u32) -> KMeansParams {
    KMeansParams {
        n_clusters,
        n_init: 1,
        max_iter,
        tol: 0.0,
        engine: Engine::Habitus,
        mini_batch: None,
    }
}

fn mixture(covariance: CovarianceType, n_components: usize, max_iter: u32) -> GmmParams {
    GmmParams {
        n_components,
        covariance,
        init: Init::Kmeans,
        n_init: 1,
        max_iter,
        tol: 0.0,
        reg_covar: 1e-9,
        engine: Engine::Habitus,
    }
}

/// The first `k` rows.
fn first_rows(rows: &ScaledMatrix, k: usize) -> Vec<Vec<f64>> {
    rows.rows().take(k).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
}

/// Wide components around the first `k` rows.
fn wide_start(covariance: CovarianceType, rows: &ScaledMatrix, k: usize) -> Parameters {
    let d = rows.n_features();
    let matrix: Vec<f64> =
        (0..d * d).map(|place| if place % (d + 1) == 0 { 4.0 } else { 0.5 }).collect();
    Parameters {
        weights: vec![1.0 / k as f64; k],
        means: first_rows(rows, k),
        covariances: match covariance {
            CovarianceType::Full => Covariances::Full(vec![matrix; k]),
            CovarianceType::Tied => Covariances::Tied(matrix),
            CovarianceType::Diag => Covariances::Diag(vec![vec![4.0; d]; k]),
            CovarianceType::Spherical => Covariances::Spherical(vec![4.0; k]),
        },
    }
}

/// Rows of three features, and a mixture of each type fitted on them.
fn mixtures() -> &'static [GaussianMixture] {
    static MIXTURES: OnceLock<Vec<GaussianMixture>> = OnceLock::new();
    MIXTURES.get_or_init(|| {
        let rows = blobs(300, 3, 4, 2);
        let fit = |covariance| mixture(covariance, 4, 50).fit(&rows, Seed(1)).unwrap().model;
        COVARIANCES.map(fit).to_vec()
    })
}

/// Rows that are copied when they are read, as those of a file are.
struct Copied(ScaledMatrix);

impl RowSource for Copied {
    fn n_rows(&self) -> usize {
        self.0.n_rows()
    }

    fn n_features(&self) -> usize {
        self.0.n_features()
    }

    fn chunk<'a>(
        &'a self,
        index: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Result<&'a [f32], SourceError> {
        let mut unused = Vec::new();
        let rows = self.0.chunk(index, &mut unused)?;
        // What was read before is still there, and must not be seen.
        buffer.clear();
        buffer.extend_from_slice(rows);
        Ok(buffer)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_inertia_of_kmeans_never_rises(
        values in vec(-40i8..40, 12..600), d in 1usize..5, k in 1usize..8, coarse in any::<bool>(),
    ) {
        // Coarse values are equal often, so that clusters run empty.
        let unit = if coarse { 20 } else { 1 };
        let n = values.len() / d;
        let values = values[..n * d].iter().map(|value| f32::from(value / unit)).collect();
        let rows = ScaledMatrix::new(d, values);
        let start = first_rows(&rows, k.min(n));
        let mut before = f64::INFINITY;
        for max_iter in 0..8 {
            let fit = kmeans(start.len(), max_iter).fit_at(&rows, start.clone()).unwrap();
            let inertia = fit.diagnostics.objective;
            prop_assert!(inertia <= before * (1.0 + 1e-9) + 1e-9, "{} after {}", inertia, before);
            before = inertia;
        }
    }

    #[test]
    fn the_likelihood_of_a_mixture_never_falls(
        seed in any::<u64>(), d in 1usize..4, k in 1usize..4,
    ) {
        let rows = blobs(120, d, 3, seed);
        for covariance in COVARIANCES {
            let start = wide_start(covariance, &rows, k);
            let mut before = f64::NEG_INFINITY;
            for max_iter in 0..8 {
                let fit = mixture(covariance, k, max_iter).fit_at(&rows, start.clone()).unwrap();
                let bound = fit.diagnostics.objective;
                let what = (covariance, max_iter);
                prop_assert!(bound >= before - 1e-7, "{:?}: {} after {}", what, bound, before);
                before = bound;
            }
        }
    }

    #[test]
    fn responsibilities_sum_to_one_whatever_the_covariances(values in vec(-1e6f32..1e6, 3)) {
        for mixture in mixtures() {
            for scale in [1.0, 1e-5] {
                let row: Vec<f32> = values.iter().map(|value| value * scale).collect();
                let shares = mixture.responsibilities(&row);
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{:?}", shares);
                prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
            }
        }
    }

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
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{:?}", shares);
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

/// Models of few iterations on all rows of a source, as text that holds every bit of them.
fn fitted(source: &dyn RowSource) -> Vec<String> {
    let mut models = Vec::new();
    for mini_batch in [None, Some(500)] {
        let fit = KMeansParams { mini_batch, n_init: 2, ..kmeans(7, 6) }.fit(source, Seed(5));
        let fit = fit.unwrap();
        let model = serde_json::to_string(&fit.model).unwrap();
        models.push(format!("{model} {:?}", fit.diagnostics));
    }
    for covariance in COVARIANCES {
        for init in [Init::Kmeans, Init::KmeansPlusPlus, Init::Random] {
            let params = GmmParams { init, ..mixture(covariance, 3, 3) };
            let fit = params.fit(source, Seed(5)).unwrap();
            let model = serde_json::to_string(&fit.model).unwrap();
            models.push(format!("{model} {:?}", fit.diagnostics));
        }
    }
    models
}

/// Rows of more than two chunks, close enough together that rows change clusters often.
fn many_rows() -> ScaledMatrix {
    let mut rng = Seed(6).rng();
    let mut value = || rng.gen_range(-2.0f32..2.0) + rng.gen_range(-1.0f32..1.0);
    ScaledMatrix::new(3, (0..3 * (2 * CHUNK_ROWS + 3_616)).map(|_| value()).collect())
}

#[test]
fn where_rows_are_read_from_changes_no_bit() {
    let rows = many_rows();
    let expected = fitted(&rows);
    assert_eq!(fitted(&Copied(rows.clone())), expected);
    // Weights of one are as good as none.
    let weighted = Weighted::new(Copied(rows.clone()), vec![1.0; rows.n_rows()]).unwrap();
    assert_eq!(fitted(&weighted), expected);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let rows = many_rows();
    // So many rows that k-means starts in rounds.
    let mut rng = Seed(8).rng();
    let more = (0..2 * 200_001).map(|_| rng.gen_range(-1.0f32..1.0)).collect();
    let more = ScaledMatrix::new(2, more);
    let with = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| {
            let fit = kmeans(9, 4).fit(&more, Seed(5)).unwrap();
            (fitted(&rows), fit.model, fit.diagnostics)
        })
    };
    let expected = with(1);
    for n_threads in [2, 5] {
        assert!(with(n_threads) == expected, "{n_threads} threads");
    }
}

#[test]
fn a_weight_is_as_many_equal_rows() {
    for seed in 0..3 {
        let rows = blobs(300, 3, 5, seed);
        let mut rng = Seed(seed).derive("weights", 0).rng();
        // The rows that others start from count.
        let weights: Vec<u8> =
            (0..300).map(|row| if row < 7 { 2 } else { rng.gen_range(0..4) }).collect();
        let repeated: Vec<usize> =
            (0..300).flat_map(|row| std::iter::repeat_n(row, usize::from(weights[row]))).collect();
        let repeated = rows.select(&repeated);
        let weights = weights.iter().map(|&weight| f32::from(weight)).collect();
        let weighted = Weighted::new(rows.clone(), weights).unwrap();
        let all_near = |one: &[f64], other: &[f64], what: &str| {
            assert_eq!(one.len(), other.len(), "{what}");
            for (a, b) in one.iter().zip(other) {
                assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{what}: {a} is not {b}");
            }
        };

        let start = first_rows(&rows, 7);
        let (one, other) = (
            kmeans(7, 100).fit_at(&weighted, start.clone()).unwrap(),
            kmeans(7, 100).fit_at(&repeated, start).unwrap(),
        );
        all_near(&[one.diagnostics.objective], &[other.diagnostics.objective], "inertia");
        let places = matched(one.model.centroids(), other.model.centroids());
        for (centroid, place) in one.model.centroids().iter().zip(places) {
            all_near(centroid, &other.model.centroids()[place], "centroids");
        }

        for covariance in COVARIANCES {
            let what = format!("{covariance:?}");
            let start = wide_start(covariance, &rows, 3);
            let (one, other) = (
                mixture(covariance, 3, 6).fit_at(&weighted, start.clone()).unwrap(),
                mixture(covariance, 3, 6).fit_at(&repeated, start).unwrap(),
            );
            all_near(&[one.diagnostics.objective], &[other.diagnostics.objective], &what);
            let (one, other) = (one.model.parameters(), other.model.parameters());
            all_near(&one.weights, &other.weights, &what);
            all_near(&one.means.concat(), &other.means.concat(), &what);
        }
    }
}
