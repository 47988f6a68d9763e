//! Fits: both segment families on 20,000 scaled rows, and a whole training.

use crate::shop::{settings, shop, train};
use habitus_engine::domain::Seed;
use habitus_engine::features::{Encoder, Plan};
use habitus_engine::matrix::ScaledMatrix;
use habitus_engine::models::gmm::{CovarianceType, GmmParams, Init};
use habitus_engine::models::kmeans::KMeansParams;
use habitus_engine::models::selection::Family;
use habitus_engine::models::{Engine, Estimator};

fn rows() -> ScaledMatrix {
    let settings = settings(Family::Kmeans, 5);
    let plan = Plan::compile(&settings.spec, &settings.rules).unwrap();
    let (histories, as_of) = shop(20_000);
    let table = plan.table(&histories, as_of);
    Encoder::fit(&settings.spec, &[], &table.matrix).unwrap().scaled(&table.matrix)
}

#[divan::bench(sample_count = 10)]
fn kmeans_k8(bencher: divan::Bencher) {
    let rows = rows();
    let params = KMeansParams {
        n_clusters: 8,
        n_init: 1,
        max_iter: 300,
        tol: 1e-4,
        engine: Engine::Habitus,
        mini_batch: None,
    };
    bencher.bench_local(|| params.fit(&rows, Seed(1)).unwrap());
}

#[divan::bench(sample_count = 5)]
fn mixture_k8(bencher: divan::Bencher) {
    let rows = rows();
    let params = GmmParams {
        n_components: 8,
        covariance: CovarianceType::Full,
        init: Init::Kmeans,
        n_init: 1,
        max_iter: 300,
        tol: 1e-3,
        reg_covar: 1e-3,
        engine: Engine::Habitus,
    };
    bencher.bench_local(|| params.fit(&rows, Seed(1)).unwrap());
}

#[divan::bench(sample_count = 5)]
fn whole_training(bencher: divan::Bencher) {
    let (histories, as_of) = shop(20_000);
    let settings = settings(Family::Kmeans, 5);
    bencher.bench_local(|| train(&histories, &settings, as_of));
}
