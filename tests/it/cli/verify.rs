//! `verify`: a version is what its log gives, or the part that is not is named.

use crate::support::{Run, order_lines, trained, write_log};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn verify(models: &Path, events: &Path) -> Run {
    Run::new("verify").path("--models", models).path("--events", events)
}

/// The shop's registry in a place of its own, to be tampered with.
fn copied() -> (tempfile::TempDir, PathBuf) {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("shop");
    for inner in [shop.version.as_str(), "aliases"] {
        std::fs::create_dir_all(to.join(inner)).unwrap();
        for file in std::fs::read_dir(shop.models_dir.join("shop").join(inner)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(inner).join(file.file_name())).unwrap();
        }
    }
    let version = to.join(&shop.version);
    (directory, version)
}

#[test]
fn the_shipped_example_is_what_its_log_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = verify(&root.join("models"), &root.join("examples/cdnow/orders.csv"))
        .arg("--model")
        .arg("example")
        .json();
    assert_eq!(report["equal"], true, "{report}");
}

#[test]
fn an_edited_parameter_is_named() {
    let (models, version) = copied();
    let path = version.join("parameters.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut parameters: Value = serde_json::from_str(&text).unwrap();
    let scale = parameters["forecast"]["value"]["scale"].as_f64().unwrap();
    parameters["forecast"]["value"]["scale"] = (scale * 1.5).into();
    std::fs::write(&path, serde_json::to_vec_pretty(&parameters).unwrap()).unwrap();
    let run = verify(models.path(), &trained().orders);
    run.fails(1, &["forecast.value.scale", "differs"]);
}

#[test]
fn an_edited_manifest_and_another_log_are_named() {
    let (models, version) = copied();
    let path = version.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"n_customers\": 300", "\"n_customers\": 301", 1))
        .unwrap();
    verify(models.path(), &trained().orders).fails(1, &["n_customers"]);

    let log = models.path().join("less.csv");
    write_log(&log, &order_lines()[1..]);
    verify(&trained().models_dir, &log).fails(1, &["fingerprint"]);
}

#[test]
fn rows_after_the_as_of_do_not_matter_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("more.csv");
    let mut lines = order_lines();
    lines.push("c001,2022-03-01,12.00".to_owned());
    write_log(&log, &lines);
    let report = verify(&trained().models_dir, &log).json();
    assert_eq!(report["equal"], true, "{report}");
}
