//! The blend, through whole trainings: what it learns from, where it stays away, and its laws.

use crate::support::{as_of, rules, seasonal_shop, settings, shop, train};
use habitus_engine::domain::{
    AsOf, CustomerId, Event, EventKind, History, Money, Prediction, Reason, Seed,
};
use habitus_engine::features::FeatureSpec;
use habitus_engine::models::blend::{Blend, NAMES};
use habitus_engine::models::churn::ChurnModel;
use habitus_engine::models::selection::Family;
use habitus_engine::models::value::ValueModel;
use habitus_engine::scoring::{Scorer, ScorerError};
use habitus_engine::training::{ChurnBy, TrainingSettings, ValueBy, auc};
use habitus_engine::version::ModelVersion;
use rand::Rng;

/// With both heads by the blend, whatever else would do.
fn blended(log: &[History], mut settings: TrainingSettings, now: AsOf) -> ModelVersion {
    settings.heads.value = ValueBy::Blend;
    settings.heads.churn = ChurnBy::Blend;
    train(log, &settings, now).unwrap().version
}

fn blend(version: &ModelVersion) -> &Blend {
    &version.forecast.blend.as_ref().unwrap().model
}

fn predictions(version: ModelVersion, log: &[History], now: AsOf) -> Vec<Prediction> {
    let scorer = Scorer::new(version).unwrap();
    log.iter().map(|history| scorer.predict(history, now)).collect()
}

#[test]
fn answers_are_in_range_and_reasons_name_inputs() {
    let (log, now) = (shop(500, 21), as_of("2021-12-31"));
    let version = blended(&log, settings(Family::Kmeans, 3, 3), now);
    assert_eq!(version.forecast.value.interval.level, 0.9);
    for prediction in predictions(version, &log, now) {
        let value = prediction.value.given().unwrap();
        let purchases = value.expected_purchases.unwrap();
        assert!(0.0 <= value.ltv_low && value.ltv_low <= value.ltv && value.ltv <= value.ltv_high);
        assert!(0.0 < purchases && purchases <= f64::from(value.horizon_days));
        assert!(value.purchases_low.unwrap() <= purchases);
        assert!(purchases <= value.purchases_high.unwrap());
        let churn = prediction.churn.given().unwrap();
        assert!(0.0 < churn.probability && churn.probability < 1.0);
        let named = |reason: &Reason| NAMES.contains(&reason.feature.as_str());
        assert!(churn.reasons.len() == 3 && churn.reasons.iter().all(named), "{:?}", churn.reasons);
    }
}

#[test]
fn money_of_another_unit_moves_money_alone() {
    let (log, now) = (shop(400, 22), as_of("2021-12-31"));
    let inflated: Vec<History> = log
        .iter()
        .map(|history| {
            let dearer = |event: &Event| Event {
                amount: event.amount.map(|Money(amount)| Money(64 * amount)),
                ..event.clone()
            };
            History::new(history.customer().clone(), history.events().iter().map(dearer).collect())
        })
        .collect();
    let [a, b] = [&log, &inflated]
        .map(|log| predictions(blended(log, settings(Family::Kmeans, 3, 3), now), log, now));
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs().max(1e-9);
    for (a, b) in a.iter().zip(&b) {
        let (value, dearer) = (a.value.given().unwrap(), b.value.given().unwrap());
        assert!(near(64.0 * value.ltv, dearer.ltv), "{value:?} {dearer:?}");
        assert!(near(64.0 * value.ltv_high, dearer.ltv_high), "{value:?} {dearer:?}");
        assert!(near(value.expected_purchases.unwrap(), dearer.expected_purchases.unwrap()));
        let [a, b] = [a, b].map(|one| one.churn.given().unwrap().probability);
        assert!(near(a, b), "{a} {b}");
    }
}

#[test]
fn few_customers_are_left_to_the_models_of_purchases() {
    let (log, now) = (shop(250, 23), as_of("2021-12-31"));
    let version = train(&log, &settings(Family::Kmeans, 3, 3), now).unwrap().version;
    assert!(version.forecast.blend.is_none());
    assert_ne!(version.forecast.churn.model, ChurnModel::Blend);
    assert_ne!(version.forecast.value.model, ValueModel::Blend);
    let only = blended(&log, settings(Family::Kmeans, 3, 3), now);
    let reason = only.forecast.churn.replaced.unwrap().reason;
    assert!(reason.contains("300 are needed"), "{reason}");
}

#[test]
fn a_log_with_seasons_goes_to_the_model_that_knows_them() {
    let (log, now) = (seasonal_shop(3_000, 0.9), as_of("2022-12-30"));
    let version = train(&log, &settings(Family::Kmeans, 3, 3), now).unwrap().version;
    assert!(version.forecast.purchases.as_ref().is_some_and(|head| head.season.is_some()));
    assert_eq!(version.forecast.churn.model, ChurnModel::Purchases);
}

/// Customers who are shown something before they buy it: visits tell what purchases do not.
fn visited(n: usize) -> Vec<History> {
    let zone = rules().zone;
    let start = as_of("2020-01-01").day;
    let mut rng = Seed(24).rng();
    (0..n)
        .map(|customer| {
            let event = |day: i32, kind: EventKind, amount: Option<Money>| Event {
                amount,
                ..Event::bare(zone.start_of(start.plus(day)), start.plus(day), kind)
            };
            let mut events =
                vec![event(customer as i32 % 60, EventKind::Purchase, Some(Money(900)))];
            // Who visits in a month buys within the next three, and nobody else does.
            for month in 2..24 {
                if rng.gen_bool(0.15) {
                    let day = 30 * month + rng.gen_range(0..30);
                    events.push(event(day, EventKind::Visit, None));
                    let later = day + rng.gen_range(20..80);
                    events.push(event(later, EventKind::Purchase, Some(Money(1_500))));
                }
            }
            let events = events.into_iter().filter(|event| event.day <= start.plus(729)).collect();
            History::new(CustomerId::new(&format!("v{customer:04}")), events)
        })
        .collect()
}

#[test]
fn features_that_are_not_about_purchases_are_learned_from() {
    let log = visited(2_000);
    let (then, now) = (as_of("2021-09-30"), as_of("2021-12-29"));
    let plain = settings(Family::Kmeans, 3, 3);
    let mut seen = plain.clone();
    let visits: FeatureSpec = serde_json::from_str(
        r#"[{"name": "days_since_visit", "kinds": ["visit"], "aggregate": "days_since_last"}]"#,
    )
    .unwrap();
    seen.spec.0.extend(visits.0);
    let bought = |history: &History| {
        history.events().iter().any(|event| {
            event.kind == EventKind::Purchase && event.day > then.day && event.day <= now.day
        })
    };
    let churned: Vec<bool> = log.iter().map(|history| !bought(history)).collect();
    let known = |settings: TrainingSettings, n_extras: usize| {
        let version = blended(&log, settings, then);
        assert_eq!(blend(&version).extras.len(), n_extras);
        let told = predictions(version, &log, then);
        let told: Vec<f64> =
            told.iter().map(|one| one.churn.given().unwrap().probability).collect();
        auc(&churned, &told).unwrap()
    };
    let (without, with) = (known(plain, 0), known(seen, 1));
    assert!(with > without + 0.05, "{with} {without}");
}

#[test]
fn a_blend_that_does_not_fit_its_version_is_refused() {
    let (log, now) = (shop(400, 25), as_of("2021-12-31"));
    let version = blended(&log, settings(Family::Kmeans, 3, 3), now);
    for spoil in [
        |blend: &mut Blend| blend.scales.truncate(1),
        |blend: &mut Blend| blend.extras.push(10_000),
        |blend: &mut Blend| blend.silence.coefficients[0] = f64::NAN,
        |blend: &mut Blend| blend.spend_level = 0.0,
        |blend: &mut Blend| blend.interval_level = 1.0,
    ] {
        let mut spoiled = version.clone();
        spoil(&mut spoiled.forecast.blend.as_mut().unwrap().model);
        let error = Scorer::new(spoiled).unwrap_err();
        assert_eq!(error, ScorerError::Mismatch { part: "blend", with: "definition" });
    }
    let mut lost = version;
    lost.forecast.blend = None;
    assert!(Scorer::new(lost).is_err());
}
