//! `score` and `features` as files.

use crate::support::{CONFIG, Run, order_lines, trained, write_log};
use habitus::registry::Registry;
use habitus_engine::scoring::Scorer;
use serde_json::Value;
use std::path::Path;

const COLUMNS: &str = "customer_id,segment_status,value_status,churn_status,segment_id,segment_name,\
    segment_probability,segment_noise,tier,rfm,churn_probability,churn_percentile,expected_purchases,\
    purchases_low,purchases_high,ltv,\
    ltv_low,ltv_high,p_alive,horizon_days,as_of,model_version";

fn score(out: &Path) -> Value {
    let shop = trained();
    Run::new("score")
        .path("--events", &shop.orders)
        .path("--models", &shop.models_dir)
        .path("--out", out)
        .json()
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_customer_gets_the_scorers_answer_to_the_bit() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("scores.ndjson");
    let summary = score(&out);
    let rows = rows(&out);
    assert_eq!(rows.len(), shop.histories.len());
    assert_eq!(summary["customers"], 300);
    assert_eq!(summary["heads"]["churn"]["OK"], 300);
    let artefact = Registry::open(&shop.models_dir).load(&shop.name, &shop.version).unwrap();
    let scorer = Scorer::new(artefact.version).unwrap();
    for (row, history) in rows.iter().zip(&shop.histories) {
        let want = scorer.predict(history, shop.as_of);
        assert_eq!(row["customer_id"], history.customer().as_str());
        assert_eq!(row["segment_id"], want.segment.given().unwrap().id.0.as_str());
        let bits = |name: &str| row[name].as_f64().unwrap().to_bits();
        let (value, churn) = (want.value.given().unwrap(), want.churn.given().unwrap());
        assert_eq!(bits("ltv"), value.ltv.to_bits());
        assert_eq!(bits("ltv_low"), value.ltv_low.to_bits());
        assert_eq!(bits("ltv_high"), value.ltv_high.to_bits());
        assert_eq!(bits("churn_probability"), churn.probability.to_bits());
        assert_eq!(bits("churn_percentile"), churn.percentile.to_bits());
        assert_eq!(row["segment_noise"].as_bool(), want.segment.given().unwrap().noise);
        assert_eq!(bits("expected_purchases"), value.expected_purchases.unwrap().to_bits());
        assert_eq!(bits("p_alive"), churn.p_alive.unwrap().to_bits());
        assert_eq!(row["model_version"], shop.version.as_str());
    }
    let n_noise = rows.iter().filter(|row| row["segment_noise"] == true).count();
    assert!((1..=3).contains(&n_noise), "a hundredth of 300 customers, fewer at ties: {n_noise}");
}

#[test]
fn the_columns_are_the_contracts_and_formats_agree() {
    let directory = tempfile::tempdir().unwrap();
    let [csv, ndjson, parquet] =
        ["csv", "ndjson", "parquet"].map(|kind| directory.path().join(format!("scores.{kind}")));
    score(&csv);
    score(&ndjson);
    score(&parquet);
    let text = std::fs::read_to_string(&csv).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), COLUMNS);
    let mut reader = csv::Reader::from_path(&csv).unwrap();
    for (record, row) in reader.records().zip(rows(&ndjson)) {
        let record = record.unwrap();
        for (name, cell) in COLUMNS.split(',').zip(record.iter()) {
            match &row[name] {
                Value::Null => assert_eq!(cell, ""),
                Value::String(text) => assert_eq!(cell, text),
                Value::Bool(flag) => assert_eq!(cell, flag.to_string(), "{name}"),
                number => {
                    assert_eq!(cell.parse::<f64>().unwrap(), number.as_f64().unwrap(), "{name}")
                }
            }
        }
    }
    assert!(std::fs::metadata(&parquet).unwrap().len() > 1_000);
}

#[test]
fn customers_who_only_come_later_leave_no_trace() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let score = |log: &Path, name: &str| {
        let out = directory.path().join(name);
        let summary = Run::new("score")
            .path("--events", log)
            .path("--models", &shop.models_dir)
            .arg("--as-of")
            .arg("2020-01-20")
            .path("--out", &out)
            .json();
        (summary["customers"].as_u64().unwrap(), std::fs::read(&out).unwrap())
    };
    let whole = score(&shop.orders, "whole.csv");
    assert!(whole.0 > 0 && whole.0 < 300, "{}", whole.0);
    let early: Vec<String> = order_lines()
        .into_iter()
        .filter(|line| line.split(',').nth(1) <= Some("2020-01-20"))
        .collect();
    let log = directory.path().join("early.csv");
    write_log(&log, &early);
    assert_eq!(score(&log, "early-scores.csv"), whole);
}

#[test]
fn a_head_that_abstains_has_a_status_and_no_number() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let (config, models) = (directory.path().join("h.toml"), directory.path().join("models"));
    let eligibility = "horizon_days = 60\nmin_age_days = 40\nlost_after_days = 200";
    std::fs::write(&config, CONFIG.replace("horizon_days = 60", eligibility)).unwrap();
    Run::new("train")
        .path("--config", &config)
        .path("--events", &shop.orders)
        .path("--models", &models)
        .json();
    let out = directory.path().join("scores.ndjson");
    let score = Run::new("score").path("--events", &shop.orders).path("--models", &models);
    let heads = score.arg("--as-of").arg("2021-03-31").path("--out", &out).json()["heads"].clone();
    assert!(heads["churn"]["ALREADY_LOST"].as_u64().unwrap() > 0, "{heads}");
    for row in rows(&out) {
        let lost = row["churn_status"] == "ALREADY_LOST";
        assert_eq!(row["churn_probability"].is_null(), row["churn_status"] != "OK");
        assert_eq!(row["ltv"].is_null(), row["value_status"] != "OK");
        assert!(!lost || row["value_status"] == "OK", "the lost keep their value: {row}");
    }
}

#[test]
fn features_are_written_before_transforms_with_null_for_the_undefined() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("features.ndjson");
    Run::new("features")
        .path("--config", &shop.config)
        .path("--events", &shop.orders)
        .arg("--as-of")
        .arg("2021-12-31")
        .path("--out", &out)
        .json();
    let rows = rows(&out);
    assert_eq!(rows.len(), 300);
    for row in &rows {
        let days = row["purchase_days"].as_f64().unwrap();
        assert!(days >= 1.0 && days.fract() == 0.0, "{row}");
        assert_eq!(row["gap_mean"].is_null(), days < 2.0, "{row}");
        assert_eq!(row["gap_variation"].is_null(), days < 3.0, "{row}");
    }
    assert!(rows.iter().any(|row| row["gap_mean"].is_null()), "the shop has one-time buyers");
}

#[test]
fn a_configuration_that_contradicts_the_version_is_refused() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("other.toml");
    std::fs::write(&config, "[data]\nzone = 'Asia/Tokyo'\n").unwrap();
    let out = directory.path().join("scores.csv");
    Run::new("score")
        .path("--events", &shop.orders)
        .path("--models", &shop.models_dir)
        .path("--config", &config)
        .path("--out", &out)
        .fails(2, &["data.zone", "Asia/Tokyo", "UTC"]);
    assert!(!out.exists());
}
