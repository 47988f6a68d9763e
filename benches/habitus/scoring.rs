//! Answers: one at a time, and a batch on all threads.

use crate::shop::{shop, trained};
use divan::counter::ItemsCount;
use habitus_engine::models::selection::Family;
use habitus_engine::scoring::Scorer;
use rayon::prelude::*;

const FAMILIES: [Family; 2] = [Family::Kmeans, Family::GaussianMixture];

#[divan::bench(args = FAMILIES)]
fn one_prediction(bencher: divan::Bencher, family: Family) {
    let scorer = Scorer::new(trained(family).version).unwrap();
    let (histories, as_of) = shop(1_000);
    let mut next = histories.iter().cycle();
    bencher.bench_local(|| next.next().map(|history| scorer.predict(history, as_of)));
}

#[divan::bench(args = FAMILIES)]
fn batch(bencher: divan::Bencher, family: Family) {
    let scorer = Scorer::new(trained(family).version).unwrap();
    let (histories, as_of) = shop(20_000);
    bencher.counter(ItemsCount::new(histories.len())).bench_local(|| {
        histories.par_iter().map(|history| scorer.predict(history, as_of)).collect::<Vec<_>>()
    });
}
