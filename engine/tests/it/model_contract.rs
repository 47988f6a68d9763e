//! What every segment model promises, whatever its family.

use crate::support::{blobs, matched};
use habitus_engine::domain::Seed;
use habitus_engine::matrix::{CHUNK_ROWS, ScaledMatrix};
use habitus_engine::models::gmm::{CovarianceType, GaussianMixture, GmmParams, Init};
use habitus_engine::models::kmeans::KMeansParams;
use habitus_engine::models::selection::{Family, SegmentationParams};
use habitus_engine::models::{Engine, Estimator, FitError, SegmentModel, Segmenter};
use rand::Rng;

fn params(family: Family, k: usize) -> SegmentationParams {
    SegmentationParams {
        family,
        engine: Engine::Habitus,
        covariance: CovarianceType::Full,
        init: Init::Kmeans,
        mini_batch: None,
        k_min: k,
        k_max: k,
        n_init: 3,
        max_iter: 300,
        tol: 1e-4,
        reg_covar: 1e-4,
        warm_start: false,
    }
}

const FAMILIES: [Family; 2] = [Family::Kmeans, Family::GaussianMixture];

const COVARIANCES: [CovarianceType; 4] =
    [CovarianceType::Full, CovarianceType::Tied, CovarianceType::Diag, CovarianceType::Spherical];

/// Every way in which our own engine fits `k` clusters.
fn own(k: usize) -> Vec<SegmentationParams> {
    let mini_batch = SegmentationParams { mini_batch: Some(64), ..params(Family::Kmeans, k) };
    let mut ways = vec![params(Family::Kmeans, k), mini_batch];
    for covariance in COVARIANCES {
        for init in [Init::Kmeans, Init::KmeansPlusPlus, Init::Random] {
            let mixture = params(Family::GaussianMixture, k);
            ways.push(SegmentationParams { covariance, init, ..mixture });
        }
    }
    ways
}

/// Every way in which any engine does.
fn all(k: usize) -> Vec<SegmentationParams> {
    let linfa = |family| SegmentationParams { engine: Engine::Linfa, ..params(family, k) };
    own(k).into_iter().chain(FAMILIES.map(linfa)).collect()
}

/// Rows everywhere, of which many lie between clusters.
fn noise(n: usize, d: usize, seed: u64) -> ScaledMatrix {
    let mut rng = Seed(seed).derive("noise", 0).rng();
    ScaledMatrix::new(d, (0..n * d).map(|_| rng.gen_range(-3.0f32..3.0)).collect())
}

/// The columns of `rows`, and one more.
fn with_column(rows: &ScaledMatrix, column: impl Fn(&[f32]) -> f32) -> ScaledMatrix {
    let wider = rows.rows().flat_map(|row| row.iter().copied().chain([column(row)]));
    ScaledMatrix::new(rows.n_features() + 1, wider.collect())
}

fn labels(model: &SegmentModel, rows: &ScaledMatrix) -> Vec<usize> {
    model.assign_all(rows).iter().map(|member| member.cluster).collect()
}

/// What was optimised, as the model has it that came of it.
fn objective(model: &SegmentModel, rows: &ScaledMatrix) -> f64 {
    match model {
        SegmentModel::KMeans(model) => model.inertia(rows),
        SegmentModel::GaussianMixture(model) => model.mean_log_density(rows),
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_refitting_forgets() {
    let (rows, other) = (blobs(300, 3, 4, 1), blobs(200, 3, 2, 9));
    for (params, fewer) in all(4).into_iter().zip(all(2)) {
        let first = params.select(&rows, Seed(3)).unwrap();
        let _ = fewer.select(&other, Seed(3)).unwrap();
        let again = params.select(&rows, Seed(3)).unwrap();
        assert_eq!(first.model, again.model, "{params:?}");
        assert_eq!(first.table, again.table, "{params:?}");
    }
}

#[test]
fn clusters_that_are_there_are_found() {
    let rows = blobs(400, 3, 4, 1);
    // Mixtures that start elsewhere than k-means ends may miss them.
    for params in all(4).into_iter().filter(|params| params.init == Init::Kmeans) {
        let labels = labels(&params.select(&rows, Seed(3)).unwrap().model, &rows);
        for row in 0..rows.n_rows() {
            assert_eq!(labels[row], labels[row % 4], "{params:?}, row {row}");
        }
    }
}

#[test]
fn a_batch_is_its_rows_and_a_permutation_permutes() {
    let rows = noise(700, 3, 2);
    for params in own(5) {
        let model = params.select(&rows, Seed(3)).unwrap().model;
        let batch = model.assign_all(&rows);
        for (row, member) in rows.rows().zip(&batch) {
            assert_eq!(model.assign(row), *member, "{params:?}");
        }
        assert_eq!(model.assign_source(&rows).unwrap(), batch, "{params:?}");
        let backwards: Vec<usize> = (0..rows.n_rows()).rev().collect();
        let mut permuted = model.assign_all(&rows.select(&backwards));
        permuted.reverse();
        assert_eq!(permuted, batch, "{params:?}");
    }
}

#[test]
fn save_and_load_changes_nothing() {
    let rows = blobs(200, 3, 4, 5);
    for params in all(4) {
        let model = params.select(&rows, Seed(3)).unwrap().model;
        let text = serde_json::to_string(&model).unwrap();
        let loaded: SegmentModel = serde_json::from_str(&text).unwrap();
        assert_eq!(loaded, model, "{params:?}");
        assert_eq!(serde_json::to_string(&loaded).unwrap(), text, "{params:?}");
        assert_eq!(loaded.assign_all(&rows), model.assign_all(&rows), "{params:?}");
    }
}

#[test]
fn what_is_not_finite_or_too_few_is_refused_by_name() {
    for (params, three) in all(2).into_iter().zip(all(3)) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2e15] {
            let mut values = blobs(50, 2, 2, 1).values().to_vec();
            values[20] = bad;
            let error = params.select(&ScaledMatrix::new(2, values), Seed(3)).unwrap_err();
            assert_eq!(error, FitError::NotFinite { row: 10 }, "{params:?}");
        }
        let same = ScaledMatrix::new(2, [1.0f32, 2.0].repeat(40));
        let error = three.select(&same, Seed(3)).unwrap_err();
        assert_eq!(error, FitError::TooFewDistinctRows { got: 1, need: 3 }, "{params:?}");
        // Both zeros are one number.
        let two = ScaledMatrix::new(2, [1.0f32, 0.0, 1.0, -0.0, 4.0, 0.0].repeat(20));
        let error = three.select(&two, Seed(3)).unwrap_err();
        assert_eq!(error, FitError::TooFewDistinctRows { got: 2, need: 3 }, "{params:?}");
    }
}

#[test]
fn the_row_that_is_not_finite_is_named_in_any_chunk() {
    for params in [params(Family::Kmeans, 2), params(Family::GaussianMixture, 2)] {
        for row in [0, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 300] {
            let mut values = noise(CHUNK_ROWS + 301, 2, 1).values().to_vec();
            values[2 * row + 1] = f32::NAN;
            let error = params.select(&ScaledMatrix::new(2, values), Seed(3)).unwrap_err();
            assert_eq!(error, FitError::NotFinite { row }, "{params:?}");
        }
    }
}

#[test]
fn clusters_come_from_the_largest_to_the_smallest() {
    let many = blobs(400, 2, 2, 8);
    let rows: Vec<usize> = (0..400).filter(|row| row % 2 == 0 || row % 8 == 1).collect();
    let rows = many.select(&rows);
    for params in all(2).into_iter().filter(|params| params.init == Init::Kmeans) {
        let labels = labels(&params.select(&rows, Seed(3)).unwrap().model, &rows);
        let first = labels.iter().filter(|&&label| label == 0).count();
        assert!(first > rows.n_rows() / 2, "{params:?}: {first} of {}", rows.n_rows());
    }
}

#[test]
fn an_objective_is_that_of_the_model_that_is_returned() {
    let rows = noise(600, 3, 7);
    for params in own(5) {
        // Stopped early, the last step of a fit must not be missing from what it tells.
        for max_iter in [2, 300] {
            let params = SegmentationParams { max_iter, ..params.clone() };
            let selected = params.select(&rows, Seed(3)).unwrap();
            let (told, own) = (selected.diagnostics.objective, objective(&selected.model, &rows));
            assert!((told - own).abs() <= 1e-9 * own.abs(), "{params:?}: {told} is not {own}");
            match &selected.model {
                SegmentModel::KMeans(model) => {
                    let mut sizes = [0; 5];
                    labels(&selected.model, &rows).iter().for_each(|&label| sizes[label] += 1);
                    assert!(sizes.is_sorted_by(|a, b| a >= b), "{params:?}: {sizes:?}");
                    assert_eq!(model.n_clusters(), 5);
                }
                SegmentModel::GaussianMixture(model) => {
                    let weights = &model.parameters().weights;
                    assert!(weights.is_sorted_by(|a, b| a >= b), "{params:?}: {weights:?}");
                    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{weights:?}");
                }
            }
        }
    }
}

#[test]
fn a_converged_kmeans_stays_where_it_is_when_fitted_from_its_own_labels() {
    let rows = noise(600, 3, 5);
    let params = KMeansParams {
        n_clusters: 6,
        n_init: 2,
        max_iter: 300,
        tol: 0.0,
        engine: Engine::Habitus,
        mini_batch: None,
    };
    let fit = params.fit(&rows, Seed(3)).unwrap();
    assert!(fit.diagnostics.converged);
    let labels: Vec<usize> =
        fit.model.nearest_all(rows.values()).into_iter().map(|label| label as usize).collect();
    let again = params.fit_from(&rows, &labels).unwrap();
    assert!(again.diagnostics.n_iter <= Some(2), "{:?}", again.diagnostics);
    let places = matched(fit.model.centroids(), again.model.centroids());
    for (centroid, place) in fit.model.centroids().iter().zip(places) {
        for (one, other) in centroid.iter().zip(&again.model.centroids()[place]) {
            assert!((one - other).abs() < 1e-9, "{one} is not {other}");
        }
    }
}

#[test]
fn an_iteration_limit_is_never_silent() {
    let rows = blobs(500, 4, 3, 4);
    for params in own(8) {
        let hurried = SegmentationParams { max_iter: 1, n_init: 1, tol: 1e-12, ..params };
        let diagnostics = hurried.select(&rows, Seed(3)).unwrap().diagnostics;
        assert!(!diagnostics.converged, "{hurried:?}");
        assert!(diagnostics.notes[0].contains("limit of 1"), "{diagnostics:?}");
    }
    let hurried = SegmentationParams {
        max_iter: 1,
        tol: 1e-12,
        engine: Engine::Linfa,
        ..params(Family::GaussianMixture, 8)
    };
    let error = hurried.select(&rows, Seed(3)).unwrap_err();
    assert!(matches!(error, FitError::NoRunSucceeded { max_iter: 1, .. }), "{error:?}");
}

#[test]
fn every_run_of_a_mixture_starts_anew_and_the_best_one_wins() {
    let rows = blobs(300, 2, 6, 11);
    let objective = |n_init, seed| {
        let params = GmmParams {
            n_components: 5,
            covariance: CovarianceType::Full,
            init: Init::Random,
            n_init,
            max_iter: 100,
            tol: 1e-6,
            reg_covar: 1e-4,
            engine: Engine::Habitus,
        };
        let diagnostics = params.fit(&rows, Seed(seed)).unwrap().diagnostics;
        assert!(diagnostics.run < n_init, "{diagnostics:?}");
        diagnostics.objective
    };
    // The first run is the best one now and then, but not for every seed.
    let mut n_better = 0;
    for seed in 0..6 {
        let bounds = [1, 2, 4].map(|n_init| objective(n_init, seed));
        assert!(bounds.is_sorted(), "{bounds:?}");
        n_better += usize::from(bounds[2] > bounds[0]);
    }
    assert!(n_better > 0, "four starts found nothing better than one");
}

#[test]
fn damaged_mixture_parameters_are_refused() {
    let mixture = |covariances: &str| {
        let text = format!(r#"{{"weights":[1.0],"means":[[0.0]],"covariances":{covariances}}}"#);
        serde_json::from_str::<GaussianMixture>(&text)
    };
    for good in [
        r#"{"full":[[1.0]]}"#,
        r#"{"tied":[1.0]}"#,
        r#"{"diag":[[1.0]]}"#,
        r#"{"spherical":[1.0]}"#,
    ] {
        assert!(mixture(good).is_ok(), "{good}");
    }
    for bad in [
        r#"{"full":[[-1.0]]}"#,
        r#"{"full":[[1.0,2.0]]}"#,
        r#"{"full":[]}"#,
        r#"{"tied":[0.0]}"#,
        r#"{"tied":[1.0,2.0]}"#,
        r#"{"diag":[[0.0]]}"#,
        r#"{"diag":[[1.0],[1.0]]}"#,
        r#"{"spherical":[-1.0]}"#,
        r#"{"spherical":[1.0,1.0]}"#,
        r#"{"banded":[1.0]}"#,
        "[[1.0]]",
    ] {
        assert!(mixture(bad).is_err(), "{bad}");
    }
    let empty = r#"{"weights":[],"means":[],"covariances":{"full":[]}}"#;
    assert!(serde_json::from_str::<GaussianMixture>(empty).is_err());
}

#[test]
fn a_range_is_decided_and_its_table_kept() {
    for family in FAMILIES {
        let rows = blobs(400, 3, 4, 1);
        let range = SegmentationParams { k_min: 2, k_max: 6, ..params(family, 4) };
        let selected = range.select(&rows, Seed(3)).unwrap();
        assert_eq!(selected.model.n_clusters(), 4, "{family:?}");
        let tried: Vec<usize> = selected.table.iter().map(|candidate| candidate.k).collect();
        assert_eq!(tried, [2, 3, 4, 5, 6], "{family:?}");
    }
}

#[test]
fn converged_centroids_are_the_means_of_their_rows() {
    // A lone far row: linfa's own centroids would still be on their way to it.
    let mut values = blobs(60, 2, 2, 6).values().to_vec();
    values.extend([400.0, -300.0]);
    let rows = ScaledMatrix::new(2, values);
    for engine in [Engine::Habitus, Engine::Linfa] {
        let params = KMeansParams {
            n_clusters: 3,
            n_init: 3,
            max_iter: 300,
            tol: 1e-3,
            engine,
            mini_batch: None,
        };
        let fit = params.fit(&rows, Seed(3)).unwrap();
        assert!(fit.diagnostics.converged, "{engine:?}");
        assert_eq!(fit.model.centroids()[2], [400.0, -300.0], "{engine:?}");
    }
}

#[test]
fn the_edge_of_a_range_is_told() {
    let rows = blobs(400, 3, 6, 1);
    let range = SegmentationParams { k_min: 2, k_max: 4, ..params(Family::GaussianMixture, 4) };
    let notes = range.select(&rows, Seed(3)).unwrap().diagnostics.notes;
    assert!(notes.iter().any(|note| note.contains("edge of the range 2 to 4")), "{notes:?}");
}

/// That a fit succeeds and every answer is a number.
fn is_sound(params: &SegmentationParams, rows: &ScaledMatrix, what: &str) -> SegmentModel {
    let selected = params
        .select(rows, Seed(3))
        .unwrap_or_else(|error| panic!("{what}: {error}, of {params:?}"));
    assert!(selected.diagnostics.objective.is_finite(), "{what}: {params:?}");
    assert_eq!(selected.model.n_clusters(), params.k_max, "{what}: {params:?}");
    for member in selected.model.assign_all(rows) {
        assert!(member.cluster < params.k_max, "{what}: {params:?}");
        let sure = member.probability.unwrap_or(1.0);
        let density = member.log_density.unwrap_or(0.0);
        assert!(sure > 0.0 && sure <= 1.0 && density.is_finite(), "{what}: {params:?}");
    }
    selected.model
}

#[test]
fn degenerate_rows_are_fitted_where_that_means_anything() {
    let rows = blobs(200, 2, 3, 4);
    let constant = with_column(&rows, |_| 5.0);
    let collinear = with_column(&rows, |row| row[0]);
    let three = ScaledMatrix::new(2, [1.0f32, 2.0, -1.0, 0.5, 7.0, 7.0].repeat(30));
    for params in own(3) {
        is_sound(&params, &constant, "a constant column");
        is_sound(&params, &collinear, "two equal columns");
        is_sound(&params, &three, "as many distinct rows as clusters");
    }
}

#[test]
fn one_cluster_is_the_mean_of_all_rows() {
    let (rows, one) = (noise(300, 3, 8), ScaledMatrix::new(3, vec![0.1, -7.25, 3e4]));
    let same = ScaledMatrix::new(2, [0.1f32, -2.5].repeat(50));
    for params in all(1) {
        for rows in [&rows, &one, &same] {
            if params.engine == Engine::Linfa && rows.n_rows() != 300 {
                continue;
            }
            let model = is_sound(&params, rows, "one cluster");
            let centre = match &model {
                SegmentModel::KMeans(model) => &model.centroids()[0],
                SegmentModel::GaussianMixture(model) => &model.parameters().means[0],
            };
            // A mini-batch has not seen every row.
            let within = if params.mini_batch.is_some() { 1.0 } else { 1e-9 };
            for (j, value) in centre.iter().enumerate() {
                let mean =
                    rows.rows().map(|row| f64::from(row[j])).sum::<f64>() / rows.n_rows() as f64;
                assert!((value - mean).abs() <= within * mean.abs().max(1.0), "{params:?}");
            }
        }
    }
}

#[test]
fn without_reg_covar_what_has_no_inverse_is_refused_naming_it() {
    // Both columns are equal, and one row in two is the other's negative: covariances are exact.
    let exact = ScaledMatrix::new(2, [2.0f32, 2.0, -2.0, -2.0].repeat(20));
    let collinear = with_column(&noise(400, 2, 3), |row| row[0]);
    let constant = with_column(&noise(400, 2, 3), |_| 5.0);
    let refused = |params: &SegmentationParams, rows: &ScaledMatrix, what: &str| {
        let params = SegmentationParams { reg_covar: 0.0, tol: 1e-9, ..params.clone() };
        match params.select(rows, Seed(3)) {
            Err(FitError::NoRunSucceeded { last, .. }) => {
                assert!(last.contains("reg_covar"), "{what}: {last}");
            }
            other => panic!("{what}, of {params:?}: {other:?}"),
        }
    };
    for params in own(1).iter().filter(|params| params.family == Family::GaussianMixture) {
        match params.covariance {
            CovarianceType::Full | CovarianceType::Tied => refused(params, &exact, "equal"),
            CovarianceType::Diag | CovarianceType::Spherical => {
                let params = SegmentationParams { reg_covar: 0.0, ..params.clone() };
                is_sound(&params, &exact, "equal columns without products");
            }
        }
    }
    for params in own(4).iter().filter(|params| params.family == Family::GaussianMixture) {
        if matches!(params.covariance, CovarianceType::Full | CovarianceType::Tied) {
            refused(params, &collinear, "two equal columns");
        }
        if params.covariance != CovarianceType::Spherical {
            refused(params, &constant, "a constant column");
        }
    }
}

#[test]
fn a_mini_batch_comes_near() {
    let rows = blobs(3_000, 3, 6, 4);
    let inertia = |mini_batch| {
        let params = KMeansParams {
            n_clusters: 6,
            n_init: 3,
            max_iter: 300,
            tol: 1e-4,
            engine: Engine::Habitus,
            mini_batch,
        };
        params.fit(&rows, Seed(3)).unwrap().diagnostics.objective
    };
    let (full, few) = (inertia(None), inertia(Some(100)));
    assert!(few >= full * (1.0 - 1e-9) && few <= 1.3 * full, "{few} of {full}");
}
