//! The same input gives the same bits.

use crate::support::{CONFIG, Run, order_lines, trained, write_log};
use std::path::Path;

/// Trains the shop with some lines, and returns the digest.
fn digest(directory: &Path, name: &str, lines: &[String], extra: &[&str]) -> String {
    let (log, config) = (directory.join(format!("{name}.csv")), directory.join("habitus.toml"));
    write_log(&log, lines);
    std::fs::write(&config, CONFIG).unwrap();
    let mut run = Run::new("train")
        .path("--config", &config)
        .path("--events", &log)
        .path("--models", &directory.join(name));
    for arg in extra {
        run = run.arg(arg);
    }
    run.json()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn two_runs_one_and_two_threads_and_shuffled_rows_give_one_digest() {
    let directory = tempfile::tempdir().unwrap();
    let lines = order_lines();
    let mut shuffled = lines.clone();
    shuffled.reverse();
    shuffled.rotate_left(lines.len() / 3);
    assert_ne!(shuffled, lines);
    let run =
        |name: &str, lines: &[String], extra: &[&str]| digest(directory.path(), name, lines, extra);
    let first = run("a", &lines, &["--threads", "1"]);
    assert_eq!(first, run("b", &lines, &["--threads", "1"]));
    assert_eq!(first, run("c", &lines, &["--threads", "2"]));
    assert_eq!(first, run("d", &shuffled, &["--threads", "2"]));
    assert_ne!(first, run("e", &lines[1..], &[]));
    assert_ne!(first, run("f", &lines, &["--seed", "43"]));
}

#[test]
fn rows_after_the_as_of_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let lines = order_lines();
    let before: Vec<String> =
        lines.iter().filter(|line| line.split(',').nth(1) <= Some("2021-06-30")).cloned().collect();
    assert!(before.len() < lines.len());
    let cut = ["--as-of", "2021-06-30"];
    let whole = digest(directory.path(), "whole", &lines, &cut);
    assert_eq!(whole, digest(directory.path(), "before", &before, &cut));
    let mut dirty = lines.clone();
    dirty.push("c001,2021-07-01,not money".to_owned());
    assert_eq!(whole, digest(directory.path(), "dirty", &dirty, &cut));
}

#[test]
fn training_to_an_equal_digest_returns_the_version_that_exists() {
    let shop = trained();
    let again = Run::new("train")
        .path("--config", &shop.config)
        .path("--events", &shop.orders)
        .path("--models", &shop.models_dir)
        .json();
    assert_eq!(again["version"], shop.version.as_str());
    assert_eq!(again["created"], false);
}

#[test]
fn a_version_holds_no_customer_rows() {
    let directory = tempfile::tempdir().unwrap();
    let mut lines = order_lines();
    lines.push("c001-secret,someday,5".to_owned());
    let _ = digest(directory.path(), "models", &lines, &[]);
    let mut files = 0;
    for version in std::fs::read_dir(directory.path().join("models/shop")).unwrap() {
        for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains("c001"), "a version holds no customer: {text}");
            files += 1;
        }
    }
    assert!(files >= 6, "manifest, parameters, metrics, report, alias and its history");
}

#[test]
fn rows_whose_time_is_unknown_do_not_change_the_digest() {
    let directory = tempfile::tempdir().unwrap();
    let lines = order_lines();
    let mut torn = lines.clone();
    torn.push("c001,2021-01-0".to_owned());
    let [clean, torn] = [("clean", lines), ("torn", torn)]
        .map(|(name, lines)| digest(directory.path(), name, &lines, &[]));
    assert_eq!(clean, torn);
}

#[test]
fn the_manifest_accounts_for_the_log_and_the_report_stands_beside_it() {
    let shop = trained();
    let shown = Run::new("models").arg("show").path("--models", &shop.models_dir).json();
    let rows = &shown["manifest"]["sealed"]["rows"];
    assert_eq!(rows["accepted"], order_lines().len());
    assert_eq!(shown["manifest"]["sealed"]["n_customers"], 300);
    let directory = shop.models_dir.join("shop").join(&shop.version);
    let report = std::fs::read_to_string(directory.join("report.md")).unwrap();
    for heading in ["## Segments", "## Heads", "## Rows"] {
        assert!(report.contains(heading), "{report}");
    }
    for plot in ["tracking-weekly", "repeat-purchases", "conditional-expectations", "p-alive"] {
        assert!(report.contains(&format!("({plot}.svg)")), "{report}");
        let svg = std::fs::read_to_string(directory.join(format!("{plot}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }
    let metrics = std::fs::read_to_string(directory.join("metrics.json")).unwrap();
    assert!(metrics.contains("\"normalised_gini\"") && metrics.contains("\"brier\""));
}
