//! Whole trainings on made-up shops.

use crate::support::{as_of, purchase, rules, seasonal_shop, settings, shop, train, two_channels};
use habitus_engine::domain::{Abstention, Answer, CustomerId, History, Lifetime};
use habitus_engine::models::btyd::PurchaseFamily;
use habitus_engine::models::churn::ChurnModel;
use habitus_engine::models::selection::Family;
use habitus_engine::models::value::ValueModel;
use habitus_engine::scoring::{Scorer, ScorerError};
use habitus_engine::training::{
    ChurnBy, ClockError, Held, TrainError, Trained, TrainingSettings, ValueBy,
};
use habitus_engine::version::{ChurnIs, Clusters, Facts, Forecast, ModelVersion, SegmentBy};

fn trained(family: Family) -> Trained {
    train(&shop(600, 1), &settings(family, 2, 4), as_of("2021-12-31")).unwrap()
}

/// With heads by regression, whatever would do better.
fn regressed(mut settings: TrainingSettings, log: &[History]) -> Trained {
    settings.heads.value = ValueBy::Hurdle;
    settings.heads.churn = ChurnBy::Logistic;
    train(log, &settings, as_of("2021-12-31")).unwrap()
}

fn spoiled_clusters(version: &mut ModelVersion) -> &mut Clusters {
    match &mut version.segment.by {
        SegmentBy::Clusters(clusters) => clusters,
        SegmentBy::Tiers => panic!("there are clusters"),
    }
}

fn json(version: &ModelVersion) -> String {
    serde_json::to_string(version).unwrap()
}

#[test]
fn the_same_log_gives_the_same_bits_on_one_and_on_four_threads() {
    let in_pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            [Family::Kmeans, Family::GaussianMixture].map(|family| json(&trained(family).version))
        })
    };
    assert_eq!(in_pool(1), in_pool(4));
}

#[test]
fn events_after_the_as_of_change_nothing() {
    let cut = as_of("2021-06-30");
    let whole = shop(400, 2);
    let before: Vec<History> = whole
        .iter()
        .map(|history| History::new(history.customer().clone(), history.until(cut).into_owned()))
        .collect();
    let settings = settings(Family::Kmeans, 3, 3);
    let [a, b] = [whole, before].map(|log| train(&log, &settings, cut).unwrap());
    assert_eq!(json(&a.version), json(&b.version));
    assert_eq!(a.evaluation, b.evaluation);
    assert_eq!(a.population, b.population);
}

#[test]
fn another_seed_or_another_event_mints_other_ids() {
    let log = shop(400, 2);
    let base = settings(Family::Kmeans, 3, 3);
    let mut reseeded = base.clone();
    reseeded.seed = habitus_engine::domain::Seed(8);
    let ids = |log: &[History], settings| {
        let trained = train(log, settings, as_of("2021-12-31")).unwrap();
        trained.version.segment.catalogue.into_iter().map(|s| s.id).collect::<Vec<_>>()
    };
    let first = ids(&log, &base);
    assert_eq!(first, ids(&log, &base));
    assert!(ids(&log, &reseeded).iter().all(|id| !first.contains(id)));
    let mut more = log.clone();
    more.push(History::new(CustomerId::new("z"), vec![purchase("2020-05-05", "3.00")]));
    assert!(ids(&more, &base).iter().all(|id| !first.contains(id)));
}

#[test]
fn a_version_survives_json_and_answers_the_same() {
    for family in [Family::Kmeans, Family::GaussianMixture] {
        let version = trained(family).version;
        let loaded: ModelVersion = serde_json::from_str(&json(&version)).unwrap();
        assert_eq!(loaded, version);
        let (a, b) = (Scorer::new(version).unwrap(), Scorer::new(loaded).unwrap());
        for history in shop(50, 3) {
            let now = as_of("2021-12-31");
            assert_eq!(a.predict(&history, now), b.predict(&history, now));
        }
    }
}

#[test]
fn the_heads_beat_nothing_by_luck_and_say_who_serves() {
    let trained = trained(Family::Kmeans);
    let evaluation = &trained.evaluation;
    for (trials, chosen) in [
        (
            evaluation.churn.iter().map(|t| (t.family.as_str(), t.chosen)).collect::<Vec<_>>(),
            "churn",
        ),
        (evaluation.value.iter().map(|t| (t.family.as_str(), t.chosen)).collect(), "value"),
    ] {
        assert_eq!(trials.iter().filter(|(_, chosen)| *chosen).count(), 1, "{chosen}: {trials:?}");
    }
    let brier = |family: &str| {
        let trial = evaluation.churn.iter().find(|trial| trial.family == family).unwrap();
        trial.calibration.as_ref().unwrap().brier
    };
    let served = trained.version.forecast.churn.model.family();
    // The blend serves where it can be learned and the baseline is not better by more than chance.
    assert_eq!(served, "blend");
    assert!(trained.version.forecast.churn.replaced.is_none());
    assert!(brier("blend") < brier("recency") + 0.01, "it did not learn from this window");
    let holdout = evaluation.churn[0].holdout.as_ref().unwrap();
    assert!(holdout.auc.unwrap() > 0.7, "habits repeat in this shop: {holdout:?}");
}

#[test]
fn a_mixture_flags_whom_it_never_saw_the_like_of() {
    let (log, now) = (shop(600, 1), as_of("2021-12-31"));
    let mut settings = settings(Family::GaussianMixture, 2, 4);
    settings.noise_quantile = 0.05;
    let flags = |scorer: &Scorer| -> Vec<Option<bool>> {
        let segment = |history| scorer.predict(history, now).segment;
        log.iter().map(|history| segment(history).given().unwrap().noise).collect()
    };
    let n_flagged =
        |scorer: &Scorer| flags(scorer).iter().filter(|flag| **flag == Some(true)).count();
    let scorer = Scorer::new(train(&log, &settings, now).unwrap().version).unwrap();
    // The 0.05 quantile lies between the 30th and the 31st of 600, unless several are as dense.
    assert!((25..=30).contains(&n_flagged(&scorer)), "{}", n_flagged(&scorer));
    assert!(flags(&scorer).iter().all(Option::is_some));

    let absurd = History::new(CustomerId::new("?"), vec![purchase("2021-12-30", "1000000"); 5_000]);
    let segment = scorer.predict(&absurd, now).segment;
    let segment = segment.given().unwrap();
    assert_eq!(segment.noise, Some(true));
    assert!(segment.probability.unwrap() > 0.0, "it belongs somewhere all the same");

    // At 0 the level is the least dense training customer, who is none below itself.
    settings.noise_quantile = 0.0;
    let scorer = Scorer::new(train(&log, &settings, now).unwrap().version).unwrap();
    assert_eq!(n_flagged(&scorer), 0);
    assert_eq!(scorer.predict(&absurd, now).segment.given().unwrap().noise, Some(true));

    let kmeans = trained(Family::Kmeans).version;
    assert_eq!(kmeans.segment.noise(), None);
    assert!(flags(&Scorer::new(kmeans).unwrap()).iter().all(Option::is_none));
}

#[test]
fn profiles_add_up() {
    let trained = trained(Family::GaussianMixture);
    let profiles: Vec<_> = trained.version.segment.catalogue.iter().map(|s| &s.profile).collect();
    let total: u64 = profiles.iter().map(|profile| profile.n_customers).sum();
    assert_eq!(total as usize, trained.n_customers);
    let sums = profiles.iter().fold((0.0, 0.0), |(customers, spend), profile| {
        (customers + profile.share_of_customers, spend + profile.share_of_spend)
    });
    assert!((sums.0 - 1.0).abs() < 1e-9 && (sums.1 - 1.0).abs() < 1e-9, "{sums:?}");
}

#[test]
fn a_short_log_is_bridged_and_says_so() {
    let mut settings = settings(Family::Kmeans, 3, 3);
    settings.horizon_days = 365;
    settings.heads.value = ValueBy::Hurdle;
    settings.heads.churn = ChurnBy::Logistic;
    let trained = train(&shop(400, 2), &settings, as_of("2021-12-31")).unwrap();
    let bridge = trained.version.forecast.bridge;
    assert!(trained.evaluation.bridged && bridge.bridged());
    assert!(bridge.window_days <= 183 && bridge.horizon_days == 365, "{bridge:?}");
    let windows = 365.0 / f64::from(bridge.window_days);
    let (forecast, silence) = (&trained.version.forecast, ChurnIs::Silence);
    let encoded = vec![0.0; forecast.encoder.width()];
    let raw = vec![0.0; trained.version.spec.0.len()];
    for days_since_last_purchase in [1, 60, 300] {
        let life = Lifetime {
            purchase_days: 3,
            frequency: 2,
            recency_days: 100,
            age_days: 100 + days_since_last_purchase,
            days_since_last_purchase,
            ln_gaps: 2.0 * 50f64.ln(),
            total_spend: 90.0,
            monetary_value: 30.0,
            ..Lifetime::default()
        };
        let facts =
            Facts { raw: &raw, encoded: &encoded, lifetime: &life, as_of: as_of("2021-12-31").day };
        let within = |forecast: &Forecast, days| forecast.within(&facts, silence, days);
        // Drop-out makes purchases rarer as time goes on, so both lie short of a constant hazard.
        let window = within(forecast, bridge.window_days);
        let horizon = within(forecast, 365);
        assert!(horizon.churn <= window.churn && horizon.churn > window.churn.powf(windows));
        assert!(horizon.spend >= window.spend && horizon.spend < window.spend * windows);
        let bare = Forecast { purchases: None, ..forecast.clone() };
        let horizon = within(&bare, 365);
        assert!((horizon.churn - window.churn.powf(windows)).abs() < 1e-12);
        assert!((horizon.spend - window.spend * windows).abs() < 1e-9 * horizon.spend);
    }
    let span = as_of("2020-01-20");
    let early = shop(400, 2);
    let error = train(&early, &settings, span).unwrap_err();
    assert!(matches!(error, TrainError::Clock(ClockError::LogTooShort { .. })), "{error:?}");
}

#[test]
fn seasons_are_found_where_there_are_any() {
    let now = as_of("2022-12-30");
    let mut settings = settings(Family::Kmeans, 2, 2);
    settings.horizon_days = 90;
    settings.heads.purchases = vec![PurchaseFamily::MbgNbd];
    let seasonal = train(&seasonal_shop(3_000, 0.6), &settings, now).unwrap();
    let trials: Vec<(&str, bool)> =
        seasonal.evaluation.purchases.iter().map(|t| (t.family.as_str(), t.chosen)).collect();
    assert_eq!(trials, [("mbg_nbd", false), ("mbg_nbd, with seasons", true)]);
    let season = seasonal.version.forecast.purchases.unwrap().season.unwrap();
    let [june, december] = [season.by_month[5], season.by_month[11]];
    assert!((0.3..0.6).contains(&june) && (1.4..1.7).contains(&december), "{season:?}");
    let ratio = |index: usize| {
        seasonal.evaluation.purchases[index].holdout.as_ref().unwrap().total_ratio.unwrap()
    };
    // The window after c3 is the busiest of the year.
    assert!(ratio(0) < 0.75 && (0.9..1.1).contains(&ratio(1)), "{} {}", ratio(0), ratio(1));

    // Where there are none, they are left out or nearly 1; under a year they are left out, and said.
    let even = train(&seasonal_shop(3_000, 0.0), &settings, now).unwrap();
    let head = even.version.forecast.purchases.unwrap();
    let factors = head.season.map_or([1.0; 12], |season| season.by_month);
    assert!(factors.iter().all(|factor| (factor - 1.0).abs() < 0.15), "{factors:?}");
    let early = train(&seasonal_shop(3_000, 0.6), &settings, as_of("2021-06-30")).unwrap();
    let head = early.version.forecast.purchases.unwrap();
    assert!(head.season.is_none());
    assert!(head.diagnostics.notes.iter().any(|note| note.contains("a full year")));
}

#[test]
fn covariates_tell_customers_apart_who_bought_alike() {
    let log = two_channels(4_000);
    let now = as_of("2021-12-30");
    let mut settings = settings(Family::Kmeans, 2, 2);
    settings.horizon_days = 90;
    settings.heads.purchases = vec![PurchaseFamily::MbgNbd];
    let channel = r#"{"name": "channel", "aggregate": "one_hot", "attribute": "channel"}"#;
    settings.spec.0.push(serde_json::from_str(channel).unwrap());
    settings.heads.covariates = vec!["channel".to_owned()];
    let trained = train(&log, &settings, now).unwrap();
    let chosen: Vec<&str> = (trained.evaluation.purchases.iter())
        .filter(|trial| trial.chosen)
        .map(|trial| trial.family.as_str())
        .collect();
    assert_eq!(chosen, ["mbg_nbd, with covariates"]);
    let head = trained.version.forecast.purchases.as_ref().unwrap();
    let model = &head.covariates.as_ref().unwrap().model;
    assert_eq!(model.names, ["channel=store", "channel=web"]);
    // Three times as often; a ridge shares the difference among the two columns.
    let difference = model.rate[1] - model.rate[0];
    assert!((difference - 3f64.ln()).abs() < 0.15, "{model:?}");

    // Two who did the same, once each, and came by different channels.
    let event = purchase("2021-06-01", "20.00");
    let scorer = Scorer::new(trained.version.clone()).unwrap();
    let expected = |of: &str| {
        let attributes = log.iter().find(|h| h.customer().as_str().starts_with(of)).unwrap();
        let history = History::new(CustomerId::new("x"), vec![event.clone()])
            .with_attributes(attributes.attributes().cloned());
        scorer.predict(&history, now).value.given().unwrap().expected_purchases.unwrap()
    };
    assert!(expected("store") != expected("web"));
    let json = json(&trained.version);
    assert_eq!(serde_json::from_str::<ModelVersion>(&json).unwrap(), trained.version);
}

#[test]
fn a_model_of_purchases_is_tracked_week_by_week() {
    let settings = settings(Family::Kmeans, 2, 2);
    let log = seasonal_shop(2_000, 0.0);
    let trained = train(&log, &settings, as_of("2022-12-30")).unwrap();
    let tracking = trained.evaluation.tracking.unwrap();
    assert_eq!(tracking.fitted_at, trained.evaluation.clock.fit);
    let days = |history: &History| {
        let mut days: Vec<_> = history.events().iter().map(|event| event.day).collect();
        days.dedup();
        days.len().saturating_sub(1)
    };
    let repeats: usize = log.iter().map(days).sum();
    let sums = tracking.weeks.iter().fold((0.0, 0.0), |(actual, expected), week| {
        (actual + week.actual, expected + week.expected)
    });
    assert_eq!(sums.0, repeats as f64);
    // The shop is drawn from a model of this kind.
    assert!((sums.1 / sums.0 - 1.0).abs() < 0.1, "{sums:?}");
    let customers: f64 = tracking.frequencies.iter().map(|count| count.actual).sum();
    let expected: f64 = tracking.frequencies.iter().map(|count| count.expected).sum();
    assert!((customers - expected).abs() < 1e-6 * customers, "{customers} {expected}");
    let asked: u64 = tracking.conditional.iter().map(|mean| mean.n_customers).sum();
    assert_eq!(asked as f64, customers);
    let grid = &tracking.p_alive;
    assert_eq!(grid.p_alive.len(), grid.frequencies.len());
    for row in &grid.p_alive {
        assert_eq!(row.len(), grid.days_since_last.len());
        let told: Vec<f64> = row.iter().flatten().copied().collect();
        assert!(told.iter().all(|p| (0.0..=1.0).contains(p)), "{told:?}");
        assert!(told.is_sorted_by(|a, b| a >= b), "the longer the silence, the likelier gone");
    }
}

#[test]
fn degenerate_logs_get_a_defined_answer_or_a_named_error() {
    let now = as_of("2021-12-31");
    let mut settings = settings(Family::Kmeans, 3, 5);
    settings.small_below = 0;
    let refused = |log: &[History]| train(log, &settings, now).unwrap_err();
    assert!(matches!(refused(&[]), TrainError::NoEvents { .. }));
    let one = vec![History::new(CustomerId::new("a"), vec![purchase("2020-01-01", "1")])];
    assert_eq!(refused(&one), TrainError::TooManyClusters { k: 3, customers: 1 });
    let twins: Vec<History> = (0..50)
        .map(|id| History::new(CustomerId::new(&id.to_string()), vec![purchase("2020-01-01", "1")]))
        .collect();
    assert_eq!(refused(&twins), TrainError::TooManyClusters { k: 3, customers: 1 });
}

#[test]
fn a_shop_of_one_time_buyers_falls_back_to_the_baselines_visibly() {
    let log: Vec<History> = (0..200)
        .map(|id| {
            let time = format!("2020-{:02}-{:02}", 1 + id % 12, 1 + id % 28);
            let event = purchase(&time, &format!("{}.00", 1 + id % 50));
            History::new(CustomerId::new(&id.to_string()), vec![event])
        })
        .collect();
    let settings = settings(Family::Kmeans, 3, 3);
    let version = train(&log, &settings, as_of("2021-12-31")).unwrap().version;
    assert!(matches!(version.forecast.value.model, ValueModel::NaiveRate(_)));
    assert!(matches!(version.forecast.churn.model, ChurnModel::BaseRate(_)));
    let reason = &version.forecast.churn.replaced.as_ref().unwrap().reason;
    assert!(reason.contains("same label"), "{reason}");
    let answer = Scorer::new(version).unwrap().predict(&log[0], as_of("2021-12-31"));
    assert_eq!(answer.value.given().unwrap().ltv, 0.0);
    assert!(answer.churn.given().unwrap().probability > 0.9);
}

#[test]
fn statuses_say_why_there_is_no_number() {
    let mut settings = settings(Family::Kmeans, 3, 3);
    settings.eligibility.min_age_days = 30;
    settings.eligibility.lost_after_days = Some(300);
    let version = train(&shop(400, 2), &settings, as_of("2021-12-31")).unwrap().version;
    let scorer = Scorer::new(version).unwrap();
    let ask = |time: &str, date: &str| {
        scorer.predict(&History::new(CustomerId::new("a"), vec![purchase(time, "5")]), as_of(date))
    };
    let unknown = scorer.predict(&History::new(CustomerId::new("?"), vec![]), as_of("2021-12-31"));
    assert_eq!(unknown.segment, Answer::Abstained(Abstention::NoHistory));
    assert_eq!(unknown.newest_event, None);
    assert_eq!(ask("2021-12-01", "2021-12-30").churn, Answer::Abstained(Abstention::TooNew));
    assert!(ask("2021-12-01", "2021-12-31").churn.given().is_some());
    let lost = ask("2020-06-01", "2021-12-31");
    assert_eq!(lost.churn, Answer::Abstained(Abstention::AlreadyLost));
    assert!(lost.segment.given().is_some() && lost.value.given().is_some());
}

#[test]
fn parts_that_do_not_fit_are_refused_before_they_answer() {
    let good = regressed(settings(Family::Kmeans, 2, 4), &shop(600, 1)).version;
    let spoil = |change: fn(&mut ModelVersion)| {
        let mut version = good.clone();
        change(&mut version);
        Scorer::new(version).unwrap_err()
    };
    assert_eq!(spoil(|v| v.format = 99), ScorerError::Format { found: 99 });
    for error in [
        spoil(|v| drop(v.segment.catalogue.pop())),
        spoil(|v| drop(spoiled_clusters(v).encoder.columns.pop())),
        spoil(|v| drop(v.spec.0.remove(0))),
        spoil(|v| drop(v.forecast.encoder.columns.pop())),
    ] {
        assert!(matches!(error, ScorerError::Mismatch { .. }), "{error:?}");
    }
    assert_eq!(rules(), good.rules);
}

#[test]
fn how_customer_ids_are_spelled_changes_no_number() {
    let log = shop(600, 1);
    let mut renamed: Vec<History> = log
        .iter()
        .rev()
        .enumerate()
        .map(|(id, history)| {
            History::new(CustomerId::new(&format!("k{id:05}")), history.events().to_vec())
        })
        .collect();
    renamed.sort_by(|a, b| a.customer().cmp(b.customer()));
    let settings = settings(Family::Kmeans, 3, 3);
    let [a, b] =
        [log, renamed].map(|log| train(&log, &settings, as_of("2021-12-31")).unwrap().evaluation);
    for (a, b) in a.value.iter().zip(&b.value) {
        assert_eq!(a.chosen, b.chosen);
        let (a, b) = (a.holdout.as_ref().unwrap(), b.holdout.as_ref().unwrap());
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs();
        assert!(close(a.normalised_gini.unwrap(), b.normalised_gini.unwrap()), "{a:?} {b:?}");
        assert!(close(a.interval_coverage, b.interval_coverage), "{a:?} {b:?}");
    }
}

#[test]
fn one_misdated_row_does_not_stretch_the_clock() {
    let mut log = shop(600, 1);
    log.insert(0, History::new(CustomerId::new("a"), vec![purchase("1970-01-01", "5.00")]));
    let mut settings = settings(Family::Kmeans, 3, 3);
    settings.horizon_days = 365;
    let clock = train(&log, &settings, as_of("2021-12-31")).unwrap().evaluation.clock;
    assert!(clock.fit >= as_of("2020-01-01").day && clock.bridged(), "{clock:?}");
}

#[test]
fn heads_that_answer_nobody_lost_are_not_measured_on_the_lost() {
    let mut settings = settings(Family::Kmeans, 3, 3);
    let measured = |settings: &_| {
        let trained = train(&shop(600, 1), settings, as_of("2021-12-31")).unwrap();
        let churn = trained.evaluation.churn[0].holdout.as_ref().unwrap().n_customers;
        (churn, trained.evaluation.value[0].holdout.as_ref().unwrap().n_customers)
    };
    let (churn, value) = measured(&settings);
    assert_eq!(churn, value);
    settings.eligibility.lost_after_days = Some(100);
    let (fewer, same) = measured(&settings);
    assert!(fewer < churn && same == value, "{fewer} {churn} {same} {value}");
    settings.eligibility.min_age_days = 100_000;
    let error = train(&shop(600, 1), &settings, as_of("2021-12-31")).unwrap_err();
    assert!(matches!(error, TrainError::NobodyAt { .. }), "{error:?}");
}

#[test]
fn a_last_fit_without_buyers_serves_the_baseline_with_its_own_scale() {
    // Everybody stops in time: the windows after c1 and c2 see purchases, the one after c3 none.
    let stop = as_of("2021-10-15");
    let log: Vec<History> = shop(600, 1)
        .iter()
        .map(|history| History::new(history.customer().clone(), history.until(stop).into_owned()))
        .collect();
    let trained = regressed(settings(Family::Kmeans, 3, 3), &log);
    let value = &trained.version.forecast.value;
    assert!(matches!(value.model, ValueModel::NaiveRate(_)));
    assert!(value.replaced.as_ref().unwrap().reason.contains("last fit"), "{:?}", value.replaced);
    let chosen: Vec<&str> = trained
        .evaluation
        .value
        .iter()
        .filter(|trial| trial.chosen)
        .map(|trial| trial.family.as_str())
        .collect();
    assert_eq!(chosen, ["naive_rate"]);
    assert!(matches!(trained.version.forecast.churn.model, ChurnModel::BaseRate(_)));
}

#[test]
fn coverage_is_told_by_segment() {
    let trained = train(&shop(900, 1), &settings(Family::Kmeans, 3, 3), as_of("2021-12-31"));
    let trained = trained.unwrap();
    let coverage = trained.evaluation.interval_coverage.unwrap();
    let chosen = trained.evaluation.value.iter().find(|trial| trial.chosen).unwrap();
    assert_eq!(chosen.family, "blend");
    let holdout = chosen.holdout.as_ref().unwrap();
    assert_eq!((coverage.level, coverage.all.n_customers), (0.9, holdout.n_customers));
    assert_eq!(coverage.all.spend, Some(holdout.interval_coverage));
    let catalogue: Vec<_> = trained.version.segment.catalogue.iter().map(|s| &s.id).collect();
    let segments: Vec<_> = coverage.segments.iter().map(|row| &row.segment).collect();
    assert_eq!(segments, catalogue);
    // The parts make the whole.
    let weighted = |share: fn(&Held) -> Option<f64>| -> f64 {
        let held = coverage.segments.iter().map(|row| row.held);
        held.map(|held| held.n_customers as f64 * share(&held).unwrap_or(0.0)).sum()
    };
    let n = coverage.all.n_customers as f64;
    assert!(coverage.segments.iter().all(|row| row.held.n_customers >= 30), "{coverage:?}");
    assert!((weighted(|held| held.spend) - n * coverage.all.spend.unwrap()).abs() < 1e-6);
    let purchases = coverage.all.purchases.unwrap();
    assert!((weighted(|held| held.purchases) - n * purchases).abs() < 1e-6);
    assert!((0.8..=1.0).contains(&purchases), "{purchases}");

    // The share of a few would say nothing, and without a blend purchases have no interval.
    let few = train(&shop(60, 1), &settings(Family::Kmeans, 3, 3), as_of("2021-12-31")).unwrap();
    let coverage = few.evaluation.interval_coverage.unwrap();
    let small = coverage.segments.iter().filter(|row| row.held.n_customers < 30);
    assert!(small.clone().count() > 0 && small.clone().all(|row| row.held.spend.is_none()));
    assert!(coverage.all.n_customers >= 30 && coverage.all.spend.is_some());
    assert_eq!(coverage.all.purchases, None);
}
