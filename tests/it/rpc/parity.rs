//! The file that `score` writes and the server say the same, to the bit.

use super::running::{Running, ask};
use crate::support::{Run, trained};
use habitus::rpc::pb;
use serde_json::Value;

fn bits(value: &Value) -> Option<u64> {
    value.as_f64().map(f64::to_bits)
}

fn same(row: &Value, prediction: &pb::Prediction) {
    let segment = prediction.segment.as_ref().unwrap();
    let value = prediction.value.as_ref().unwrap();
    let churn = prediction.churn.as_ref().unwrap();
    assert_eq!(row["segment_id"], segment.segment_id.as_str());
    assert_eq!(row["segment_name"], segment.segment_name.as_str());
    assert_eq!(row["tier"], segment.tier.as_str());
    assert_eq!(row["rfm"], segment.rfm.as_str());
    assert_eq!(row["segment_noise"].as_bool(), segment.noise);
    assert_eq!(row["model_version"], prediction.model_version.as_str());
    assert_eq!(row["horizon_days"], churn.horizon_days);
    for (name, answer) in [
        ("segment_probability", segment.probability),
        ("churn_probability", churn.probability),
        ("churn_percentile", churn.percentile),
        ("ltv", value.ltv),
        ("ltv_low", value.ltv_low),
        ("ltv_high", value.ltv_high),
        ("expected_purchases", value.expected_purchases),
        ("purchases_low", value.purchases_low),
        ("purchases_high", value.purchases_high),
        ("p_alive", churn.p_alive),
    ] {
        assert_eq!(bits(&row[name]), answer.map(f64::to_bits), "{name} of {}", row["customer_id"]);
    }
}

#[tokio::test]
async fn score_equals_get_prediction_to_the_bit() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("scores.ndjson");
    Run::new("score")
        .path("--events", &shop.orders)
        .path("--models", &shop.models_dir)
        .path("--out", &out)
        .json();
    let server = Running::start().await;
    let mut client = server.predictions();
    let text = std::fs::read_to_string(&out).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let customer = row["customer_id"].as_str().unwrap();
        let answer = client.get_prediction(ask(customer)).await.unwrap().into_inner();
        same(&row, answer.prediction.as_ref().unwrap());
    }
    assert_eq!(text.lines().count(), shop.histories.len());
}
