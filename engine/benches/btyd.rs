//! Models of purchases of the customers in a .npy file, one JSON object a line: the habitus side of
//! `benches/peers/btyd.py`, which says what it is given and answers, and compares with others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that cannot go on should stop loudly"
)]

use habitus_engine::domain::{Draws, Seed};
use habitus_engine::models::Estimator;
use habitus_engine::models::btyd::{
    Cohort, PurchaseFamily, PurchaseModel, PurchaseParams, Purchases,
};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::hint::black_box;
use std::time::Instant;

/// Customers asked about one by one.
const SINGLES: usize = 20_000;
/// Customers for whom purchases are drawn.
const DRAWN: usize = 2_000;

fn main() {
    // cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // Customers who were drawn here: a quick look without Python.
        ["simulated", n, model, horizon] => tell(&simulated(number(n)), model, horizon),
        [file, model, horizon] => tell(&npy(file), model, horizon),
        // A run of all benches passes by.
        [] => println!("benches/peers/btyd.py says what this is given"),
        _ => panic!("no such command: {words:?}"),
    }
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}

/// x, t_x and T of customers, a matrix of int32 in the order of C.
fn npy(path: &str) -> Vec<Purchases> {
    let bytes = std::fs::read(path).unwrap();
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.contains("'<i4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    assert_eq!(shape.split(',').nth(1).unwrap().trim(), "3", "{header}");
    let value = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    bytes[10 + length..]
        .chunks_exact(12)
        .map(|row| Purchases {
            frequency: value(&row[..4]),
            recency: f64::from(value(&row[4..8])),
            age: f64::from(value(&row[8..])),
            // Only models that see more than these three need it.
            ln_gaps: 0.0,
        })
        .collect()
}

/// Customers of two years, by BG/NBD with the parameters of CDNOW; days are all that is known.
fn simulated(n: usize) -> Vec<Purchases> {
    let mut draws = Draws::new(Seed(1));
    let mut customer = || {
        let age = f64::from(1 + draws.below(728));
        let rate = (draws.gamma(0.243) / 30.9).max(1e-12);
        let leaves = draws.beta(0.793, 2.426);
        let mut c = Purchases { frequency: 0, recency: 0.0, age, ln_gaps: 0.0 };
        let mut now = 0.0;
        loop {
            now += draws.exponential() / rate;
            if now >= age + 1.0 {
                return c;
            }
            if now.floor() > c.recency {
                c.frequency += 1;
                c.recency = now.floor();
            }
            if draws.chance(leaves) {
                return c;
            }
        }
    };
    (0..n).map(|_| customer()).collect()
}

/// What was done, and the seconds it took.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64())
}

/// Bytes that work adds at its height to those that the process has; Linux alone tells.
fn added_by<T>(work: impl FnOnce() -> T) -> (T, Option<f64>) {
    // From here on the peak is counted anew.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak();
    let done = work();
    (done, peak().zip(before).map(|(after, before)| after - before))
}

/// The most memory that the process has had, in bytes.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

/// Fits, asks, and tells.
fn tell(customers: &[Purchases], model: &str, horizon: &str) {
    let family = match model {
        "bg" => PurchaseFamily::BgNbd,
        "mbg" => PurchaseFamily::MbgNbd,
        "pareto" => PurchaseFamily::ParetoNbd,
        "nbd" => PurchaseFamily::Nbd,
        other => panic!("no such model: {other}"),
    };
    let t = number(horizon) as f64;
    let fit = || {
        let cohort = Cohort::new(customers).unwrap();
        let fit = PurchaseParams { family }.fit(&cohort, Seed(1)).unwrap();
        (cohort.n_rows(), fit)
    };
    let ((n_rows, fit), fit_s) = timed(fit);
    assert_eq!(fit.model.replaced, None);
    let (_, cohort_s) = timed(|| black_box(Cohort::new(customers).unwrap()));
    let evidence = fit.model.evidence;
    let parameters: Map<String, Value> = evidence
        .parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.value.into()))
        .collect();
    let model = fit.model.model;
    let ((expected_total, expect_s), added) =
        added_by(|| timed(|| expected_total(&model, customers, t)));
    let line = json!({
        "n_customers": customers.len(), "n_rows": n_rows,
        "cohort_s": cohort_s, "fit_s": fit_s, "n_iter": fit.diagnostics.n_iter,
        "parameters": parameters, "ln_likelihood": evidence.log_likelihood,
        "expect_s": expect_s, "expect_peak_bytes": added, "expected_total": expected_total,
        "answers_s": answers_s(&model, customers, t),
        "answer_ns": answer_ns(&model, customers, t),
        "draws_200_us": draws_200_us(&model, customers, t),
    });
    println!("{line}");
}

/// Expected purchases of every customer, each kept, and their sum.
fn expected_total(model: &PurchaseModel, customers: &[Purchases], t: f64) -> f64 {
    let expect = |c: &Purchases| model.expected_purchases(c, t);
    let expected: Vec<f64> = customers.par_iter().map(expect).collect();
    expected.iter().sum()
}

/// Seconds for P(alive), P(no purchase) and expected purchases of every customer, on two threads.
fn answers_s(model: &PurchaseModel, customers: &[Purchases], t: f64) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let [mut alive, mut none, mut expected] = [(); 3].map(|()| vec![0.0; customers.len()]);
    let (_, seconds) = timed(|| {
        pool.install(|| {
            let places = alive.par_iter_mut().zip(&mut none).zip(&mut expected);
            customers.par_iter().zip(places).for_each(|(c, ((alive, none), expected))| {
                let prospects = model.prospects(c, t);
                *alive = prospects.p_alive;
                *none = prospects.p_no_purchase;
                *expected = prospects.expected_purchases;
            });
        });
    });
    black_box((alive, none, expected));
    seconds
}

/// Customers from all of them, in their order.
fn some(customers: &[Purchases], n: usize) -> Vec<Purchases> {
    customers.iter().step_by(customers.len().div_ceil(n).max(1)).copied().collect()
}

/// Nanoseconds for the same three answers about one customer.
fn answer_ns(model: &PurchaseModel, customers: &[Purchases], t: f64) -> f64 {
    let some = some(customers, SINGLES);
    let ask = |c: &Purchases| {
        black_box(model.prospects(c, t));
    };
    some.iter().for_each(ask);
    let (_, seconds) = timed(|| some.iter().for_each(ask));
    seconds * 1e9 / some.len() as f64
}

/// Microseconds for 200 draws of one customer's purchases.
fn draws_200_us(model: &PurchaseModel, customers: &[Purchases], t: f64) -> f64 {
    let some = some(customers, DRAWN);
    let mut draws = Draws::new(Seed(1));
    let (_, seconds) = timed(|| {
        for c in &some {
            let mut counts = [0; 200];
            model.draw_all(c, t, &mut draws, &mut counts);
            let sum: u64 = counts.into_iter().map(u64::from).sum();
            black_box(sum);
        }
    });
    seconds * 1e6 / some.len() as f64
}
