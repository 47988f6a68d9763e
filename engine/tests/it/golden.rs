//! Numbers that scikit-learn, numpy and pandas gave (see `../golden/README.md`).

use crate::support::{purchase, rules};
use habitus_engine::domain::{CustomerId, History, Lifetime, Seed};
use habitus_engine::features::{Aggregate, Feature, FeatureSpec, Measure, Plan, Window, lifetime};
use habitus_engine::matrix::ScaledMatrix;
use habitus_engine::models::Estimator;
use habitus_engine::models::linear::{ElasticNetParams, Labelled, LogisticParams};
use habitus_engine::training::{
    auc, brier, decile_mape, ece, interval_score, log_loss, mean_absolute_error, normalised_gini,
    root_mean_squared_error, spearman, top_decile_capture, total_ratio,
};
use ndarray::{Array1, Array2};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A golden file.
pub fn read(file: &str) -> Value {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One of its values.
pub fn get<T: for<'de> Deserialize<'de>>(value: &Value, key: &str) -> T {
    serde_json::from_value(value[key].clone()).unwrap_or_else(|error| panic!("{key}: {error}"))
}

pub fn near(got: f64, want: f64, relative: f64, what: &str) {
    assert!((got - want).abs() <= relative * want.abs().max(1e-3), "{what}: {got} is not {want}");
}

pub fn scaled(rows: &[Vec<f64>]) -> ScaledMatrix {
    ScaledMatrix::new(rows[0].len(), rows.iter().flatten().map(|&value| value as f32).collect())
}

fn wide(rows: &[Vec<f64>]) -> Array2<f64> {
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(row, column)| rows[row][column])
}

#[test]
fn metrics_agree() {
    let file = read("metrics.json");
    for case in file["cases"].as_array().unwrap() {
        let outcomes: Vec<bool> =
            get::<Vec<u8>>(case, "outcome").into_iter().map(|outcome| outcome == 1).collect();
        let probabilities: Vec<f64> = get(case, "probability");
        let (spend, value): (Vec<f64>, Vec<f64>) = (get(case, "spend"), get(case, "value"));
        let (low, high): (Vec<f64>, Vec<f64>) = (get(case, "low"), get(case, "high"));
        let level: f64 = get(&file, "interval_level");
        let mean =
            |of: &dyn Fn(usize) -> f64| (0..spend.len()).map(of).sum::<f64>() / spend.len() as f64;
        let holds = |row: usize| f64::from((low[row]..=high[row]).contains(&spend[row]));
        for (name, got) in [
            ("auc", auc(&outcomes, &probabilities)),
            ("brier", Some(brier(&outcomes, &probabilities))),
            ("log_loss", Some(log_loss(&outcomes, &probabilities))),
            ("ece", Some(ece(&outcomes, &probabilities))),
            ("normalised_gini", normalised_gini(&spend, &value)),
            ("total_ratio", total_ratio(&spend, &value)),
            ("mae", Some(mean_absolute_error(&spend, &value))),
            ("rmse", Some(root_mean_squared_error(&spend, &value))),
            ("spearman", spearman(&spend, &value)),
            ("top_decile_capture", top_decile_capture(&spend, &value)),
            ("decile_mape", decile_mape(&spend, &value)),
            (
                "interval_score",
                Some(mean(&|row| interval_score(spend[row], low[row], high[row], level))),
            ),
            ("interval_coverage", Some(mean(&holds))),
        ] {
            match (got, get::<Option<f64>>(&case["expected"], name)) {
                (Some(got), Some(want)) => near(got, want, 1e-12, name),
                (got, want) => assert_eq!(got, want, "{name}"),
            }
        }
    }
}

#[test]
fn metrics_of_one_outcome_are_undefined_not_invented() {
    assert_eq!(auc(&[true, true], &[0.1, 0.9]), None);
    assert_eq!(normalised_gini(&[0.0, 0.0], &[1.0, 2.0]), None);
    assert_eq!(total_ratio(&[0.0], &[1.0]), None);
    assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    assert_eq!(decile_mape(&[0.0; 20], &[1.0; 20]), None);
    assert_eq!(top_decile_capture(&[0.0; 20], &[1.0; 20]), None);
    assert_eq!(top_decile_capture(&[1.0; 9], &[1.0; 9]), None);
}

#[test]
fn logistic_regression_agrees() {
    let file = read("logistic.json");
    let rows = wide(&get::<Vec<Vec<f64>>>(&file, "x"));
    let targets: Array1<bool> = get::<Vec<u8>>(&file, "y").into_iter().map(|y| y == 1).collect();
    let params = LogisticParams { alpha: 1.0 / get::<f64>(&file, "c"), max_iter: 1000 };
    let fit = params.fit(&Labelled { rows: rows.clone(), targets }, Seed(1)).unwrap();
    assert!(fit.diagnostics.converged);
    near(fit.model.intercept, get(&file, "intercept"), 1e-4, "intercept");
    for (got, want) in fit.model.coefficients.iter().zip(get::<Vec<f64>>(&file, "coef")) {
        near(*got, want, 1e-4, "coefficient");
    }
    let expected: Vec<f64> = get(&file, "probabilities_first_10");
    for (row, want) in rows.outer_iter().zip(expected) {
        near(fit.model.probability(row), want, 1e-4, "probability");
    }
}

#[test]
fn elastic_net_agrees_on_columns_that_are_not_centred() {
    let file = read("elastic_net.json");
    let params = ElasticNetParams {
        alpha: get(&file, "alpha"),
        l1_ratio: get(&file, "l1_ratio"),
        max_iter: 100_000,
        tol: 1e-12,
    };
    let input = Labelled {
        rows: wide(&get::<Vec<Vec<f64>>>(&file, "x")),
        targets: Array1::from_vec(get(&file, "y")),
    };
    let fit = params.fit(&input, Seed(1)).unwrap();
    assert!(fit.diagnostics.converged);
    near(fit.model.intercept, get(&file, "intercept"), 1e-6, "intercept");
    for (got, want) in fit.model.coefficients.iter().zip(get::<Vec<f64>>(&file, "coef")) {
        near(*got, want, 1e-6, "coefficient");
    }
}

#[test]
fn features_and_lifetimes_agree() {
    let file = read("features.json");
    let mut logs: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (customer, time, cents) in get::<Vec<(String, String, i64)>>(&file, "orders") {
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        logs.entry(customer).or_default().push(purchase(&time, &amount));
    }
    let (names, spec) = golden_spec();
    let plan = Plan::compile(&spec, &rules()).unwrap();
    for answer in file["answers"].as_array().unwrap() {
        let as_of = crate::support::as_of(answer["as_of"].as_str().unwrap());
        let customers: BTreeMap<String, Value> = get(answer, "customers");
        for (id, events) in &logs {
            let history = History::new(CustomerId::new(id), events.clone());
            let summary = lifetime(&history, as_of, &rules().currency);
            let Some(expected) = customers.get(id) else {
                assert_eq!(summary, None, "{id} has no order by {}", as_of.day);
                continue;
            };
            let mut row = vec![0.0; names.len()];
            plan.evaluate(&history, as_of, &mut row);
            for ((name, per_unit), got) in names.iter().zip(row) {
                match expected[*name].as_f64() {
                    Some(want) => near(got * per_unit, want, 1e-12, name),
                    None => assert!(got.is_nan(), "{id} {name}: {got} should be undefined"),
                }
            }
            check_lifetime(&summary.unwrap(), expected);
        }
    }
}

fn check_lifetime(summary: &Lifetime, expected: &Value) {
    for (name, got) in [
        ("frequency", f64::from(summary.frequency)),
        ("recency_days", f64::from(summary.recency_days)),
        ("age_days", f64::from(summary.age_days)),
        ("monetary_value_cents", summary.monetary_value * 100.0),
    ] {
        near(got, expected[name].as_f64().unwrap(), 1e-12, name);
    }
}

/// The golden file's aggregates as a spec, with how many of the file's units one of ours is.
fn golden_spec() -> (Vec<(&'static str, f64)>, FeatureSpec) {
    use Aggregate::*;
    use Measure::{Amount, Events};
    let days = Window::Days;
    let list = [
        ("count", 1.0, Count, Events, Window::All, None),
        ("sum_cents", 100.0, Sum, Amount, Window::All, None),
        ("mean_cents", 100.0, Mean, Amount, Window::All, None),
        ("max_cents", 100.0, Max, Amount, Window::All, None),
        ("std_cents", 100.0, Std, Amount, Window::All, None),
        ("days_since_last", 1.0, DaysSinceLast, Events, Window::All, None),
        ("days_since_first", 1.0, DaysSinceFirst, Events, Window::All, None),
        ("gap_mean_days", 1.0, GapMean, Events, Window::All, None),
        ("gap_variation", 1.0, GapVariation, Events, Window::All, None),
        ("count_30", 1.0, Count, Events, days(30), None),
        ("count_90", 1.0, Count, Events, days(90), None),
        ("sum_90_cents", 100.0, Sum, Amount, days(90), None),
        ("ratio_count_90_all", 1.0, Ratio, Events, days(90), Some(Window::All)),
        ("ratio_count_30_90", 1.0, Ratio, Events, days(30), Some(days(90))),
    ];
    let names = list.iter().map(|entry| (entry.0, entry.1)).collect();
    let features = list.into_iter().map(|(name, _, aggregate, of, window, over)| Feature {
        of,
        window,
        over,
        transform: Vec::new(),
        ..Feature::named(name, aggregate)
    });
    (names, FeatureSpec(features.collect()))
}
