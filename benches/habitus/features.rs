//! Feature rows a second over histories in memory: the default pack of eleven features, and the
//! thirteen indicators of benches/peers on one thread.

use crate::shop::{settings, shop};
use divan::counter::ItemsCount;
use habitus::config::{Config, Overrides};
use habitus_engine::domain::{CustomerId, Event, History};
use habitus_engine::features::Plan;
use habitus_engine::models::selection::Family;

const CUSTOMERS: usize = 20_000;

#[divan::bench]
fn rows(bencher: divan::Bencher) {
    let settings = settings(Family::Kmeans, 5);
    let plan = Plan::compile(&settings.spec, &settings.rules).unwrap();
    let (histories, as_of) = shop(CUSTOMERS);
    bencher.counter(ItemsCount::new(CUSTOMERS)).bench_local(|| plan.table(&histories, as_of));
}

#[divan::bench]
fn events(bencher: divan::Bencher) {
    let settings = settings(Family::Kmeans, 5);
    let plan = Plan::compile(&settings.spec, &settings.rules).unwrap();
    let (histories, as_of) = shop(CUSTOMERS);
    let events: usize = histories.iter().map(|history| history.events().len()).sum();
    bencher.counter(ItemsCount::new(events)).bench_local(|| plan.table(&histories, as_of));
}

/// The thirteen columns of benches/peers/thirteen.toml, on one core.
#[divan::bench]
fn thirteen_columns_events_on_one_core(bencher: divan::Bencher) {
    let text = include_str!("../peers/thirteen.toml");
    let config = Config::from_text(text, &Overrides::default()).unwrap();
    let plan = Plan::compile(&config.training.spec, &config.training.rules).unwrap();
    let (mut histories, as_of) = shop(CUSTOMERS);
    for (index, history) in histories.iter_mut().enumerate() {
        let with_category = |(place, event): (usize, &Event)| Event {
            category: (index * 7 + place * 13).rem_euclid(40).to_string().as_str().into(),
            ..event.clone()
        };
        let events = history.events().iter().enumerate().map(with_category).collect();
        *history = History::new(CustomerId::new(history.customer().as_str()), events);
    }
    let events: usize = histories.iter().map(|history| history.events().len()).sum();
    let mut row = vec![0.0; plan.names().len()];
    bencher.counter(ItemsCount::new(events)).bench_local(|| {
        for history in &histories {
            plan.evaluate(history, as_of, &mut row);
            divan::black_box(&row);
        }
    });
}
