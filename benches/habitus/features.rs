//! Feature rows a second: the default pack of eleven features over histories in memory.

use crate::shop::{settings, shop};
use divan::counter::ItemsCount;
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
