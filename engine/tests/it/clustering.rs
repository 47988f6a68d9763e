//! Clusters and mixtures as scikit-learn finds them (see `../golden/README.md`).

use crate::golden::{get, near, read, scaled};
use crate::support::{generated, matched};
use habitus_engine::domain::Seed;
use habitus_engine::matrix::{RowSource, ScaledMatrix, Weighted};
use habitus_engine::models::gmm::{
    CovarianceType, Covariances, GaussianMixture, GmmParams, Init, Parameters,
};
use habitus_engine::models::kmeans::{KMeans, KMeansParams};
use habitus_engine::models::{Engine, Estimator, Segmenter, silhouette};
use serde_json::Value;
use std::collections::BTreeMap;

const ENGINES: [Engine; 2] = [Engine::Habitus, Engine::Linfa];

fn kmeans(n_clusters: usize) -> KMeansParams {
    KMeansParams {
        n_clusters,
        n_init: 1,
        max_iter: 300,
        tol: 1e-4,
        engine: Engine::Habitus,
        mini_batch: None,
    }
}

/// That both partitions are one, whatever their clusters are called.
fn same_partition(ours: &[usize], theirs: &[usize], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let pairs = || ours.iter().copied().zip(theirs.iter().copied());
    let there: BTreeMap<usize, usize> = pairs().collect();
    let back: BTreeMap<usize, usize> = pairs().map(|(ours, theirs)| (theirs, ours)).collect();
    for (row, (ours, theirs)) in pairs().enumerate() {
        assert!(there[&ours] == theirs && back[&theirs] == ours, "{what}: row {row}");
    }
}

fn all_near(got: &[f64], want: &[f64], within: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= within * want.abs().max(1.0), "{what}: {got} is not {want}");
    }
}

#[test]
fn kmeans_reaches_the_same_inertia_and_partition() {
    let file = read("kmeans.json");
    let rows = scaled(&get::<Vec<Vec<f64>>>(&file, "x"));
    let labels: Vec<usize> = get(&file, "labels");
    let theirs = KMeans::new(get(&file, "centroids")).unwrap();
    near(theirs.inertia(&rows), get(&file, "inertia"), 1e-12, "inertia of their centroids");
    let own: Vec<usize> = theirs.assign_all(&rows).iter().map(|member| member.cluster).collect();
    assert_eq!(own, labels);

    for engine in ENGINES {
        let params = KMeansParams { n_init: 5, max_iter: 1000, tol: 1e-12, engine, ..kmeans(4) };
        let fit = params.fit(&rows, Seed(1)).unwrap();
        assert!(fit.diagnostics.converged, "{engine:?}");
        near(fit.diagnostics.objective, get(&file, "inertia"), 1e-6, "inertia of our fit");
        let ours: Vec<usize> =
            fit.model.assign_all(&rows).iter().map(|member| member.cluster).collect();
        same_partition(&ours, &labels, &format!("{engine:?}"));
    }
}

#[test]
fn silhouette_agrees() {
    let file = read("kmeans.json");
    let rows = scaled(&get::<Vec<Vec<f64>>>(&file, "x"));
    let labels: Vec<usize> = get(&file, "labels");
    let got = silhouette(&rows, &labels, rows.n_rows(), Seed(1)).unwrap();
    near(got, get(&file, "silhouette"), 1e-9, "silhouette");
}

#[test]
fn kmeans_agrees_iteration_by_iteration() {
    let file = read("kmeans_iterations.json");
    let rows = scaled(&get::<Vec<Vec<f64>>>(&file, "x"));
    for case in file["cases"].as_array().unwrap() {
        let name: String = get(case, "name");
        let source: Box<dyn RowSource> = match get::<Option<Vec<f32>>>(case, "sample_weight") {
            None => Box::new(rows.clone()),
            Some(weights) => Box::new(Weighted::new(rows.clone(), weights).unwrap()),
        };
        for expected in case["fits"].as_array().unwrap() {
            let params = KMeansParams {
                max_iter: get(expected, "max_iter"),
                tol: get(expected, "tol"),
                ..kmeans(get(&file, "n_clusters"))
            };
            let what = format!("{name}, {} iterations, tol {}", params.max_iter, params.tol);
            let fit = params.fit_at(source.as_ref(), get(case, "init_centroids")).unwrap();
            assert_eq!(fit.diagnostics.n_iter, Some(get(expected, "n_iter")), "{what}");
            assert_eq!(fit.diagnostics.converged, params.max_iter == 300, "{what}");
            near(fit.diagnostics.objective, get(expected, "inertia"), 1e-9, &what);
            let theirs: Vec<Vec<f64>> = get(expected, "centroids");
            for (want, ours) in theirs.iter().zip(matched(&theirs, fit.model.centroids())) {
                all_near(&fit.model.centroids()[ours], want, 1e-9, &what);
            }
            let labels = fit.model.nearest_all(rows.values());
            let labels: Vec<usize> = labels.into_iter().map(|label| label as usize).collect();
            same_partition(&labels, &get::<Vec<usize>>(expected, "labels"), &what);
        }
    }
}

/// Matrices on which thirty seeds of scikit-learn's found one optimum, by the seeds that made them.
const STABLE: [u64; 7] = [1, 2, 3, 4, 10, 16, 22];

#[test]
fn kmeans_with_restarts_finds_as_good_a_partition() {
    let file = read("kmeans_restarts.json");
    let ratio = |rows: &ScaledMatrix, case: &Value| -> f64 {
        let params = KMeansParams {
            n_init: get(&file, "n_init"),
            max_iter: get(&file, "max_iter"),
            tol: get(&file, "tol"),
            ..kmeans(get(case, "k"))
        };
        let fit = params.fit(rows, Seed(0)).unwrap();
        fit.diagnostics.objective / get::<f64>(case, "inertia")
    };
    let mut ratios = Vec::new();
    for case in file["generated"].as_array().unwrap() {
        let seed: u64 = get(case, "seed");
        let size = |key: &str| get::<usize>(case, key);
        let rows = generated(seed, size("n"), size("d"), size("clusters"), get(case, "spread"));
        let ratio = ratio(&rows, case);
        assert!(!STABLE.contains(&seed) || (ratio - 1.0).abs() <= 1e-6, "seed {seed}: {ratio}");
        ratios.push(ratio);
    }
    for case in file["real"].as_array().unwrap() {
        ratios.push(ratio(&scaled(&get::<Vec<Vec<f64>>>(case, "x")), case));
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    // Breathing takes the luck out of ten starts: no matrix is left that a better draw would win.
    assert!(mean <= 1.0 && ratios.iter().all(|&ratio| ratio <= 1.001), "{mean}: {ratios:?}");
}

#[test]
fn mixture_densities_agree_even_where_exp_underflows() {
    let file = read("gmm.json");
    let covariances: Vec<Vec<Vec<f64>>> = get(&file, "covariances");
    let mixture: GaussianMixture = Parameters {
        weights: get(&file, "weights"),
        means: get(&file, "means"),
        covariances: Covariances::Full(covariances.iter().map(|rows| rows.concat()).collect()),
    }
    .try_into()
    .unwrap();
    let queries = scaled(&get::<Vec<Vec<f64>>>(&file, "queries"));
    let densities: Vec<f64> = get(&file, "score_samples");
    let shares: Vec<Vec<f64>> = get(&file, "predict_proba");
    for (got, want) in mixture.log_densities(&queries).iter().zip(densities) {
        near(*got, want, 1e-9, "log-density");
    }
    for (row, shares) in queries.rows().zip(shares) {
        for (got, want) in mixture.responsibilities(row).iter().zip(&shares) {
            assert!((got - want).abs() < 1e-9, "responsibility {got} is not {want}");
        }
    }
    let rows = scaled(&get::<Vec<Vec<f64>>>(&file, "x"));
    let mean = mixture.mean_log_density(&rows);
    near(mean, get(&file, "mean_score"), 1e-12, "mean log-density");
    near(mixture.bic(rows.n_rows(), mean), get(&file, "bic"), 1e-12, "BIC");
}

fn mixture(n_components: usize) -> GmmParams {
    GmmParams {
        n_components,
        covariance: CovarianceType::Full,
        init: Init::Kmeans,
        n_init: 1,
        max_iter: 1000,
        tol: 1e-8,
        reg_covar: 1e-6,
        engine: Engine::Habitus,
    }
}

#[test]
fn mixture_fit_reaches_the_same_lower_bound() {
    let file = read("gmm.json");
    let rows = scaled(&get::<Vec<Vec<f64>>>(&file, "x"));
    for engine in ENGINES {
        let params =
            GmmParams { n_init: 3, reg_covar: get(&file, "reg_covar"), engine, ..mixture(4) };
        let fit = params.fit(&rows, Seed(1)).unwrap();
        near(fit.diagnostics.objective, get(&file, "mean_score"), 1e-5, "lower bound");
    }
}

/// The covariances of a start or of a fit.
fn covariances(kind: CovarianceType, of: &Value) -> Covariances {
    match kind {
        CovarianceType::Full => {
            let each: Vec<Vec<Vec<f64>>> = get(of, "covariances");
            Covariances::Full(each.iter().map(|rows| rows.concat()).collect())
        }
        CovarianceType::Tied => Covariances::Tied(get::<Vec<Vec<f64>>>(of, "covariances").concat()),
        CovarianceType::Diag => Covariances::Diag(get(of, "covariances")),
        CovarianceType::Spherical => Covariances::Spherical(get(of, "covariances")),
    }
}

fn covariance_of(covariances: &Covariances, component: usize) -> Vec<f64> {
    match covariances {
        Covariances::Full(each) | Covariances::Diag(each) => each[component].clone(),
        Covariances::Tied(covariance) => covariance.clone(),
        Covariances::Spherical(each) => vec![each[component]],
    }
}

#[test]
fn mixtures_of_every_covariance_type_agree_from_a_given_start() {
    let file = read("gmm_covariances.json");
    let rows = scaled(&get::<Vec<Vec<f64>>>(&file, "x"));
    for case in file["cases"].as_array().unwrap() {
        let kind: CovarianceType = get(case, "covariance_type");
        let start = Parameters {
            weights: get(&case["start"], "weights"),
            means: get(&case["start"], "means"),
            covariances: covariances(kind, &case["start"]),
        };
        for expected in case["fits"].as_array().unwrap() {
            let params = GmmParams {
                covariance: kind,
                max_iter: get(expected, "max_iter"),
                tol: get(expected, "tol"),
                reg_covar: get(&file, "reg_covar"),
                ..mixture(get(&file, "n_components"))
            };
            let what = format!("{kind:?}, {} iterations", params.max_iter);
            let fit = params.fit_at(&rows, start.clone()).unwrap();
            assert_eq!(fit.diagnostics.n_iter, Some(get(expected, "n_iter")), "{what}");
            assert_eq!(fit.diagnostics.converged, params.tol > 0.0, "{what}");
            assert_eq!(fit.model.covariance(), kind, "{what}");

            let ours = fit.model.parameters();
            let (weights, means): (Vec<f64>, Vec<Vec<f64>>) =
                (get(expected, "weights"), get(expected, "means"));
            let theirs = covariances(kind, expected);
            let places = matched(&means, &ours.means);
            for (component, &place) in places.iter().enumerate() {
                all_near(&[ours.weights[place]], &[weights[component]], 1e-9, &what);
                all_near(&ours.means[place], &means[component], 1e-9, &what);
                let (got, want) =
                    (covariance_of(&ours.covariances, place), covariance_of(&theirs, component));
                all_near(&got, &want, 1e-9, &what);
            }

            let densities: Vec<f64> = get(expected, "score_samples_first_5");
            all_near(&fit.model.log_densities(&rows)[..5], &densities, 1e-8, &what);
            let shares: Vec<Vec<f64>> = get(expected, "predict_proba_first_5");
            for (row, shares) in rows.rows().zip(&shares) {
                let ours = fit.model.responsibilities(row);
                let ours: Vec<f64> = places.iter().map(|&place| ours[place]).collect();
                all_near(&ours, shares, 1e-8, &what);
            }

            let mean = fit.diagnostics.objective;
            near(mean, get(expected, "mean_score"), 1e-8, &what);
            near(fit.model.mean_log_density(&rows), mean, 1e-12, &what);
            assert_eq!(fit.model.n_free(), get::<usize>(expected, "n_parameters"), "{what}");
            near(fit.model.bic(rows.n_rows(), mean), get(expected, "bic"), 1e-8, &what);
            near(fit.model.aic(rows.n_rows(), mean), get(expected, "aic"), 1e-8, &what);
        }
    }
}
