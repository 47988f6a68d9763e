//! Made-up logs and matrices that several tests share.

use habitus_engine::domain::{
    AsOf, AttributeValue, Attributes, Currency, CustomerId, Event, EventKind, EventRules, History,
    Money, RawEvent, Seed, Timestamp, Zone,
};
use habitus_engine::features::purchases;
use habitus_engine::matrix::ScaledMatrix;
use habitus_engine::models::Engine;
use habitus_engine::models::gmm::{CovarianceType, Init};
use habitus_engine::models::selection::{Family, SegmentationParams};
use habitus_engine::simulation::{Shop, SimulatedEvent, customer};
use habitus_engine::training::{
    self, HeadSettings, Input, Population, Predecessor, TrainError, Trained, TrainingSettings,
};
use habitus_engine::version::{ChurnIs, Eligibility};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub fn rules() -> EventRules {
    let currency = Currency { code: "USD".into(), digits: 2 };
    EventRules::plain(Zone::named("UTC").unwrap(), currency)
}

pub fn as_of(date: &str) -> AsOf {
    rules().zone.parse_as_of(date).unwrap()
}

/// A purchase, through the same rules as a row of a file.
pub fn purchase(time: &str, amount: &str) -> Event {
    let [customer, time, amount] = ["x", time, amount].map(|text| Some(text.into()));
    let raw = RawEvent { customer, time, amount, ..RawEvent::default() };
    rules().read(&raw, Timestamp(i64::MAX)).unwrap().event
}

/// Trains on all of a log, without an incumbent.
pub fn train(
    log: &[History],
    settings: &TrainingSettings,
    as_of: AsOf,
) -> Result<Trained, TrainError> {
    train_after(log, settings, as_of, None)
}

/// Trains on all of a log, after an incumbent.
pub fn train_after(
    log: &[History],
    settings: &TrainingSettings,
    as_of: AsOf,
    predecessor: Option<Predecessor<'_>>,
) -> Result<Trained, TrainError> {
    let population = Population::of(log, as_of);
    let input = Input { histories: log, population: &population, as_of, predecessor };
    training::train(&input, Box::new(log), settings, &|_| {})
}

/// `n` customers who buy at their own rates for up to two years from 2020-01-01, and sometimes stop.
pub fn shop(n: usize, seed: u64) -> Vec<History> {
    let zone = rules().zone;
    let start = zone.day_of(zone.parse("2020-01-01", None).unwrap().at);
    let mut rng = Seed(seed).derive("shop", 0).rng();
    (0..n)
        .map(|customer| {
            let gap = rng.gen_range(3.0..90.0);
            let spend = rng.gen_range(500..20_000);
            let stops = rng.gen_range(0.01..0.2);
            let mut day: f64 = rng.gen_range(0.0..120.0);
            let mut events = Vec::new();
            while day < 730.0 {
                let at = zone.start_of(start.plus(day as i32));
                events.push(Event {
                    amount: Some(Money(spend + rng.gen_range(0..1_000))),
                    quantity: Some(1_000),
                    ..Event::bare(at, zone.day_of(at), EventKind::Purchase)
                });
                if rng.gen_bool(stops) {
                    break;
                }
                day += gap * rng.gen_range(0.3..1.7);
            }
            History::new(CustomerId::new(&format!("c{customer:05}")), events)
        })
        .collect()
}

/// The purchases of `n` simulated customers over three years from 2020-01-01, more by this share in
/// the middle of December and as much fewer half a year later.
pub fn seasonal_shop(n: u64, amplitude: f64) -> Vec<History> {
    let shop = Shop { days: 1_095, season_amplitude: amplitude, ..Shop::default() };
    simulated(n, &Shop { campaign_uplift: 0.0, a: 0.6, ..shop.only_purchases() })
}

/// Two years of two channels: customers of the web buy three times as often as those of the store.
pub fn two_channels(n: u64) -> Vec<History> {
    let even = Shop { season_amplitude: 0.0, campaign_uplift: 0.0, a: 0.6, ..Shop::default() };
    let names: Arc<[String]> = Arc::from(["channel".to_owned()]);
    let of = |channel: &str, alpha: f64| -> Vec<History> {
        let category = AttributeValue::Category(channel.into());
        let attributes = Attributes::new(Arc::clone(&names), vec![Some(category)]);
        let customers = simulated(n / 2, &Shop { alpha, ..even.clone().only_purchases() });
        let named = |history: &History| {
            let id = CustomerId::new(&format!("{channel} {}", history.customer().as_str()));
            History::new(id, history.events().to_vec()).with_attributes(Some(attributes.clone()))
        };
        customers.iter().map(named).collect()
    };
    [of("store", 90.0), of("web", 30.0)].concat()
}

/// The purchases of `n` simulated customers.
fn simulated(n: u64, shop: &Shop) -> Vec<History> {
    let zone = rules().zone;
    let event = |event: &SimulatedEvent| Event {
        amount: event.amount,
        ..Event::bare(event.at, zone.day_of(event.at), event.kind)
    };
    let history = |index: u64| {
        let life = customer(shop, Seed(11), index);
        let purchases = life.events.iter().filter(|event| event.kind == EventKind::Purchase);
        History::new(CustomerId::new(&format!("c{index:05}")), purchases.map(event).collect())
    };
    (0..n).map(history).collect()
}

pub fn settings(family: Family, k_min: usize, k_max: usize) -> TrainingSettings {
    TrainingSettings {
        rules: rules(),
        eligibility: Eligibility { min_age_days: 0, lost_after_days: None },
        horizon_days: 60,
        seed: Seed(7),
        spec: purchases(),
        segmentation: SegmentationParams {
            family,
            engine: Engine::Habitus,
            covariance: CovarianceType::Full,
            init: Init::Kmeans,
            mini_batch: None,
            k_min,
            k_max,
            n_init: 2,
            max_iter: 200,
            tol: 1e-3,
            reg_covar: 1e-3,
            warm_start: false,
        },
        segment_features: Vec::new(),
        small_below: 20,
        noise_quantile: 0.01,
        segment_names: BTreeMap::new(),
        max_customers: 200_000,
        churn_is: ChurnIs::Silence,
        heads: HeadSettings::default(),
    }
}

/// Rows around the first `k` corners of a grid with three far corners a dimension.
pub fn blobs(n: usize, d: usize, k: usize, seed: u64) -> ScaledMatrix {
    let mut rng = Seed(seed).derive("blobs", 0).rng();
    let mut around =
        |centre: f32| centre + rng.gen_range(-1.0f32..1.0) + rng.gen_range(-1.0f32..1.0);
    let values = (0..n)
        .flat_map(|row| (0..d as u32).map(move |axis| (row % k) / 3usize.pow(axis) % 3))
        .map(|corner| around(10.0 * corner as f32))
        .collect();
    ScaledMatrix::new(d, values)
}

/// A matrix of the golden file of k-means with restarts, whose README says how it is made.
pub fn generated(seed: u64, n: usize, d: usize, clusters: usize, spread: u64) -> ScaledMatrix {
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) % below
    };
    let centres: Vec<u64> = (0..clusters * d).map(|_| draw(2_048)).collect();
    let mut values = Vec::new();
    for _ in 0..n {
        let (one, other) = (draw(clusters as u64), draw(clusters as u64));
        for centre in &centres[one.min(other) as usize * d..][..d] {
            let sum: u64 = (0..4).map(|_| draw(spread)).sum();
            let coordinate = (centre + sum) as f32 - 2.0 * (spread as f32 - 1.0);
            values.push(coordinate / 256.0);
        }
    }
    ScaledMatrix::new(d, values)
}

/// For each of their points the place of ours that is nearest to it; none is so twice.
pub fn matched(theirs: &[Vec<f64>], ours: &[Vec<f64>]) -> Vec<usize> {
    let square =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let places: Vec<usize> = theirs
        .iter()
        .map(|point| {
            let order = |a: &usize, b: &usize| {
                square(point, &ours[*a]).total_cmp(&square(point, &ours[*b]))
            };
            (0..ours.len()).min_by(order).unwrap()
        })
        .collect();
    let distinct: BTreeSet<usize> = places.iter().copied().collect();
    assert!(distinct.len() == ours.len(), "{theirs:?} are not {ours:?}");
    places
}
