//! The file that `score` writes and the server say the same, to the bit.

use super::running::{Running, ask};
use super::versions::{add, registry};
use crate::support::{CONFIG, Run, trained};
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

#[tokio::test]
async fn inactivity_is_the_same_in_a_file_and_over_the_wire() {
    let models = registry();
    let churn = "horizon_days = 60\nchurn = 'inactivity'\ninactive_days = 40\n";
    let config = CONFIG.replace("horizon_days = 60\n", churn);
    let version = add(models.path(), &config);
    let out = models.path().join("scores.ndjson");
    Run::new("score")
        .path("--events", &trained().orders)
        .path("--models", models.path())
        .arg("--model")
        .arg(format!("shop@{version}"))
        .path("--out", &out)
        .json();
    let server = Running::over(models.path()).await;
    let mut client = server.predictions();
    let (mut lost, mut given) = (0, 0);
    for line in std::fs::read_to_string(&out).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let question = ask(row["customer_id"].as_str().unwrap());
        let question = pb::GetPredictionRequest { version: Some(version.clone()), ..question };
        let answer = client.get_prediction(question).await.unwrap().into_inner();
        let prediction = answer.prediction.unwrap();
        same(&row, &prediction);
        let status = prediction.churn.unwrap().status();
        let is_lost = row["churn_status"] == "ALREADY_LOST";
        assert_eq!(status == pb::HeadStatus::AlreadyLost, is_lost, "{row}");
        lost += u32::from(is_lost);
        given += u32::from(status == pb::HeadStatus::Ok);
    }
    assert!(lost > 20 && given > 20, "{lost} {given}");
    let request = pb::GetModelVersionRequest { name: None, version: Some(version) };
    let described = server.models().get_model_version(request).await.unwrap().into_inner();
    let described = described.version.unwrap();
    assert_eq!(described.churn_meaning(), pb::ChurnMeaning::Inactivity);
    assert_eq!(described.inactive_days, Some(40));
    let request = pb::GetModelVersionRequest { name: None, version: None };
    let served = server.models().get_model_version(request).await.unwrap().into_inner();
    let served = served.version.unwrap();
    assert_eq!(served.churn_meaning(), pb::ChurnMeaning::Silence);
    assert_eq!(served.inactive_days, None);
}
