//! Answers: one at a time, and a batch on all threads.

use crate::shop::{settings, shop, train, trained};
use divan::counter::ItemsCount;
use habitus_engine::features::{Plan, lifetime_or_none};
use habitus_engine::models::selection::Family;
use habitus_engine::scoring::Scorer;
use habitus_engine::training::{ChurnBy, ValueBy};
use habitus_engine::version::Facts;
use rayon::prelude::*;

const FAMILIES: [Family; 2] = [Family::Kmeans, Family::GaussianMixture];

#[divan::bench(args = FAMILIES)]
fn one_prediction(bencher: divan::Bencher, family: Family) {
    let scorer = Scorer::new(trained(family).version).unwrap();
    let (histories, as_of) = shop(1_000);
    let mut next = histories.iter().cycle();
    bencher.bench_local(|| next.next().map(|history| scorer.predict(history, as_of)));
}

/// Value and churn of one customer by the blend, from features that are there.
#[divan::bench]
fn heads_after_features(bencher: divan::Bencher) {
    let (histories, as_of) = shop(3_000);
    let mut settings = settings(Family::Kmeans, 5);
    settings.heads.value = ValueBy::Blend;
    settings.heads.churn = ChurnBy::Blend;
    let version = train(&histories, &settings, as_of).version;
    assert!(version.forecast.blend.is_some());
    let plan = Plan::compile(&version.spec, &version.rules).unwrap();
    let known: Vec<_> = histories
        .iter()
        .map(|history| {
            let mut raw = vec![0.0; plan.names().len()];
            plan.evaluate(history, as_of, &mut raw);
            let mut encoded = vec![0.0; version.forecast.encoder.width()];
            version.forecast.encoder.encode(&raw, &mut encoded);
            (raw, encoded, lifetime_or_none(history, as_of, &version.rules.currency))
        })
        .collect();
    let mut next = known.iter().cycle();
    bencher.bench_local(|| {
        next.next().map(|(raw, encoded, lifetime)| {
            let facts = Facts { raw, encoded, lifetime, as_of: as_of.day };
            version.forecast.within(&facts, version.churn_is, 90)
        })
    });
}

#[divan::bench(args = FAMILIES)]
fn batch(bencher: divan::Bencher, family: Family) {
    let scorer = Scorer::new(trained(family).version).unwrap();
    let (histories, as_of) = shop(20_000);
    bencher.counter(ItemsCount::new(histories.len())).bench_local(|| {
        histories.par_iter().map(|history| scorer.predict(history, as_of)).collect::<Vec<_>>()
    });
}
