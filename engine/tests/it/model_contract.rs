//! What every segment model promises, whatever its family.

use crate::support::blobs;
use habitus_engine::domain::Seed;
use habitus_engine::matrix::ScaledMatrix;
use habitus_engine::models::gmm::{GaussianMixture, GmmParams};
use habitus_engine::models::kmeans::KMeansParams;
use habitus_engine::models::selection::{Family, SegmentationParams, Selected};
use habitus_engine::models::{Estimator, FitError, SegmentModel, Segmenter};

fn params(family: Family, k: usize) -> SegmentationParams {
    SegmentationParams {
        family,
        k_min: k,
        k_max: k,
        n_init: 3,
        max_iter: 300,
        tol: 1e-4,
        reg_covar: 1e-4,
        warm_start: false,
    }
}

fn fit(family: Family, k: usize, rows: &ScaledMatrix) -> Selected {
    params(family, k).select(rows, Seed(3)).unwrap()
}

const FAMILIES: [Family; 2] = [Family::Kmeans, Family::GaussianMixture];

#[test]
fn the_same_seed_gives_the_same_bits_and_refitting_forgets() {
    for family in FAMILIES {
        let (rows, other) = (blobs(300, 3, 4, 1), blobs(200, 3, 2, 9));
        let first = fit(family, 4, &rows);
        let _ = fit(family, 2, &other);
        assert_eq!(first.model, fit(family, 4, &rows).model, "{family:?}");
        assert_eq!(first.table, fit(family, 4, &rows).table, "{family:?}");
    }
}

#[test]
fn clusters_that_are_there_are_found() {
    for family in FAMILIES {
        let rows = blobs(400, 3, 4, 1);
        let model = fit(family, 4, &rows).model;
        let labels: Vec<usize> = model.assign_all(&rows).iter().map(|m| m.cluster).collect();
        for row in 0..rows.n_rows() {
            assert_eq!(labels[row], labels[row % 4], "{family:?}, row {row}");
        }
    }
}

#[test]
fn a_batch_is_its_rows_and_a_permutation_permutes() {
    for family in FAMILIES {
        let rows = blobs(100, 3, 3, 2);
        let model = fit(family, 3, &rows).model;
        let batch = model.assign_all(&rows);
        for (row, member) in rows.rows().zip(&batch) {
            assert_eq!(model.assign(row), *member, "{family:?}");
        }
        let backwards: Vec<usize> = (0..rows.n_rows()).rev().collect();
        let mut permuted = model.assign_all(&rows.select(&backwards));
        permuted.reverse();
        assert_eq!(permuted, batch, "{family:?}");
    }
}

#[test]
fn save_and_load_changes_nothing() {
    for family in FAMILIES {
        let rows = blobs(200, 3, 4, 5);
        let model = fit(family, 4, &rows).model;
        let text = serde_json::to_string(&model).unwrap();
        let loaded: SegmentModel = serde_json::from_str(&text).unwrap();
        assert_eq!(loaded, model, "{family:?}");
        assert_eq!(serde_json::to_string(&loaded).unwrap(), text, "{family:?}");
        assert_eq!(loaded.assign_all(&rows), model.assign_all(&rows), "{family:?}");
    }
}

#[test]
fn what_is_not_finite_or_too_few_is_refused_by_name() {
    for family in FAMILIES {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut values = blobs(50, 2, 2, 1).values().to_vec();
            values[20] = bad;
            let error =
                params(family, 2).select(&ScaledMatrix::new(2, values), Seed(3)).unwrap_err();
            assert_eq!(error, FitError::NotFinite { row: 10 }, "{family:?}");
        }
        let same = ScaledMatrix::new(2, [1.0f32, 2.0].repeat(40));
        let error = params(family, 3).select(&same, Seed(3)).unwrap_err();
        assert_eq!(error, FitError::TooFewDistinctRows { got: 1, need: 3 }, "{family:?}");
    }
}

#[test]
fn clusters_come_from_the_largest_to_the_smallest() {
    let many = blobs(400, 2, 2, 8);
    let rows: Vec<usize> = (0..400).filter(|row| row % 2 == 0 || row % 8 == 1).collect();
    for family in FAMILIES {
        let rows = many.select(&rows);
        let model = fit(family, 2, &rows).model;
        let first = model.assign_all(&rows).iter().filter(|member| member.cluster == 0).count();
        assert!(first > rows.n_rows() / 2, "{family:?}: {first} of {}", rows.n_rows());
    }
}

#[test]
fn an_iteration_limit_is_never_silent() {
    let rows = blobs(500, 4, 3, 4);
    let hurried = SegmentationParams { max_iter: 1, n_init: 1, ..params(Family::Kmeans, 8) };
    let selected = hurried.select(&rows, Seed(3)).unwrap();
    assert!(!selected.diagnostics.converged);
    assert!(selected.diagnostics.notes[0].contains("limit of 1"), "{:?}", selected.diagnostics);
    let hurried =
        SegmentationParams { max_iter: 1, tol: 1e-12, ..params(Family::GaussianMixture, 8) };
    let error = hurried.select(&rows, Seed(3)).unwrap_err();
    assert!(matches!(error, FitError::NoRunSucceeded { max_iter: 1, .. }), "{error:?}");
}

#[test]
fn every_run_of_a_mixture_starts_anew_and_the_best_one_wins() {
    let rows = blobs(300, 2, 6, 11);
    let params =
        |n_init| GmmParams { n_components: 5, n_init, max_iter: 500, tol: 1e-6, reg_covar: 1e-4 };
    let bounds: Vec<f64> = (0..6)
        .map(|run| {
            let fit = params(run + 1).fit(&rows, Seed(5)).unwrap();
            fit.diagnostics.objective
        })
        .collect();
    assert!(bounds.windows(2).all(|pair| pair[1] >= pair[0]), "{bounds:?}");
    assert!(bounds[5] > bounds[0], "six starts found nothing better than one: {bounds:?}");
}

#[test]
fn damaged_mixture_parameters_are_refused() {
    let good = r#"{"weights":[1.0],"means":[[0.0]],"covariances":[[1.0]]}"#;
    assert!(serde_json::from_str::<GaussianMixture>(good).is_ok());
    for bad in [
        r#"{"weights":[1.0],"means":[[0.0]],"covariances":[[-1.0]]}"#,
        r#"{"weights":[1.0],"means":[[0.0]],"covariances":[[1.0,2.0]]}"#,
        r#"{"weights":[],"means":[],"covariances":[]}"#,
    ] {
        assert!(serde_json::from_str::<GaussianMixture>(bad).is_err(), "{bad}");
    }
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
    let params = KMeansParams { n_clusters: 3, n_init: 3, max_iter: 300, tol: 1e-3 };
    let fit = params.fit(&rows, Seed(3)).unwrap();
    assert!(fit.diagnostics.converged);
    assert_eq!(fit.model.centroids[2], [400.0, -300.0]);
}

#[test]
fn the_edge_of_a_range_is_told() {
    let rows = blobs(400, 3, 6, 1);
    let range = SegmentationParams { k_min: 2, k_max: 4, ..params(Family::GaussianMixture, 4) };
    let notes = range.select(&rows, Seed(3)).unwrap().diagnostics.notes;
    assert!(notes.iter().any(|note| note.contains("edge of the range 2 to 4")), "{notes:?}");
}
