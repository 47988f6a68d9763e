//! A made-up shop: customers who buy at their own rates for two years, and sometimes stop.

use habitus_engine::domain::{
    AsOf, Currency, CustomerId, Event, EventKind, EventRules, History, Money, Seed, Zone,
};
use habitus_engine::features::purchases;
use habitus_engine::models::Engine;
use habitus_engine::models::gmm::{CovarianceType, Init};
use habitus_engine::models::selection::{Family, SegmentationParams};
use habitus_engine::training::{self, HeadSettings, Input, Population, Trained, TrainingSettings};
use habitus_engine::version::{ChurnIs, Eligibility};
use rand::Rng;
use std::collections::BTreeMap;

pub fn settings(family: Family, k: usize) -> TrainingSettings {
    TrainingSettings {
        rules: EventRules::plain(
            Zone::named("UTC").unwrap(),
            Currency { code: "EUR".into(), digits: 2 },
        ),
        eligibility: Eligibility { min_age_days: 0, lost_after_days: None },
        horizon_days: 90,
        seed: Seed(1),
        spec: purchases(),
        segmentation: SegmentationParams {
            family,
            engine: Engine::Habitus,
            covariance: CovarianceType::Full,
            init: Init::Kmeans,
            mini_batch: None,
            k_min: k,
            k_max: k,
            n_init: 1,
            max_iter: 300,
            tol: 1e-3,
            reg_covar: 1e-3,
            warm_start: false,
        },
        segment_features: Vec::new(),
        small_below: 0,
        noise_quantile: 0.01,
        segment_names: BTreeMap::new(),
        max_customers: 200_000,
        churn_is: ChurnIs::Silence,
        heads: HeadSettings::default(),
    }
}

/// `n` histories of about 16 orders each, and the end of their last possible day.
pub fn shop(n: usize) -> (Vec<History>, AsOf) {
    let zone = Zone::named("UTC").unwrap();
    let start = zone.day_of(zone.parse("2020-01-01", None).unwrap().at);
    let mut rng = Seed(5).rng();
    let histories = (0..n)
        .map(|customer| {
            let gap = rng.gen_range(5.0..60.0);
            let spend = rng.gen_range(500..20_000);
            let mut day: f64 = rng.gen_range(0.0..300.0);
            let mut events = Vec::new();
            while day < 730.0 && (events.is_empty() || !rng.gen_bool(0.03)) {
                let at = zone.start_of(start.plus(day as i32));
                events.push(Event {
                    amount: Some(Money(spend + rng.gen_range(0..1_000))),
                    quantity: None,
                    ..Event::bare(at, zone.day_of(at), EventKind::Purchase)
                });
                day += gap * rng.gen_range(0.3..1.7);
            }
            History::new(CustomerId::new(&format!("c{customer:07}")), events)
        })
        .collect();
    (histories, zone.end_of(start.plus(730)))
}

/// A version trained on a small shop.
pub fn trained(family: Family) -> Trained {
    let (histories, as_of) = shop(3_000);
    train(&histories, &settings(family, 5), as_of)
}

/// Trains on all of a log.
pub fn train(histories: &[History], settings: &TrainingSettings, as_of: AsOf) -> Trained {
    let population = Population::of(histories, as_of);
    let input = Input { histories, population: &population, as_of, predecessor: None };
    training::train(&input, Box::new(histories), settings, &|_| {}).unwrap()
}
