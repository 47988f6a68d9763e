//! k-means and mixtures on a matrix in a .npy file, one JSON object a line: the habitus side of
//! `benches/peers/clustering.py`, which says what its commands are and compares with others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that cannot go on should stop loudly"
)]

use habitus_engine::domain::Seed;
use habitus_engine::matrix::ScaledMatrix;
use habitus_engine::models::gmm::{CovarianceType, Covariances, GmmParams, Init, Parameters};
use habitus_engine::models::kmeans::{KMeans, KMeansParams};
use habitus_engine::models::{Engine, Estimator, Segmenter};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// Rows asked about one by one.
const SINGLES: usize = 20_000;

fn main() {
    // cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["kmeans", file, k, iterations, rounds] => {
            let rows = npy(file);
            (0..number(rounds)).for_each(|_| kmeans(&rows, number(k), number(iterations)));
        }
        ["kmeans-to", file, k, inertia] => kmeans_to(&npy(file), number(k), inertia),
        ["seed", file, k] => seed(&npy(file), number(k)),
        ["gmm", file, k, covariance, iterations] => {
            gmm(&npy(file), number(k), covariance, number(iterations));
        }
        ["predict", file, k] => predict(&npy(file), number(k)),
        ["predict-one", file, k] => predict_one(&npy(file), number(k)),
        ["machine"] => machine(),
        ["restarts", file, k, n_init] => restarts(&npy(file), number(k), number(n_init)),
        // A run of all benches passes by.
        [] => println!("benches/peers/clustering.py says which commands there are"),
        _ => panic!("no such command: {words:?}"),
    }
}

/// A matrix of float32 in the order of C.
fn npy(path: &str) -> ScaledMatrix {
    let bytes = std::fs::read(path).unwrap();
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let width = number(shape.split(',').nth(1).unwrap().trim());
    let values = bytes[10 + length..].chunks_exact(4);
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    ScaledMatrix::new(width, values.map(value).collect())
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}

fn tell(value: Value) {
    println!("{value}");
}

/// What was done, and the seconds it took.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64())
}

/// Bytes that work adds at its height to those that the process has, a row; Linux alone tells.
fn added_by<T>(n_rows: usize, work: impl FnOnce() -> T) -> (T, Option<f64>) {
    // From here on the peak is counted anew.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak();
    let done = work();
    (done, peak().zip(before).map(|(after, before)| (after - before) / n_rows as f64))
}

/// The most memory that the process has had, in bytes.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

fn params(k: usize, max_iter: usize, tol: f64) -> KMeansParams {
    KMeansParams {
        n_clusters: k,
        n_init: 1,
        max_iter: max_iter as u32,
        tol,
        engine: Engine::Habitus,
        mini_batch: None,
    }
}

/// The rows that everybody starts from.
fn start(rows: &ScaledMatrix, k: usize) -> Vec<Vec<f64>> {
    let row = |c: usize| rows.row(c * 7919 % rows.n_rows());
    (0..k).map(|c| row(c).iter().map(|&value| f64::from(value)).collect()).collect()
}

fn kmeans(rows: &ScaledMatrix, k: usize, iterations: usize) {
    let params = params(k, iterations, 0.0);
    let fit = || timed(|| params.fit_at(rows, start(rows, k)).unwrap());
    let ((fit, seconds), added) = added_by(rows.n_rows(), fit);
    tell(json!({
        "seconds": seconds, "inertia": fit.diagnostics.objective,
        "n_iter": fit.diagnostics.n_iter, "peak_bytes_per_row": added,
    }));
}

/// The time to an inertia: of a fit that stops at the first iteration that reaches it.
fn kmeans_to(rows: &ScaledMatrix, k: usize, inertia: &str) {
    let target: f64 = inertia.parse().unwrap();
    let reached = |max_iter| {
        let fit = params(k, max_iter, 0.0).fit_at(rows, start(rows, k)).unwrap();
        fit.diagnostics.objective <= target
    };
    let (mut below, mut enough) = (0, 1);
    while !reached(enough) && enough < 4_096 {
        (below, enough) = (enough, enough * 2);
    }
    while enough - below > 1 {
        let middle = below.midpoint(enough);
        if reached(middle) { enough = middle } else { below = middle }
    }
    let params = params(k, enough, 0.0);
    let (fit, seconds) = timed(|| params.fit_at(rows, start(rows, k)).unwrap());
    tell(json!({
        "seconds": seconds, "inertia": fit.diagnostics.objective,
        "n_iter": fit.diagnostics.n_iter,
    }));
}

/// A start alone, and the inertia of its centroids.
fn seed(rows: &ScaledMatrix, k: usize) {
    let (started, seconds) = timed(|| params(k, 1, 0.0).fit(rows, Seed(1)).unwrap());
    let (_, one) = timed(|| params(k, 1, 0.0).fit_at(rows, start(rows, k)).unwrap());
    tell(json!({
        "seconds": (seconds - one).max(0.0), "inertia": started.diagnostics.objective, "n_iter": 1,
    }));
}

fn gmm(rows: &ScaledMatrix, k: usize, covariance: &str, iterations: usize) {
    let d = rows.n_features();
    let identity = |i: usize| f64::from(u8::from(i.is_multiple_of(d + 1)));
    let full = vec![(0..d * d).map(identity).collect::<Vec<f64>>(); k];
    let (kind, covariances) = match covariance {
        "full" => (CovarianceType::Full, Covariances::Full(full)),
        "tied" => (CovarianceType::Tied, Covariances::Tied(full[0].clone())),
        "diag" => (CovarianceType::Diag, Covariances::Diag(vec![vec![1.0; d]; k])),
        "spherical" => (CovarianceType::Spherical, Covariances::Spherical(vec![1.0; k])),
        other => panic!("no such covariance: {other}"),
    };
    let params = |max_iter| GmmParams { covariance: kind, ..mixture(k, max_iter) };
    let from = || Parameters {
        weights: vec![1.0 / k as f64; k],
        means: start(rows, k),
        covariances: covariances.clone(),
    };
    let fit = || timed(|| params(iterations).fit_at(rows, from()).unwrap());
    let ((_, seconds), added) = added_by(rows.n_rows(), fit);
    // The bound of the last expectation is that of the parameters of one iteration less.
    let bound = params(iterations - 1).fit_at(rows, from()).unwrap().diagnostics.objective;
    tell(json!({
        "seconds": seconds, "seconds_per_iteration": seconds / iterations as f64,
        "lower_bound": bound, "n_iter": iterations, "peak_bytes_per_row": added,
    }));
}

fn mixture(k: usize, max_iter: usize) -> GmmParams {
    GmmParams {
        n_components: k,
        covariance: CovarianceType::Full,
        init: Init::Kmeans,
        n_init: 1,
        max_iter: max_iter as u32,
        tol: 0.0,
        reg_covar: 1e-6,
        engine: Engine::Habitus,
    }
}

/// All rows at once, on one thread.
fn predict(rows: &ScaledMatrix, k: usize) {
    let model = KMeans::new(start(rows, k)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (_, seconds) = pool.install(|| {
        model.nearest_all(rows.values());
        timed(|| black_box(model.nearest_all(rows.values())))
    });
    let per_row = seconds * 1e9 / rows.n_rows() as f64;
    tell(json!({ "seconds": seconds, "ns_per_row": per_row }));
}

fn predict_one(rows: &ScaledMatrix, k: usize) {
    let k_means = KMeans::new(start(rows, k)).unwrap();
    let few = ScaledMatrix::new(
        rows.n_features(),
        rows.values()[..rows.values().len().min(SINGLES * rows.n_features())].to_vec(),
    );
    let mixture = mixture(k, 2).fit(&few, Seed(1)).unwrap().model;
    let each = |name: &str, ask: &dyn Fn(&[f32])| {
        let (_, seconds) = timed(|| few.rows().for_each(ask));
        let per_row = seconds * 1e9 / few.n_rows() as f64;
        tell(json!({ "model": name, "seconds": seconds, "ns_per_row": per_row }));
    };
    each("kmeans", &|row| {
        black_box(k_means.assign(row));
    });
    each("gmm", &|row| {
        black_box(mixture.assign(row));
    });
}

fn restarts(rows: &ScaledMatrix, k: usize, n_init: usize) {
    let params = KMeansParams { n_init: n_init as u32, ..params(k, 300, 1e-4) };
    let (fit, seconds) = timed(|| params.fit(rows, Seed(1)).unwrap());
    tell(json!({
        "seconds": seconds, "inertia": fit.diagnostics.objective,
        "n_iter": fit.diagnostics.n_iter,
    }));
}

/// What one core can do: fused multiply-adds in `f32` and reading memory, by AVX-512 where it is.
fn machine() {
    const STEPS: usize = 20_000_000;
    let values = vec![1f32; 48_000_000];
    let (mut peak, mut read) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code, reason = "the instruction set is asked for first")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: AVX-512 is present.
            peak = peak.min(timed(|| black_box(unsafe { multiply_and_add(STEPS) })).1);
        }
        let sum = || {
            let mut sums = [0f32; 64];
            for values in values.chunks_exact(64) {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            black_box(sums)
        };
        read = read.min(timed(sum).1);
    }
    tell(json!({
        "gflops_one_core": (STEPS * 8 * 16 * 2) as f64 / peak / 1e9,
        "gb_per_s_one_core": (values.len() * 4) as f64 / read / 1e9,
    }));
}

/// Eight chains of sixteen lanes, as many as two steps a cycle of four cycles each keep busy.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_and_add(steps: usize) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let factor = _mm512_set1_ps(black_box(0.999));
    let [mut a, mut b, mut c, mut d] = [_mm512_set1_ps(1.0); 4];
    let [mut e, mut f, mut g, mut h] = [_mm512_set1_ps(1.0); 4];
    for _ in 0..steps {
        a = _mm512_fmadd_ps(a, factor, factor);
        b = _mm512_fmadd_ps(b, factor, factor);
        c = _mm512_fmadd_ps(c, factor, factor);
        d = _mm512_fmadd_ps(d, factor, factor);
        e = _mm512_fmadd_ps(e, factor, factor);
        f = _mm512_fmadd_ps(f, factor, factor);
        g = _mm512_fmadd_ps(g, factor, factor);
        h = _mm512_fmadd_ps(h, factor, factor);
    }
    let mut sum = 0.0;
    for chain in [a, b, c, d, e, f, g, h] {
        sum += _mm512_reduce_add_ps(chain);
    }
    sum
}
