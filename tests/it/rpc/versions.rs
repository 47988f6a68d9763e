//! Questions to a version other than the served one.

use super::running::{Running, ask, assert_refused, loaded};
use crate::support::{CONFIG, Run, trained};
use habitus::registry::Registry;
use habitus::rpc::pb;
use habitus_engine::scoring::Scorer;
use std::path::Path;
use tonic::Code;

/// Copies the served version into a registry of its own, beside others that the test adds.
fn registry() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (trained().models_dir.join("shop"), directory.path().join("shop"));
    for inner in [trained().version.as_str(), "aliases"] {
        std::fs::create_dir_all(to.join(inner)).unwrap();
        for file in std::fs::read_dir(from.join(inner)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(inner).join(file.file_name())).unwrap();
        }
    }
    directory
}

/// Trains another version of the shop there, and returns its name.
fn add(models: &Path, config: &str) -> String {
    let file = models.join("other.toml");
    std::fs::write(&file, config).unwrap();
    let report = Run::new("train")
        .path("--config", &file)
        .path("--events", &trained().orders)
        .path("--models", models)
        .json();
    report["version"].as_str().unwrap().to_owned()
}

fn ask_version(version: &str) -> pb::GetPredictionRequest {
    pb::GetPredictionRequest { version: Some(version.to_owned()), ..ask("c001") }
}

#[tokio::test]
async fn another_version_under_the_same_rules_answers_by_its_name() {
    let directory = registry();
    let version = add(directory.path(), &CONFIG.replace("horizon_days = 60", "horizon_days = 30"));
    let server = Running::over(directory.path()).await;
    let answer = server.predictions().get_prediction(ask_version(&version)).await.unwrap();
    let prediction = answer.into_inner().prediction.unwrap();
    assert_eq!(prediction.model_version, version);
    let artefact = Registry::open(directory.path()).load("shop", &version).unwrap();
    let history = trained().histories.iter().find(|h| h.customer().as_str() == "c001").unwrap();
    let want = Scorer::new(artefact.version).unwrap().predict(history, trained().as_of);
    let (churn, wanted) = (prediction.churn.unwrap(), want.churn.given().unwrap());
    assert_eq!(churn.horizon_days, 30);
    assert_eq!(churn.probability.unwrap().to_bits(), wanted.probability.to_bits());
    let served = server.predictions().get_prediction(ask_version("production")).await.unwrap();
    assert_eq!(served.into_inner().prediction.unwrap().model_version, loaded().version());
}

#[tokio::test]
async fn a_version_that_reads_logs_by_other_rules_is_refused() {
    let directory = registry();
    let version = add(directory.path(), &format!("[data]\nzone = 'Asia/Tokyo'\n{CONFIG}"));
    let server = Running::over(directory.path()).await;
    let refused = server.predictions().get_prediction(ask_version(&version)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "EVENT_RULES_DIFFER", None);
    assert!(refused.message().contains("data.zone"), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_version_is_data_loss_and_the_served_one_goes_on() {
    let directory = registry();
    let version = add(directory.path(), &CONFIG.replace("k = 3", "k = 4"));
    let path = directory.path().join("shop").join(&version).join("parameters.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let server = Running::over(directory.path()).await;
    let refused = server.predictions().get_prediction(ask_version(&version)).await.unwrap_err();
    assert_refused(&refused, Code::DataLoss, "DAMAGED_ARTEFACT", None);
    assert!(server.predictions().get_prediction(ask("c001")).await.is_ok());
}
