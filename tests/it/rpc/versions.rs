//! Versions other than the served one: questions to them, and the aliases that point at them.

use super::running::{Running, ask, assert_refused, instant, loaded};
use crate::support::{CONFIG, Run, trained};
use habitus::registry::Registry;
use habitus::rpc::pb;
use habitus_engine::scoring::Scorer;
use std::path::Path;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// Copies the served version into a registry of its own, beside others that the test adds.
pub fn registry() -> tempfile::TempDir {
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

/// Trains another version of the shop there, and returns its name. Nobody judges it.
pub fn add(models: &Path, config: &str) -> String {
    add_after(models, config, "none")
}

/// The same after an incumbent, against which the gate judges it.
fn add_after(models: &Path, config: &str, incumbent: &str) -> String {
    let file = models.join("other.toml");
    std::fs::write(&file, config).unwrap();
    let report = Run::new("train")
        .path("--config", &file)
        .path("--events", &trained().orders)
        .path("--models", models)
        .arg("--incumbent")
        .arg(incumbent)
        .json();
    report["version"].as_str().unwrap().to_owned()
}

fn ask_version(version: &str) -> pb::GetPredictionRequest {
    pb::GetPredictionRequest { version: Some(version.to_owned()), ..ask("c001") }
}

pub async fn set(
    server: &Running,
    alias: &str,
    version: &str,
    force: bool,
) -> Result<pb::SetAliasResponse, Status> {
    let (alias, version) = (alias.to_owned(), version.to_owned());
    let request = pb::SetAliasRequest { name: None, alias, version, force };
    server.models().set_alias(request).await.map(Response::into_inner)
}

async fn roll_back(server: &Running, alias: &str) -> Result<pb::RollBackResponse, Status> {
    let request = pb::RollBackRequest { name: None, alias: Some(alias.to_owned()) };
    server.models().roll_back(request).await.map(Response::into_inner)
}

/// The version that answers where a request names this version, alias or nothing.
pub async fn answering(server: &Running, version: &str) -> String {
    let answer = server.predictions().get_prediction(ask_version(version)).await.unwrap();
    answer.into_inner().prediction.unwrap().model_version
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
    let refused = set(&server, "production", &version, true).await.unwrap_err();
    assert_refused(&refused, Code::DataLoss, "DAMAGED_ARTEFACT", None);
    assert!(server.predictions().get_prediction(ask("c001")).await.is_ok());
}

#[tokio::test]
async fn an_alias_that_is_set_answers_at_once() {
    let directory = registry();
    let version = add(directory.path(), &CONFIG.replace("horizon_days = 60", "horizon_days = 30"));
    let server = Running::over(directory.path()).await;
    let answer = set(&server, "canary", &version, false).await.unwrap();
    assert!(!answer.request_id.is_empty());
    let expected = pb::SetAliasResponse {
        name: "shop".to_owned(),
        alias: "canary".to_owned(),
        version: version.clone(),
        served_version: Some(trained().version.clone()),
        request_id: answer.request_id.clone(),
    };
    assert_eq!(answer, expected);
    assert_eq!(answering(&server, "canary").await, version);

    let moved = set(&server, "canary", "production", false).await.unwrap();
    assert_eq!(moved.version, trained().version);
    assert_eq!(answering(&server, "canary").await, trained().version);
    assert_eq!(roll_back(&server, "canary").await.unwrap().version, version);
    assert_eq!(answering(&server, "canary").await, version);
    let refused = roll_back(&server, "canary").await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", None);
}

#[tokio::test]
async fn production_goes_through_the_gate_unless_forced_and_can_be_rolled_back() {
    let directory = registry();
    let version = add(directory.path(), &CONFIG.replace("k = 3", "k = 4"));
    let server = Running::over(directory.path()).await;
    let refused = set(&server, "production", &version, false).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "GATE_REFUSED", None);
    assert!(refused.message().contains("never judged"), "{refused:?}");
    let metadata = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["version"], version);
    assert!(metadata["gate_reason"].contains(&trained().version), "{metadata:?}");
    assert_eq!(answering(&server, "production").await, trained().version);

    let forced = set(&server, "production", &version, true).await.unwrap();
    assert_eq!(forced.version, version);
    assert_eq!(forced.served_version.as_deref(), Some(trained().version.as_str()));
    assert_eq!(answering(&server, "production").await, version);
    // This server is pinned.
    assert_eq!(answering(&server, "").await, trained().version);
    let history = directory.path().join("shop").join("aliases").join("history.ndjson");
    assert!(std::fs::read_to_string(history).unwrap().contains("never judged"));

    let back = roll_back(&server, "").await.unwrap();
    assert_eq!((back.name.as_str(), back.alias.as_str()), ("shop", "production"));
    assert_eq!(back.version, trained().version);
    assert_eq!(back.served_version.as_deref(), Some(trained().version.as_str()));
    assert_eq!(answering(&server, "production").await, trained().version);
    let refused = roll_back(&server, "production").await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", None);
}

#[tokio::test]
async fn a_version_tells_its_descent_and_what_the_gate_says() {
    let directory = registry();
    let config = CONFIG.replace("horizon_days = 60", "horizon_days = 30");
    let version = add_after(directory.path(), &config, "production");
    let server = Running::over(directory.path()).await;
    let request = pb::GetModelVersionRequest { name: None, version: Some(version.clone()) };
    let told = server.models().get_model_version(request).await.unwrap().into_inner();
    let incumbent = trained().version.as_str();
    assert_eq!(told.version.unwrap().incumbent_version.as_deref(), Some(incumbent));

    let registry = Registry::open(directory.path());
    let expected = registry.load("shop", &version).unwrap().version.segment.lineage.unwrap();
    let lineage = told.lineage.unwrap();
    assert_eq!(lineage.incumbent_version, incumbent);
    assert_eq!(
        [lineage.n_common, lineage.moved_by_model, lineage.moved_by_index],
        [expected.n_common, expected.moved_by_model, expected.moved_by_index]
    );
    assert_eq!(
        [lineage.n_remained, lineage.moved_by_customer],
        [expected.n_remained, expected.moved_by_customer]
    );
    assert_eq!(lineage.records.len(), expected.records.len());
    assert!(!lineage.records.is_empty());
    assert!(lineage.records.iter().all(|record| !record.segment_id.is_empty()));

    // Nothing has happened since the incumbent was trained.
    let expected = registry.verdict("shop", &version).unwrap().unwrap();
    let gate = told.gate.unwrap();
    assert_eq!(gate.judged_at, Some(instant(expected.at)));
    assert_eq!((gate.incumbent_version.as_str(), gate.window_days), (incumbent, 0));
    assert_eq!(gate.outcome(), pb::GateOutcome::Undecided);
    assert_eq!(gate.reasons, expected.verdict.reasons);
    assert_eq!(gate.comparisons.len(), expected.verdict.comparisons.len());
    let refused = set(&server, "production", &version, false).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "GATE_REFUSED", None);
    assert!(refused.message().contains("undecided"), "{refused:?}");
}

#[tokio::test]
async fn aliases_that_cannot_be_set_are_refused() {
    let directory = registry();
    let server = Running::over(directory.path()).await;
    let version = trained().version.as_str();
    let (bad_alias, alias) = ("BAD_ALIAS", Some("alias"));
    for bad in ["..", "a/b", "Canary", "history.ndjson", version] {
        let refused = set(&server, bad, version, true).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, bad_alias, alias);
        let refused = roll_back(&server, bad).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, bad_alias, alias);
    }
    let refused = set(&server, "", version, true).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, bad_alias, alias);
    let refused = set(&server, "canary", "", false).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "EMPTY_VERSION", Some("version"));
    for alias in ["canary", "production"] {
        let refused = set(&server, alias, "1970-01-01-000000000000", true).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, "UNKNOWN_VERSION", None);
    }

    for name in ["none", "..", "a/b"] {
        let (name, alias) = (Some(name.to_owned()), "canary".to_owned());
        let request = pb::RollBackRequest { name: name.clone(), alias: None };
        let refused = server.models().roll_back(request).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, "UNKNOWN_MODEL", None);
        let version = version.to_owned();
        let request = pb::SetAliasRequest { name, alias, version, force: false };
        let refused = server.models().set_alias(request).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, "UNKNOWN_MODEL", None);
    }
    assert_eq!(answering(&server, "production").await, version);
}
