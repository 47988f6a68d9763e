//! The shipped example and the demo, as a newcomer meets them.

use crate::support::{Run, get};
use habitus::registry::{PRODUCTION, Registry};
use habitus::rpc::ask;
use habitus_engine::scoring::Scorer;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_shipped_version_is_whole_and_can_answer() {
    let registry = Registry::open(&root().join("models"));
    let artefact = registry.load("example", PRODUCTION).unwrap();
    assert_eq!(artefact.manifest.sealed.n_customers, 2_357);
    assert_eq!(artefact.manifest.sealed.rows.accepted, 6_919);
    let scorer = Scorer::new(artefact.version).unwrap();
    assert!(scorer.version().segment.catalogue.len() > 1);
}

#[test]
fn a_bare_serve_answers_for_the_example_and_ends_on_sigterm() {
    let mut server = Run::new("serve")
        .arg("--metrics")
        .arg("127.0.0.1:0")
        .path("--models", &root().join("models"))
        .listening();
    assert_eq!(server.announced["customers"], 2_357);
    let address = server.address();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(ask(address, "1")).unwrap().prediction.unwrap();
    assert_eq!(answer.model, "example");
    assert!(answer.churn.unwrap().probability.is_some());
    let metrics = server.announced["metrics"].as_str().unwrap().parse().unwrap();
    let (status, page) = get(metrics, "/metrics");
    assert!(status.ends_with("200 OK"), "{status}");
    assert!(page.contains("\nhabitus_customers 2357\n"), "{page}");

    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success(), "SIGTERM is a normal end");
}

#[test]
fn the_demo_goes_all_the_way() {
    let document = Run::new("demo").arg("--exit").json();
    assert!(document["segments"].as_array().unwrap().len() > 1);
    let churn = document["answer"]["churn_probability"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&churn));
    assert!(document["answer"]["ltv_low"].as_f64() <= document["answer"]["ltv_high"].as_f64());
    for (head, baseline) in [("churn", "recency"), ("value", "naive_rate")] {
        let trials = document["evaluation"][head].as_array().unwrap();
        assert!(trials.iter().any(|trial| trial["family"] == baseline), "{head}");
    }
}

#[test]
fn a_blend_is_not_called_bridged() {
    let directory = tempfile::tempdir().unwrap();
    let printed = |by: Option<&str>| {
        let train = Run::new("train")
            .path("--config", &root().join("examples/cdnow/habitus.toml"))
            .path("--events", &root().join("examples/cdnow/orders.csv"))
            .path("--models", directory.path())
            .arg("--horizon-days")
            .arg("180");
        let train = match by {
            Some(churn) => train.env("HABITUS_HEADS__CHURN", churn),
            None => train,
        };
        let output = train.output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let blend = printed(None);
    assert!(blend.contains("after; the blend is asked about the horizon of 180 days itself"));
    let mixed = printed(Some("logistic"));
    assert!(mixed.contains("after; churn is bridged to the horizon of 180 days, and the blend"));
}

#[test]
fn the_examples_log_is_what_its_configuration_reads() {
    let directory = tempfile::tempdir().unwrap();
    let example = |file: &str| Path::new("examples/cdnow").join(file);
    let out = directory.path().join("features.csv");
    let report = Run::new("features")
        .path("--config", &root().join(example("habitus.toml")))
        .path("--events", &root().join(example("orders.csv")))
        .arg("--as-of")
        .arg("1997-09-30")
        .path("--out", &out)
        .json();
    assert_eq!(report["customers"], 2_357);
    assert_eq!(report["rows"]["counts"]["rejected"].as_object().unwrap().len(), 0);
    assert!(report["rows"]["counts"]["after_as_of"].as_u64().unwrap() > 0);
}

#[test]
fn the_documents_speak_of_the_version_that_ships() {
    let registry = Registry::open(&root().join("models"));
    let shipped = registry.resolve("example", PRODUCTION).unwrap();
    let mut told = 0;
    for file in ["README.md", "docs/artifact.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for (at, _) in text.match_indices("1998-06-30-") {
            assert!(
                text[at..].starts_with(&shipped),
                "{file} names another version than {shipped}"
            );
            told += 1;
        }
    }
    assert!(told > 0);
}
